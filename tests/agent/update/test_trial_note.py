"""Whom a device is blamed on that does nothing after a new start."""

from pathlib import Path

import pytest

from edge_agent.core.config import UpdateConfig
from edge_agent.update.components.trial import Trial
from edge_agent.update.probation import Ruling


@pytest.mark.parametrize(("known", "ruling"), [(True, Ruling.COMMIT), (False, Ruling.ROLL_BACK)])
def test_only_a_device_that_was_idle_for_long_before_is_not_blamed_on_what_came(
    tmp_path: Path, known: bool, ruling: Ruling
) -> None:
    """A trial that begins in the first second of a start finds nothing inferred yet: that says nothing about the device."""
    trial = Trial(
        idle=lambda: "nothing is inferred",
        connected=lambda: True,
        config=UpdateConfig(settle_s=1.0),
        note=tmp_path / "note",
        known=lambda: known,
    )
    trial.begin()
    assert trial.judge(60.0).ruling is ruling

import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.app import fetching, updating
from edge_agent.app.fetching import Fetchers
from edge_agent.core.config import AgentConfig, UpdateConfig
from edge_agent.update.overlay import Overlay
from edge_agent.update.record import Component
from edge_agent.update.slots import Slots
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import FakeRunner


class Noted:
    """In a fetcher's place: what it was made with."""

    def __init__(self, connect: object, **made_with: Any) -> None:
        self.made_with, self.owed_bytes = made_with, 0

    def room(self, folder: Path) -> int:
        return int(self.made_with["free_bytes"](folder))


def test_what_one_is_promised_is_not_promised_to_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "Fetcher", Noted)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    fetchers = Fetchers(lambda: None, UpdateConfig())  # type: ignore[arg-type, return-value]
    model: Any = fetchers.new(lambda manifest: "")
    challenger: Any = fetchers.new(lambda manifest: "", kept_bytes=lambda: 100)
    assert (model.room(tmp_path), challenger.room(tmp_path)) == (1000, 900)
    model.owed_bytes, challenger.owed_bytes = 300, 40
    assert (model.room(tmp_path), challenger.room(tmp_path)) == (960, 600)
    assert model.made_with["decoding"] is challenger.made_with["decoding"]  # one delta in memory at a time


def test_a_reserve_that_no_disk_has_keeps_no_configuration_out_that_would_mend_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetching, "Fetcher", Noted)
    config = AgentConfig(data_dir=tmp_path, update=UpdateConfig(disk_reserve_bytes=1 << 60))
    given = updating.Given(
        config=config,
        config_path=None,
        overlay=Overlay(tmp_path),
        slots=Slots(tmp_path / "models"),
        runner=FakeRunner(),
        perceiver=None,  # type: ignore[arg-type]  # nothing is asked of it here
        clock=ManualClock(),
        fetchers=Fetchers(lambda: None, config.update),  # type: ignore[arg-type, return-value]
        connected=lambda: True,
        changed=lambda: None,
        tell=lambda happening: None,
        again=lambda effect: None,
        turn=threading.Lock(),
    )
    made: dict[Component, Any] = {each.component: each for each in updating._installers(given)}
    model, sent = (made[component]._fetcher.made_with for component in (Component.MODEL, Component.CONFIG))
    assert (model["reserve_bytes"], sent["reserve_bytes"]) == (1 << 60, 0)

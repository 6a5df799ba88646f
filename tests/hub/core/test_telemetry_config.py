"""What cannot be meant is refused when the configuration is read, by its key."""

from typing import Any

import pytest

from cloud_hub.core.config import TelemetryConfig
from edge_agent.core.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file_readings", 0),
        ("keep_raw_days", 0),
        ("keep_rollup_days", 89),
        ("query_concurrent", 0),
        ("query_spill_mb", 0),
        ("compact_after_s", -1.0),
        ("compact_every_s", 0.0),
        ("query_timeout_s", 0.0),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_by_its_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        TelemetryConfig(**{key: value})

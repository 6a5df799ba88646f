"""Times as tables write them."""

import math
from datetime import UTC, datetime

from cloud_hub.app.hubctl.failure import refused

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_EPOCH_FROM_S, _EPOCH_TO_S = 946_684_800.0, 7_258_118_400.0  # 2000..2200: a number outside counts from somewhere else


class Clock:
    """
    Args:
        unit: of numbers.
        format: of ``datetime.strptime``; empty: ISO 8601. Times without a zone are UTC.
    """

    def __init__(self, unit: str = "s", format: str = "") -> None:
        if unit not in UNITS:
            raise refused(f"--time-unit must be one of {', '.join(UNITS)}, got {unit!r}")
        self._unit = UNITS[unit]
        self._format = format

    def seconds(self, text: str) -> float:
        """Since 1970, or since wherever numbers count from. Raises ValueError."""
        if not self._format:
            try:
                number = float(text) * self._unit
            except ValueError:
                pass
            else:
                if not math.isfinite(number):
                    raise ValueError(f"{text[:40]!r} is no time")
                return number
        at = datetime.strptime(text, self._format) if self._format else datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def to_ms(seconds: float) -> int:
    """0 for what is no time since 1970."""
    return round(seconds * 1000) if _EPOCH_FROM_S <= seconds <= _EPOCH_TO_S else 0

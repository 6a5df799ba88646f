"""Times on the wire: milliseconds since the Unix epoch, 0 for none."""

from datetime import datetime

from protos.contract.telemetry import from_ms, to_ms


def opt_to_ms(at: datetime | None) -> int:
    return to_ms(at) if at else 0


def opt_from_ms(ms: int) -> datetime | None:
    return from_ms(ms) if ms else None

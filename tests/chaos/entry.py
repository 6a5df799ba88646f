"""``edge-agent`` or ``cloud-hub`` as they are, but for a clock that jumps when told to.

    python -m tests.chaos.entry agent|hub [--forget-on-puback] ARGUMENTS...

The wall clock of the process is off by as many seconds as the file named by CHAOS_CLOCK says. With ``--forget-on-puback`` the
agent is broken on purpose: it forgets a batch when the broker has it, instead of when the hub has stored it. A check that finds
nothing wrong with that one proves nothing.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_agent.core import clock

PROGRAMS = {"agent": "edge_agent", "hub": "cloud_hub"}


def shifted(file: Path) -> Any:
    def now(_self: clock.SystemClock) -> datetime:
        try:
            offset_s = float(file.read_text() or 0)
        except (OSError, ValueError):
            offset_s = 0.0
        return datetime.now(UTC) + timedelta(seconds=offset_s)

    return now


def forget_on_puback() -> None:
    """Every batch that is handed to the broker is deleted from the spool when its PUBACK comes."""
    from edge_agent.sync.mqtt import MqttLink
    from edge_agent.sync.uplink import Uplink
    from protos.contract.codec import decode_batch
    from protos.contract.telemetry import Mark

    note, acknowledged, make = MqttLink._note, MqttLink._published, Uplink.__init__
    waiting: dict[int, Mark] = {}
    uplinks: list[Uplink] = []

    def noted(self: MqttLink, mid: int, topic: str, payload: bytes) -> int:
        if "/telemetry/" in topic:
            batch = decode_batch(payload)
            waiting[mid] = Mark(epoch=batch.epoch, lane=batch.lane, committed_through=batch.last_sequence)
        return note(self, mid, topic, payload)

    def published(self: MqttLink, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        acknowledged(self, client, data, mid, reason, properties)
        if mid in waiting:
            uplinks[-1]._watermark((waiting.pop(mid),))

    def made(self: Uplink, *args: Any, **kwargs: Any) -> None:
        uplinks.append(self)
        make(self, *args, **kwargs)

    MqttLink._note = noted  # type: ignore[method-assign]
    MqttLink._published = published  # type: ignore[method-assign, assignment]
    Uplink.__init__ = made  # type: ignore[method-assign]


def main() -> None:
    which, arguments = sys.argv[1], sys.argv[2:]
    if file := os.environ.get("CHAOS_CLOCK"):
        clock.SystemClock.now = shifted(Path(file))  # type: ignore[method-assign]
    if "--forget-on-puback" in arguments:
        arguments.remove("--forget-on-puback")
        forget_on_puback()
    sys.argv = [which, *arguments]
    sys.exit(import_module(f"{PROGRAMS[which]}.app.cli").main())


if __name__ == "__main__":
    main()

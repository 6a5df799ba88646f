"""What the agent says about itself: to the hub as a reported twin, to people as ``status.json``."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.app.keep import Keeper
from edge_agent.app.latest import latest
from edge_agent.app.perceive import Perceiver
from edge_agent.app.thermal import Thermometer
from edge_agent.core.clock import Clock
from edge_agent.core.ports import Captures, CertificateStats, Spool, SpoolStats, StreamStats, UplinkStats
from edge_agent.infer import jail
from edge_agent.update.engine import UpdateEngine
from protos.contract.twin import Health, ModelAssignment, PackageAssignment, ReportedTwin, ShadowReport

STATUS_FILE = "status.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Self:
    """What does not change while the process runs."""

    boot_id: str  # of this start of the agent
    agent_version: str
    runtimes: tuple[str, ...]
    started_at: datetime
    data_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who the device is to the hub, and how the link to it is; everything empty while it is not enrolled."""

    device_id: str = ""
    tenant: str = ""
    board: str = ""
    broker_connected: bool = False
    certificate: CertificateStats = field(default_factory=CertificateStats)


class Reporter:
    """Collects from all parts; for any thread."""

    def __init__(
        self,
        me: Self,
        *,
        perceiver: Perceiver,
        keeper: Keeper,
        engine: UpdateEngine,
        spool: Spool,
        captures: Captures,
        clock: Clock,
        spool_limit_bytes: int = 0,
        uplink: Callable[[], UplinkStats] = UplinkStats,
        unreadable: Callable[[], int] = lambda: 0,
        streams: Callable[[], StreamStats] = StreamStats,
        shadow: Callable[[], ShadowReport | None] = lambda: None,
    ) -> None:
        """``unreadable``: frames that the source could not read."""
        self._streams, self._shadow = streams, shadow
        self._me, self._perceiver, self._keeper, self._engine = me, perceiver, keeper, engine
        self._spool, self._captures, self._clock = spool, captures, clock
        self._spool_limit_bytes, self._uplink, self._unreadable = spool_limit_bytes, uplink, unreadable
        self._thermometer = Thermometer(clock)

    def health(self) -> Health:
        spool, total = self._spool.stats(), self._perceiver.total
        disk = shutil.disk_usage(self._me.data_dir)
        active = self._perceiver.active
        p50, p95 = (active.meter if active is not None else total).latency_ms()
        return Health(
            started_at=self._me.started_at,
            rss_bytes=_rss_bytes(),
            disk_free_bytes=disk.free,
            disk_total_bytes=disk.total,
            spool_records=spool.records,
            spool_bytes=spool.bytes,
            spool_limit_bytes=self._spool_limit_bytes,
            dropped_records=spool.dropped,
            inferences=total.inferences,
            inference_errors=total.errors,
            captures_pending=self._captures.count(),
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            temperature_c=self._thermometer.celsius(),
        )

    def uplink(self) -> UplinkStats:
        return self._uplink()

    def streams(self) -> StreamStats:
        return self._streams()

    def twin(self, board: str) -> ReportedTwin:
        standing = self._engine.standing
        return ReportedTwin(
            generation=standing.generation,
            boot_id=self._me.boot_id,
            agent_version=self._me.agent_version,
            board=board,
            at=self._clock.now(),
            health=self.health(),
            runtimes=self._me.runtimes,
            model=standing.running,
            update=standing.update,
            packages=standing.packages,
            package_updates=standing.package_updates,
            held=self._spool.held(),
            shadow=self._shadow(),
        )

    def write_status(self, state: str, membership: Membership, note: str) -> None:
        """Put all of it into ``status.json``. Raises OSError."""
        twin = self.twin(membership.board)
        update = twin.update
        values = {
            "at": twin.at.isoformat(timespec="milliseconds"),
            "state": state,
            "note": note,
            "pid": os.getpid(),
            "agent_version": twin.agent_version,
            "boot_id": twin.boot_id,
            "device": membership.device_id,
            "tenant": membership.tenant,
            "board": membership.board,
            "broker_connected": membership.broker_connected,
            "certificate": _certificate(membership.certificate, twin.at),
            "runtimes": list(twin.runtimes),
            "jail": {part.name: part.missing or "holds" for part in jail.standing()},
            "workers_lost": self._perceiver.workers_lost,
            "generation": twin.generation,
            "model": _model(twin.model),
            "update": None
            if update is None
            else {
                "generation": update.generation,
                "state": update.state.name.lower(),
                "model": _model(update.model),
                "attempts": update.attempts,
                "reason": update.reason,
                "at": update.at.isoformat(timespec="milliseconds"),
            },
            "packages": [_package(package) for package in twin.packages],
            "package_updates": [
                {
                    "generation": each.generation,
                    "state": each.state.name.lower(),
                    "package": _package(each.package),
                    "attempts": each.attempts,
                    "reason": each.reason,
                    "at": each.at.isoformat(timespec="milliseconds"),
                }
                for each in twin.package_updates
            ],
            "challenger": _challenger(twin.shadow),
            "health": {
                name: value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value
                for name in Health.__slots__
                for value in (getattr(twin.health, name),)
            },
            "latest": latest(self._perceiver.last),
            "frames_without_model": self._perceiver.skipped_frames,
            "unreadable_frames": self._unreadable(),
            "bad_frames": self._perceiver.bad_frames,
            "frames_not_kept": self._keeper.missed,
            "spool": _spool(self._spool.stats(), twin.at),
            "uplink": asdict(self._uplink()),
            "streams": asdict(self._streams()),
        }
        path = self._me.data_dir / STATUS_FILE
        temporary = path.with_name(f".{STATUS_FILE}.tmp")
        temporary.write_text(json.dumps(values, indent=2) + "\n")
        temporary.replace(path)  # whole for every reader, but not synced: it is not worth wearing the flash


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """What was last written, with ``running`` added; None where no agent has run with ``data_dir``."""
    try:
        values = json.loads((data_dir / STATUS_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    values["running"] = values.get("state") != "stopped" and _alive(values.get("pid"))
    return values


def _certificate(stats: CertificateStats, now: datetime) -> dict[str, Any] | None:
    if not stats.serial and not stats.problem:
        return None
    times = {"issued_at": stats.not_before, "expires_at": stats.not_after, "renews_at": stats.renew_at}
    return {
        "serial": stats.serial,
        **{name: at.isoformat(timespec="seconds") if at is not None else None for name, at in times.items()},
        "days_left": round((stats.not_after - now).total_seconds() / 86400, 2) if stats.not_after is not None else None,
        "renewals": stats.renewals,
        "problem": stats.problem,
    }


def _spool(stats: SpoolStats, now: datetime) -> dict[str, Any]:
    lanes = {
        lane.name.lower(): {
            "records": found.records,
            "bytes": found.bytes,
            "oldest_age_s": None if found.oldest_at is None else max(0.0, round((now - found.oldest_at).total_seconds(), 1)),
            "next": found.next,
            "committed": found.committed,
            "dropped": found.dropped,
            "gaps": found.gaps,
        }
        for lane, found in stats.lanes.items()
    }
    return {
        "epoch": stats.epoch,
        "resets": stats.resets,
        "file_bytes": stats.file_bytes,
        "last_commit_ms": round(stats.commit_ms, 2),
        "failing": stats.failing,
        "lanes": lanes,
    }


def _model(assignment: ModelAssignment | None) -> dict[str, Any] | None:
    if assignment is None:
        return None
    return {"name": assignment.name, "version": assignment.version, "manifest_digest": assignment.manifest_digest}


def _challenger(report: ShadowReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    named = {"model": _model(report.model), "since": report.since.isoformat(timespec="milliseconds")}
    return asdict(report) | named


def _package(package: PackageAssignment) -> dict[str, Any]:
    return {
        "kind": package.kind.name.lower(),
        "name": package.name,
        "version": package.version,
        "digest": package.digest,
    }


def _alive(pid: object) -> bool:
    try:
        command = Path(f"/proc/{int(str(pid))}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"edge" in command  # pids are used again


def _rss_bytes() -> int:
    """Of the agent and its worker; what both have mapped counts twice."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread or a worker that has just ended
            for pid in (task / "children").read_text().split():
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

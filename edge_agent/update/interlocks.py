"""What the device itself, and the hub, put between a staged update and its activation. Rolling back waits for none of it."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_agent.core.clock import Clock
from edge_agent.core.config import ParkedConfig, UpdateConfig
from edge_agent.core.errors import ConfigError
from edge_agent.update.record import Update
from edge_agent.update.surroundings import Interlock
from protos.contract.errors import ContractError
from protos.contract.twin import MaintenanceWindow
from protos.contract.windows import parse_window

POWER_SUPPLY = Path("/sys/class/power_supply")
_MAX_SIGNALS_BYTES = 64 << 10
_CHARGING = ("Charging", "Full", "Not charging")  # by the kernel's sysfs-class-power: it has a charger


def of(config: UpdateConfig, clock: Clock) -> Sequence[Interlock]:
    """Raises ConfigError: a window of the device is none."""
    found: list[Interlock] = [HubsTime(clock)]
    if config.windows:
        found.append(OwnWindows(_windows(config.windows), clock))
    if config.lock_files:
        found.append(LockFiles(config.lock_files))
    if config.min_battery_percent > 0:
        found.append(Battery(config.min_battery_percent))
    if config.parked is not None:
        found.append(Parked(config.parked))
    return found


def _windows(texts: Sequence[str]) -> tuple[MaintenanceWindow, ...]:
    try:
        return tuple(parse_window(text) for text in texts)
    except ContractError as error:
        raise ConfigError(f"'update.windows': {error}") from error


@dataclass(frozen=True, slots=True)
class HubsTime:
    """The time that the desired twin names, and its windows."""

    clock: Clock
    local: Callable[[datetime], datetime] = datetime.astimezone

    def holds_back(self, update: Update) -> str:
        now, conditions = self.clock.now(), update.conditions
        if conditions.not_before is not None and now < conditions.not_before:
            return f"waits until {conditions.not_before.isoformat(timespec='seconds')}"
        if conditions.windows and not _within(conditions.windows, now, self.local):
            return "waits for its maintenance window"
        return ""


@dataclass(frozen=True, slots=True)
class OwnWindows:
    """The device's own, from its configuration."""

    windows: tuple[MaintenanceWindow, ...]
    clock: Clock
    local: Callable[[datetime], datetime] = datetime.astimezone

    def holds_back(self, update: Update) -> str:
        return "" if _within(self.windows, self.clock.now(), self.local) else "waits for this device's update.windows"


def _within(windows: Sequence[MaintenanceWindow], now: datetime, local: Callable[[datetime], datetime]) -> bool:
    return any(window.holds(local(now) if window.local else now) for window in windows)


@dataclass(frozen=True, slots=True)
class LockFiles:
    """Somebody on the device asks not to be disturbed, for example while it records."""

    paths: tuple[Path, ...]

    def holds_back(self, update: Update) -> str:
        for path in self.paths:
            try:
                path.lstat()
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"cannot tell whether {path} is there: {error.strerror}"
            return f"waits for {path} to go"
        return ""


@dataclass(frozen=True, slots=True)
class Battery:
    """The emptiest battery of the device, unless it charges. A board without batteries has mains."""

    min_percent: int
    folder: Path = POWER_SUPPLY

    def holds_back(self, update: Update) -> str:
        try:
            supplies = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"waits: the battery cannot be read: {error.strerror}"
        for supply in supplies:
            if _word(supply / "type") != "Battery" or _word(supply / "scope") == "Device":  # of a mouse, say
                continue
            if _word(supply / "status") in _CHARGING:
                continue
            level = _word(supply / "capacity")
            if not level.isdecimal():
                return f"waits: the level of {supply.name} is not known"
            if int(level) < self.min_percent:
                return f"waits for {supply.name} to have {self.min_percent} %"
        return ""


def _word(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Parked:
    """A vehicle that stands and is known to: what is not known, or was known too long ago, is not parked."""

    config: ParkedConfig
    wall: Callable[[], float] = time.time  # of the files' times

    def holds_back(self, update: Update) -> str:
        path = self.config.path
        try:
            with path.open("rb") as file:
                written, data = path.stat().st_mtime, file.read(_MAX_SIGNALS_BYTES + 1)
            signals = json.loads(data) if len(data) <= _MAX_SIGNALS_BYTES else None
        except OSError as error:
            return f"waits: whether the vehicle is parked is not known: {error.strerror}"
        except (ValueError, RecursionError):
            signals = None
        if not isinstance(signals, dict):
            return f"waits: {path} holds no signals"
        age_s = self.wall() - written
        if not -self.config.max_age_s <= age_s <= self.config.max_age_s:
            return f"waits: {path} is not of now"
        return self._moves(signals)

    def _moves(self, signals: dict[str, object]) -> str:
        speed = signals.get(self.config.speed)
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not math.isfinite(speed):
            return f"waits: {self.config.speed} is not known"
        if abs(speed) > self.config.max_speed_kmh:
            return "waits for the vehicle to stand"
        told = [signals[name] for name in self.config.parked if name in signals]
        return "" if told and all(value is True for value in told) else "waits for the vehicle to be parked"

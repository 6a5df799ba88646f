import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.core.config import ParkedConfig, UpdateConfig
from edge_agent.core.errors import ConfigError
from edge_agent.update import interlocks
from edge_agent.update.interlocks import Battery, HubsTime, LockFiles, OwnWindows, Parked
from edge_agent.update.record import Component, Conditions, Update
from protos.contract.errors import InvalidValue
from protos.contract.update import UpdateState
from protos.contract.windows import format_window, parse_window
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import release

MIDNIGHT = datetime(2025, 1, 1, tzinfo=UTC)  # where the clock begins; a Wednesday
SPEED, LOCKED = "Vehicle.Speed", "Vehicle.Powertrain.Transmission.IsParkLockEngaged"


def update(conditions: Conditions | None = None) -> Update:
    return Update(
        component=Component.MODEL,
        generation=1,
        assignment=release(1).assignment,
        rollout_id="",
        state=UpdateState.STAGED,
        at=MIDNIGHT,
        conditions=conditions or Conditions(),
    )


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("02:00-05:00", "2025-01-01 02:00", "2025-01-01 05:00"),
        ("sat,sun 22:00-04:00", "2025-01-06 03:59", "2025-01-06 22:00"),  # the night from Sunday to Monday
        ("mon-fri 00:00-24:00", "2025-01-03 23:59", "2025-01-04 00:00"),
        ("fri-mon 10:00-11:00", "2025-01-05 10:30", "2025-01-07 10:30"),
        ("WED  9:05-9:06 UTC", "2025-01-01 09:05", "2025-01-01 09:06"),
    ],
)
def test_a_window_is_read_as_people_write_it(text: str, inside: str, outside: str) -> None:
    window = parse_window(text)
    assert window.holds(datetime.fromisoformat(inside)) and not window.holds(datetime.fromisoformat(outside))
    assert parse_window(format_window(window)) == window


@pytest.mark.parametrize(
    "text", ["", "sometimes", "25:00-26:00", "02:60-03:00", "mon-fry 01:00-02:00", "1-2", "01:00-02:00 cet"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_window(text)
    with pytest.raises(ConfigError, match=r"update\.windows"):
        interlocks.of(UpdateConfig(windows=(text,)), ManualClock())


def test_the_hubs_time_and_windows_are_waited_for() -> None:
    clock = ManualClock()
    lock = HubsTime(clock)
    assert lock.holds_back(update()) == ""
    later = update(Conditions(not_before=MIDNIGHT + timedelta(hours=1)))
    assert lock.holds_back(later) == "waits until 2025-01-01T01:00:00+00:00"
    night = update(Conditions(windows=(parse_window("02:00-03:00"),), not_before=MIDNIGHT + timedelta(hours=1)))
    clock.advance(3600)
    assert lock.holds_back(later) == "" and "window" in lock.holds_back(night)
    clock.advance(3600)
    assert lock.holds_back(night) == ""


def test_a_local_window_goes_by_the_devices_zone() -> None:
    east = timezone(timedelta(hours=3))
    lock = OwnWindows((parse_window("03:00-04:00 local"),), ManualClock(), lambda at: at.astimezone(east))
    assert lock.holds_back(update()) == ""
    assert OwnWindows((parse_window("03:00-04:00"),), ManualClock()).holds_back(update()) != ""


def test_a_lock_file_holds_back_until_it_goes(tmp_path: Path) -> None:
    lock = tmp_path / "recording"
    held = LockFiles((tmp_path / "other", lock))
    assert held.holds_back(update()) == ""
    lock.symlink_to(tmp_path / "nowhere")
    assert held.holds_back(update()) == f"waits for {lock} to go"
    lock.unlink()
    (tmp_path / "file").touch()
    assert "cannot tell" in LockFiles((tmp_path / "file" / "below",)).holds_back(update())


@pytest.mark.parametrize(
    ("supply", "words"),
    [
        ({"type": "Battery", "status": "Discharging", "capacity": "19"}, "waits for BAT0 to have 20 %"),
        ({"type": "Battery", "status": "Discharging", "capacity": "20"}, ""),
        ({"type": "Battery", "status": "Charging", "capacity": "3"}, ""),
        ({"type": "Battery", "status": "Unknown", "capacity": ""}, "waits: the level of BAT0 is not known"),
        ({"type": "Battery", "scope": "Device", "capacity": "3"}, ""),
        ({"type": "Mains", "online": "0"}, ""),
    ],
)
def test_an_empty_battery_holds_back_unless_it_charges(tmp_path: Path, supply: dict[str, str], words: str) -> None:
    folder = tmp_path / "BAT0"
    folder.mkdir()
    for name, value in supply.items():
        (folder / name).write_text(value + "\n")
    assert Battery(20, tmp_path).holds_back(update()) == words


def test_a_board_without_batteries_has_mains(tmp_path: Path) -> None:
    assert Battery(20, tmp_path / "none").holds_back(update()) == ""


@pytest.mark.parametrize(
    ("signals", "holds"),
    [
        ({SPEED: 0.0, LOCKED: True}, False),
        ({SPEED: 0.0, LOCKED: False}, True),
        ({SPEED: 12.5, LOCKED: True}, True),
        ({SPEED: -3, LOCKED: True}, True),
        ({SPEED: 0.0}, True),
        ({LOCKED: True}, True),
        ({SPEED: True, LOCKED: True}, True),
        ({SPEED: 0, LOCKED: "yes"}, True),
        (["no", "signals"], True),
        ("x" * 70_000, True),
    ],
)
def test_only_a_vehicle_known_to_be_parked_is(tmp_path: Path, signals: object, holds: bool) -> None:
    path = tmp_path / "signals.json"
    path.write_text(json.dumps(signals))
    assert bool(Parked(ParkedConfig(path=path)).holds_back(update())) is holds


def test_signals_of_another_time_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "signals.json"
    assert "is not known" in Parked(ParkedConfig(path=path)).holds_back(update())
    path.write_text(json.dumps({SPEED: 0, LOCKED: True}))
    os.utime(path, (1000.0, 1000.0))
    config = ParkedConfig(path=path, max_age_s=5.0)
    assert Parked(config, wall=lambda: 1004.0).holds_back(update()) == ""
    assert "is not of now" in Parked(config, wall=lambda: 1006.0).holds_back(update())
    assert "is not of now" in Parked(config, wall=lambda: 990.0).holds_back(update())
    path.write_bytes(b"\xff[" * 100)
    assert "holds no signals" in Parked(config, wall=lambda: path.stat().st_mtime).holds_back(update())


def test_only_what_is_configured_is_looked_at(tmp_path: Path) -> None:
    clock = ManualClock()
    assert [type(each) for each in interlocks.of(UpdateConfig(), clock)] == [HubsTime]
    everything = replace(
        UpdateConfig(),
        windows=("02:00-03:00",),
        lock_files=(tmp_path,),
        min_battery_percent=1,
        parked=ParkedConfig(path=tmp_path),
    )
    assert [type(each) for each in interlocks.of(everything, clock)] == [HubsTime, OwnWindows, LockFiles, Battery, Parked]

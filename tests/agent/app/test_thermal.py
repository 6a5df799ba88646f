"""How hot the board is, where it says so."""

from pathlib import Path

import pytest

from edge_agent.app.thermal import FRESH_S, Thermometer
from tests.agent.clocks import ManualClock


def zone(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / "temp").write_text(text)


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    zone(tmp_path, "thermal_zone0", "41500\n")
    zone(tmp_path, "thermal_zone1", "63250\n")
    zone(tmp_path, "cooling_device0", "99000\n")
    assert Thermometer(ManualClock(), tmp_path).celsius() == pytest.approx(63.25)


@pytest.mark.parametrize("text", ["", "hot", "-274000", "2147483647"])
def test_a_sensor_that_talks_nonsense_is_left_out(tmp_path: Path, text: str) -> None:
    zone(tmp_path, "thermal_zone0", text)
    assert Thermometer(ManualClock(), tmp_path).celsius() is None
    zone(tmp_path, "thermal_zone1", "20000")
    assert Thermometer(ManualClock(), tmp_path).celsius() == 20.0


def test_a_board_without_sensors_says_nothing(tmp_path: Path) -> None:
    assert Thermometer(ManualClock(), tmp_path / "none").celsius() is None


def test_sensors_are_read_again_once_the_last_reading_is_old(tmp_path: Path) -> None:
    clock = ManualClock()
    zone(tmp_path, "thermal_zone0", "20000")
    thermometer = Thermometer(clock, tmp_path)
    assert thermometer.celsius() == 20.0
    (tmp_path / "thermal_zone0" / "temp").write_text("30000")
    assert thermometer.celsius() == 20.0
    clock.advance(FRESH_S)
    assert thermometer.celsius() == 30.0

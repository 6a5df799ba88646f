from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import Mosquitto, Observer, installed


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    if not installed():
        pytest.skip("no mosquitto binary on PATH")
    made = Mosquitto(tmp_path / "broker", authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def observer(tmp_path: Path, authority: Authority, broker: Mosquitto) -> Iterator[Observer]:
    made = Observer(tmp_path / "observer", authority, broker.port)
    yield made
    made.close()

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.sync.broker import installed
from tests.conformance.agent import Agent
from tests.conformance.hub import Hub


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests: each has a device of its own."""
    if not installed():
        pytest.skip("no mosquitto binary on PATH")
    made = Hub(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Not started, not enrolled, without a model."""
    made = Agent(tmp_path / "agent")
    yield made
    made.close()

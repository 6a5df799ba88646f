"""One hub per test module; tests name their own devices, models and datasets."""

from collections.abc import Iterator

import pytest

from tests.hub.rpc.running import RunningHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    running = RunningHub(tmp_path_factory.mktemp("hub"))
    yield running
    running.close()

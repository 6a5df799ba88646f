"""Ingest on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.ingest.parts import Ingesting


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Ingesting]:
    made = Ingesting(tmp_path).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def running_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingesting]:
    """One for many tests that only count."""
    made = Ingesting(tmp_path_factory.mktemp("ingest")).start()
    yield made
    made.stop()


@pytest.fixture(params=["mosquitto", "embedded"])
def on_each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ingesting]:
    made = Ingesting(tmp_path, request.param).start()
    yield made
    made.stop()

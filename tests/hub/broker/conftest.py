"""A running broker of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.ports import Broker
from cloud_hub.trust.authority import Authority
from tests.hub.mqtt_parts import Identity


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    made = open_broker(BrokerConfig(kind=request.param, port=0), tmp_path, authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    return Identity(authority, tmp_path / "clients")

"""The life of the broker: started, killed, restarted, orphaned, missing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_hub.broker.embedded import EmbeddedBroker
from cloud_hub.broker.mosquitto import MosquittoBroker
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.ports import Broker
from cloud_hub.trust.authority import Authority
from tests.hub.mqtt_parts import wait_for

MOSQUITTO = BrokerConfig(kind="mosquitto", port=0)


def mosquitto(tmp_path: Path, authority: Authority, config: BrokerConfig = MOSQUITTO) -> MosquittoBroker:
    broker = open_broker(config, tmp_path, authority)
    assert isinstance(broker, MosquittoBroker)
    return broker


def test_it_is_alive_between_start_and_stop_only(broker: Broker) -> None:
    assert broker.alive()
    broker.stop()
    assert not broker.alive()
    broker.stop()
    broker.start()
    assert broker.alive()


def test_a_mosquitto_that_was_killed_is_started_again(tmp_path: Path, authority: Authority) -> None:
    broker = mosquitto(tmp_path, authority)
    broker.start()
    first = broker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: broker.pid not in (first, None) and broker.alive(), "restart")
    second = broker.pid
    broker.stop()
    assert not Path(f"/proc/{second}").exists()


@pytest.mark.parametrize("noted", [True, False])  # a full disk may have kept its number from being written
def test_the_mosquitto_of_a_hub_that_was_killed_is_replaced(tmp_path: Path, authority: Authority, noted: bool) -> None:
    port = open_broker(MOSQUITTO, tmp_path, authority).local.port
    config = BrokerConfig(kind="mosquitto", port=port)
    script = f"""
import os
from pathlib import Path
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig
from cloud_hub.trust.authority import Authority
folder = Path({str(tmp_path)!r})
broker = open_broker(BrokerConfig(kind="mosquitto", port={port}), folder, Authority.load(folder / "ca"))
broker.start()
os.kill(os.getpid(), 9)
"""
    hub = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert hub.returncode == -signal.SIGKILL, hub.stderr
    pid_file = tmp_path / "broker" / "mosquitto.pid"
    orphan = int(pid_file.read_text())
    assert Path(f"/proc/{orphan}").exists()
    if not noted:
        pid_file.unlink()
    broker = mosquitto(tmp_path, authority, config)
    broker.start()
    assert broker.alive()
    assert broker.pid != orphan
    broker.stop()


def test_a_stale_pid_file_harms_no_other_process(tmp_path: Path, authority: Authority) -> None:
    broker = mosquitto(tmp_path, authority)
    with subprocess.Popen(["sleep", "60"]) as innocent:
        (tmp_path / "broker" / "mosquitto.pid").write_text(str(innocent.pid))
        broker.start()
        broker.stop()
        assert innocent.poll() is None
        innocent.kill()


def test_a_port_that_is_taken_is_named(broker: Broker, tmp_path: Path, authority: Authority) -> None:
    other = tmp_path / "other"
    other.mkdir()
    kind = "embedded" if isinstance(broker, EmbeddedBroker) else "mosquitto"
    second = open_broker(BrokerConfig(kind=kind, port=broker.local.port), other, authority)
    with pytest.raises(NotReady, match=f"{broker.local.port}: Address already in use"):
        second.start()
    assert broker.alive()


def test_without_a_mosquitto_auto_takes_the_embedded_one_and_says_so(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    broker = open_broker(BrokerConfig(kind="auto", port=0, binary="no-such-broker"), tmp_path, authority)
    assert isinstance(broker, EmbeddedBroker)
    assert "development only" in caplog.text


def test_without_a_mosquitto_asking_for_it_says_what_to_do(tmp_path: Path, authority: Authority) -> None:
    broker = open_broker(BrokerConfig(kind="mosquitto", port=0, binary="no-such-broker"), tmp_path, authority)
    with pytest.raises(NotReady, match="install mosquitto"):
        broker.start()


def test_an_unknown_kind_is_refused(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(Invalid, match="rabbit"):
        open_broker(BrokerConfig(kind="rabbit"), tmp_path, authority)

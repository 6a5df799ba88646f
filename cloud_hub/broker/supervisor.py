"""Picks the broker the configuration asks for."""

import logging
import shutil
import socket
from pathlib import Path

from cloud_hub.broker.embedded import EmbeddedBroker
from cloud_hub.broker.identity import make_identity
from cloud_hub.broker.mosquitto import MosquittoBroker, end_orphans
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.errors import Invalid
from cloud_hub.core.ports import Broker
from cloud_hub.trust.authority import Authority

log = logging.getLogger(__name__)

_FOLDER = "broker"
KINDS = ("auto", "mosquitto", "embedded")


def open_broker(
    config: BrokerConfig, data_dir: Path, authority: Authority, names: tuple[str, ...] = ("localhost", "127.0.0.1")
) -> Broker:
    """A broker, not started yet, that keeps its files in ``data_dir/broker``.

    ``names`` go into its certificate; devices are told the first. Port 0 takes a free one.

    Raises:
        Invalid: unknown kind.
    """
    if config.kind not in KINDS:
        raise Invalid(f"broker.kind must be one of {', '.join(KINDS)}, got '{config.kind}'")
    folder = data_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = make_identity(authority, folder, config.host, names)
    port = config.port or _free_port(config.host)
    if config.kind == "mosquitto" or (config.kind == "auto" and shutil.which(config.binary)):
        return MosquittoBroker(config, folder, identity, authority, port=port, name=names[0])
    if config.kind == "auto":
        log.warning("no mosquitto found: using the embedded broker, which is for development only")
    return EmbeddedBroker(config, identity, port=port, name=names[0])


def end_left_over(data_dir: Path) -> None:
    """The broker of a hub that was killed: its devices would stay with it, and nobody serves them there."""
    end_orphans(data_dir / _FOLDER)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])

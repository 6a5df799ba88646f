"""What the hub's parts promise each other across packages that do not know each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where to reach the broker, and in which MQTT protocol level: 5, or 4 for 3.1.1."""

    host: str
    port: int
    protocol: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one side of a mutual TLS connection."""

    ca: Path
    certificate: Path
    key: Path


class Broker(Protocol):
    """An MQTT broker that knows its clients by certificate and keeps them to their own topics."""

    @property
    def address(self) -> BrokerAddress:
        """As devices are told."""

    @property
    def local(self) -> BrokerAddress:
        """As the hub itself reaches it."""

    @property
    def hub_tls(self) -> TlsFiles:
        """The hub's own client identity."""

    def start(self) -> None:
        """On return clients can connect. Raises NotReady naming what is missing or in the way."""

    def stop(self) -> None:
        """End it and wait for its end; safe more than once."""

    def alive(self) -> bool:
        """Whether a TLS connection can be made now."""

"""What the hub's parts promise each other across packages that do not know each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloud_hub.core.model import StreamWindow
from protos.contract.ids import DeviceId, TenantId

if TYPE_CHECKING:
    from sqlalchemy import Connection  # an open transaction


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Certificates that no longer let anybody in."""

    crl_pem: str = field(repr=False)  # the same, signed by the authority that issued them
    serials: frozenset[int]
    newly: Sequence[tuple[TenantId, DeviceId]] = ()  # whose open sessions are to end


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

    @property
    def ingest_tls(self) -> TlsFiles | None:
        """The identity with which the hub takes its share of the telemetry; None: the broker cannot share it out."""

    def start(self) -> None:
        """On return clients can connect. Raises NotReady naming what is missing or in the way."""

    def stop(self) -> None:
        """End it and wait for its end; safe more than once."""

    def alive(self) -> bool:
        """Whether a TLS connection can be made now."""

    def refuse(self, refusals: Refusals) -> None:
        """Let nobody in with one of these from now on, and end the open sessions of those newly refused.

        Before ``start`` it only takes note. A device that has a good certificate besides comes back by itself.

        Raises:
            OSError: the list could not be written, or a session not be ended; call again.
        """

    def renew(self) -> None:
        """New certificates for the broker and the hub's own clients; open connections stay. Raises OSError."""


class WindowListener(Protocol):
    """Hears of every window that is over: the hub's own and those that devices made."""

    def on_windows(self, tx: "Connection", tenant: TenantId, device: DeviceId | None, windows: Sequence[StreamWindow]) -> None:
        """Windows of one device (None: of all together), in the order in which they closed, each once.

        It is called within the transaction that folds their readings: what it writes in ``tx`` is written with them or not at
        all, and what it raises undoes them, to be folded again. So it must not wait, nor raise for what a device may say.
        """

"""The certificates of the broker and of the hub's own MQTT client, and a look whether the broker answers."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.core.errors import NotReady
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.trust.authority import Authority, Issued, ingest_name
from edge_agent.core.files import write_atomic

_ANY_ADDRESS = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerIdentity:
    server: TlsFiles
    hub: TlsFiles
    ingest: TlsFiles  # of the hub's share of the telemetry
    local_host: str  # where the hub reaches the broker; in the server certificate
    renew: Callable[[], None]  # writes the same files anew


def local_host(listen: str) -> str:
    """An address on this machine for a listener on ``listen``."""
    return "127.0.0.1" if listen in _ANY_ADDRESS else listen


def make_identity(authority: Authority, folder: Path, listen: str, names: tuple[str, ...]) -> BrokerIdentity:
    """New certificates on every start, and whenever ``renew`` is called."""
    tls = folder / "tls"
    host = local_host(listen)

    def issue() -> tuple[TlsFiles, TlsFiles, TlsFiles]:
        server = _files(authority, tls, "server", authority.issue_server(tuple(dict.fromkeys((*names, host)))))
        return server, _files(authority, tls, "hub", authority.issue_hub_client()), make_ingest_identity(authority, tls, 1)

    def renew() -> None:
        issue()

    server, hub, ingest = issue()
    return BrokerIdentity(server=server, hub=hub, ingest=ingest, local_host=host, renew=renew)


def make_ingest_identity(authority: Authority, folder: Path, number: int) -> TlsFiles:
    """Of the ``number``-th process that ingests: ``ca.pem``, ``ingest-<number>.pem`` and ``.key`` in ``folder``."""
    return _files(authority, folder, f"ingest-{number}", authority.issue_hub_client(ingest_name(number)))


def reachable(address: BrokerAddress, tls: TlsFiles, timeout_s: float = 2.0) -> bool:
    """Whether a mutual TLS handshake succeeds."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            return True
    except OSError:
        return False


def check_free(host: str, port: int) -> None:
    """Raises NotReady where somebody else listens there: a broker that answers need not be ours."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise NotReady(
            f"the broker cannot listen on {host}:{port}: {error.strerror}; end what does, or set broker.port"
        ) from error


def _files(authority: Authority, folder: Path, name: str, issued: Issued) -> TlsFiles:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = TlsFiles(ca=folder / "ca.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    write_atomic(files.ca, authority.ca_pem.encode(), mode=0o644)
    write_atomic(files.key, issued.key_pem.encode())
    write_atomic(files.certificate, issued.certificate_pem.encode(), mode=0o644)
    return files

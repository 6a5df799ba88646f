"""Who the device is.

``data_dir/identity`` is a link into ``data_dir/identities``, so that replacing the link replaces all of it at once.
"""

import contextlib
import fcntl
import json
import logging
import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.core.errors import ConfigError
from edge_agent.core.files import make_folder, sync_folder, write_atomic
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import from_ms, to_ms

log = logging.getLogger(__name__)

T = TypeVar("T")

FOLDER = "identity"
IMAGE_ROOT, DIRECTOR_ROOT = "image-root.json", "director-root.json"
_STORE, _STAGED, _LOCK = "identities", ".identity.new", "identity.lock"
_NAMES = "hub.json"  # written last: a folder that has it is whole
_RECEIPT = "receipt.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    host: str
    port: int
    protocol: int = 5  # MQTT protocol level: 5, or 4 for 3.1.1

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535 or self.protocol not in (4, 5):
            raise ConfigError(f"broker needs a host, a port and protocol 4 or 5, got {self.host}:{self.port}, {self.protocol}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Key, certificate and root that belong together, as TLS takes them."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)  # the device's own, then the issuing authority's
    ca_pem: bytes = field(repr=False)  # the root


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How a certificate came here; by this device's clock, which may be wrong."""

    at: datetime | None = None  # None: not known
    answers: datetime | None = None  # the newest ``DesiredTwin.renew_before`` that it was made for
    before: str = ""  # the folder in the store that it replaced, and which is kept; empty: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Names and addresses; keys and certificates stay in files, so that no log or repr can hold them."""

    device_id: DeviceId
    tenant: TenantId
    board: str
    hub_address: str  # host:port, gRPC over mTLS
    broker: Broker
    folder: Path  # whose content changes when the certificate is renewed
    enroll_address: str = ""  # host:port, where certificates are renewed

    @property
    def key_path(self) -> Path:
        return self.folder / "key.pem"

    @property
    def cert_path(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def ca_path(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def image_root_path(self) -> Path:
        """TUF root of the image repository, as the ticket had it. Without this file the device takes no update."""
        return self.folder / IMAGE_ROOT

    @property
    def director_root_path(self) -> Path:
        """TUF root of the director. Without this file the device takes no update."""
        return self.folder / DIRECTOR_ROOT

    def version(self) -> str:
        """Another one after every replacement."""
        return self.folder.resolve().name

    def receipt(self) -> Receipt:
        try:
            values = json.loads((self.folder / _RECEIPT).read_bytes())
            return Receipt(at=_time(values["at_ms"]), answers=_time(values["answers_ms"]), before=str(values["before"]))
        except (OSError, ValueError, KeyError, TypeError, ContractError):
            return Receipt()

    def credential(self) -> Credential:
        """All of one version, whatever is replaced meanwhile. Raises ConfigError."""
        return self._current(self._read)

    def previous(self) -> Credential | None:
        """What the last renewal replaced; None where there was none, or nothing of it is left."""
        before = self.receipt().before
        if not before:
            return None
        try:
            return self._read(self.folder.parent / _STORE / before)
        except ConfigError:
            return None

    def tls(self, *, previous: bool = False) -> ssl.SSLContext:
        """For a client that proves who it is and trusts the hub's authority only; with ``previous`` by what the last renewal
        replaced, where that is still there. Raises ConfigError."""
        before = self.folder.parent / _STORE / self.receipt().before
        if previous and (before / _NAMES).exists():
            return self._tls(before)
        return self._current(self._tls)

    def _current(self, read: Callable[[Path], T]) -> T:
        """``read`` of the version in use; once more where that one was replaced and removed while it was read."""
        while True:
            folder = self.folder.resolve()
            try:
                return read(folder)
            except ConfigError:
                if folder == self.folder.resolve():
                    raise

    def _tls(self, folder: Path) -> ssl.SSLContext:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(folder / "ca.pem")
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(f"certificate or key in {self.folder} cannot be used ({error}): enrol again") from error
        return context

    def _read(self, folder: Path) -> Credential:
        try:
            key, certificate, ca = ((folder / name).read_bytes() for name in ("key.pem", "cert.pem", "ca.pem"))
        except OSError as error:
            raise ConfigError(f"cannot read the identity in {self.folder}: {error.strerror}; enrol again") from error
        return Credential(key_pem=key, certificate_pem=certificate, ca_pem=ca)


def exists(data_dir: Path) -> bool:
    return (data_dir / FOLDER / _NAMES).exists()


def load(data_dir: Path) -> Identity:
    """Raises ConfigError that says how to enrol."""
    folder = data_dir / FOLDER
    if not exists(data_dir):
        raise ConfigError(f"no identity in {folder}: run `edge-agent enroll --ticket FILE --data-dir {data_dir}`")
    if not folder.is_symlink():  # restored from a backup that follows links: it could not be replaced at once
        raise ConfigError(f"{folder} must be a link into {data_dir / _STORE}: restore it as one, or enrol again with --force")
    try:
        values = json.loads((folder / _NAMES).read_text())
        identity = _from_json(values, folder)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(f"{folder / _NAMES} cannot be used ({error}): enrol again with `edge-agent enroll`") from error
    for path in (identity.key_path, identity.cert_path, identity.ca_path):
        if not path.is_file():
            raise ConfigError(f"{path} is missing: enrol again with `edge-agent enroll`")
    if identity.key_path.stat().st_mode & 0o077:
        log.warning("private key is open to other users: chmod 600", extra={"path": str(identity.key_path)})
    return identity


@contextlib.contextmanager
def claim(data_dir: Path) -> Iterator[None]:
    """Enrolling and renewing, in the agent and by hand, take turns: who comes later sees what came of the one before."""
    make_folder(data_dir)
    with (data_dir / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def save(
    identity: Identity,
    *,
    key_pem: bytes,
    certificate_pem: bytes,
    ca_pem: bytes,
    image_root: bytes = b"",
    director_root: bytes = b"",
    receipt: Receipt | None = None,
) -> Identity:
    """Put all of it at ``identity.folder`` at once, in the place of what was there; the same identity.

    A power cut leaves all of the old or all of the new. The version named by ``receipt.before`` is kept, others are removed.
    Raises OSError.
    """
    data_dir, receipt = identity.folder.parent, receipt or Receipt()
    store = data_dir / _STORE
    make_folder(store)
    names = asdict(identity)
    del names["folder"]
    notes = {"at_ms": _ms(receipt.at), "answers_ms": _ms(receipt.answers), "before": receipt.before}
    files = {"key.pem": key_pem, "cert.pem": certificate_pem, "ca.pem": ca_pem, IMAGE_ROOT: image_root}
    files |= {DIRECTOR_ROOT: director_root, _RECEIPT: json.dumps(notes).encode(), _NAMES: json.dumps(names).encode()}
    made = store / _next(store)
    made.mkdir(mode=0o700)
    try:
        for name, content in files.items():
            if content:
                write_atomic(made / name, content, mode=0o600)
        sync_folder(store)
    except BaseException:  # it is tried again and again, and a full disk must not get fuller by it
        shutil.rmtree(made, ignore_errors=True)
        raise
    _switch(identity.folder, made)
    for folder in store.iterdir():
        if folder.name not in (made.name, receipt.before):
            shutil.rmtree(folder, ignore_errors=True)
    return identity


def _switch(folder: Path, made: Path) -> None:
    data_dir = folder.parent
    staged = data_dir / _STAGED
    staged.unlink(missing_ok=True)
    staged.symlink_to(made.relative_to(data_dir))
    if folder.is_dir() and not folder.is_symlink():
        folder.replace(made.parent / f"{made.name}-before")  # nothing that ``load`` takes
    staged.replace(folder)
    sync_folder(data_dir)


def _next(store: Path) -> str:
    return str(1 + max((int(folder.name) for folder in store.iterdir() if folder.name.isdecimal()), default=0))


def _from_json(values: dict[str, Any], folder: Path) -> Identity:
    try:
        broker = Broker(**values["broker"])
        return Identity(
            device_id=ids.device_id(values["device_id"]),
            tenant=ids.tenant_id(values["tenant"]),
            board=str(values["board"]),
            hub_address=str(values["hub_address"]),
            broker=broker,
            folder=folder,
            enroll_address=str(values["enroll_address"]),
        )
    except ContractError as error:
        raise ConfigError(str(error)) from error


def _ms(at: datetime | None) -> int:
    return to_ms(at) if at is not None else 0


def _time(ms: Any) -> datetime | None:
    return from_ms(int(ms)) if ms else None

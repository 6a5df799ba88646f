"""Who the device is: what enrolment left in ``data_dir/identity``."""

import json
import logging
import shutil
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.errors import ConfigError
from edge_agent.core.files import sync_folder, write_atomic
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, TenantId

log = logging.getLogger(__name__)

FOLDER = "identity"
_STAGED, _PREVIOUS = ".identity.new", ".identity.old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    host: str
    port: int
    protocol: int = 5  # MQTT protocol level: 5, or 4 for 3.1.1

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535 or self.protocol not in (4, 5):
            raise ConfigError(f"broker needs a host, a port and protocol 4 or 5, got {self.host}:{self.port}, {self.protocol}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Names and addresses; keys and certificates stay in files, so that no log or repr can hold them."""

    device_id: DeviceId
    tenant: TenantId
    board: str
    hub_address: str  # host:port, gRPC over mTLS
    broker: Broker
    folder: Path

    @property
    def key_path(self) -> Path:
        return self.folder / "key.pem"

    @property
    def cert_path(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def ca_path(self) -> Path:
        return self.folder / "ca.pem"

    def tls(self) -> ssl.SSLContext:
        """For a client that proves who it is and trusts the hub's authority only. Raises ConfigError."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(self.ca_path)
            context.load_cert_chain(self.cert_path, self.key_path)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(f"certificate or key in {self.folder} cannot be used ({error}): enrol again") from error
        return context


def exists(data_dir: Path) -> bool:
    return any((data_dir / folder / "hub.json").exists() for folder in (FOLDER, _PREVIOUS))


def load(data_dir: Path) -> Identity:
    """Raises ConfigError that says how to enrol."""
    folder = data_dir / FOLDER
    if not folder.exists() and (data_dir / _PREVIOUS).exists():  # enrolling again was cut short between two renames
        (data_dir / _PREVIOUS).replace(folder)
        sync_folder(data_dir)
    if not (folder / "hub.json").exists():
        raise ConfigError(f"no identity in {folder}: run `edge-agent enroll --ticket FILE --data-dir {data_dir}`")
    try:
        values = json.loads((folder / "hub.json").read_text())
        identity = _from_json(values, folder)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(f"{folder / 'hub.json'} cannot be used ({error}): enrol again with `edge-agent enroll`") from error
    for path in (identity.key_path, identity.cert_path, identity.ca_path):
        if not path.is_file():
            raise ConfigError(f"{path} is missing: enrol again with `edge-agent enroll`")
    if identity.key_path.stat().st_mode & 0o077:
        log.warning("private key is open to other users: chmod 600", extra={"path": str(identity.key_path)})
    return identity


def save(identity: Identity, *, key_pem: bytes, certificate_pem: bytes, ca_pem: bytes) -> Identity:
    """Put all of it at ``identity.folder`` at once, in the place of what was there; the same identity."""
    data_dir = identity.folder.parent
    staged, previous = data_dir / _STAGED, data_dir / _PREVIOUS
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True, mode=0o700)
    values = asdict(identity)
    del values["folder"]
    files = {"key.pem": key_pem, "cert.pem": certificate_pem, "ca.pem": ca_pem, "hub.json": json.dumps(values).encode()}
    for name, content in files.items():
        write_atomic(staged / name, content, mode=0o600)
    if identity.folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        identity.folder.replace(previous)
    staged.replace(identity.folder)
    sync_folder(data_dir)
    shutil.rmtree(previous, ignore_errors=True)
    return identity


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
        )
    except ContractError as error:
        raise ConfigError(str(error)) from error

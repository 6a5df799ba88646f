"""What must be in the data folder before a hub can run."""

from pathlib import Path

import yaml
from sqlalchemy.exc import DatabaseError

from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import NotFound, NotReady
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.files import write_atomic

ADMIN = "admin"


def initialise(config: HubConfig) -> Path:
    """Make what is missing, keep what is there; returns the folder with the first admin's hubctl configuration.

    Raises HubError, or OSError where the data folder cannot be written.
    """
    make_folder(config)
    authority = open_authority(config)
    database = open_database(config)
    try:
        database.migrate()
    except DatabaseError as error:
        of = "that database_url names" if config.database_url else f"of {config.data_dir}"
        raise NotReady(f"the database {of} cannot be used: {error.orig}") from error
    finally:
        database.close()
    folder = config.data_dir / "admin"
    if not (folder / "hubctl.yaml").exists():
        _write_admin(config, authority, folder)
    return folder


def make_folder(config: HubConfig) -> None:
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


def open_authority(config: HubConfig) -> Authority:
    try:
        return Authority.load(config.data_dir / "ca")
    except NotFound:
        return Authority.create(config.data_dir / "ca")


def open_database(config: HubConfig) -> Database:
    return Database(config.database_url or f"sqlite:///{config.data_dir / 'hub.db'}")


def _write_admin(config: HubConfig, authority: Authority, folder: Path) -> None:
    """Written last to first: hubctl.yaml marks the identity whole."""
    folder.mkdir(mode=0o700, exist_ok=True)
    identity = authority.sign_user(ADMIN)
    write_atomic(folder / "key.pem", identity.key_pem.encode())
    write_atomic(folder / "cert.pem", identity.certificate_pem.encode())
    write_atomic(folder / "ca.pem", authority.ca_pem.encode())
    address = f"{config.grpc.names[0]}:{config.grpc.port}"
    settings = {"hub": address, "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    write_atomic(folder / "hubctl.yaml", yaml.safe_dump(settings, sort_keys=False).encode())

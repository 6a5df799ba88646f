"""What must be in the data folder before a hub can run."""

import contextlib
from pathlib import Path

import yaml
from sqlalchemy.exc import DatabaseError

from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import DEFAULT_TENANT, Role
from cloud_hub.services.users import recorded
from cloud_hub.store import certificates, leases, users
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.files import write_atomic
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import TenantId, digest_of

ADMIN = "admin"


def initialise(config: HubConfig) -> Path:
    """Make what is missing, keep what is there; returns the folder with the first admin's hubctl configuration.

    Raises HubError (Conflict where the database belongs to another authority), or OSError where the data folder cannot be
    written.
    """
    make_folder(config)
    database = open_database(config)
    folder = config.data_dir / "admin"
    try:
        database.migrate()
        _expect_authority(config, database)
        authority = open_authority(config)
        if not (folder / "hubctl.yaml").exists():
            _write_admin(config, authority, database, folder)
        _record_admin(database, (folder / "cert.pem").read_text())
    except DatabaseError as error:
        of = "that database_url names" if config.database_url else f"of {config.data_dir}"
        raise NotReady(f"the database {of} cannot be used: {error.orig}") from error
    finally:
        database.close()
    return folder


def _expect_authority(config: HubConfig, database: Database) -> None:
    """Before one is made here: the devices of a database know its hub by one root, whichever machine it runs on."""
    with database.read() as tx:
        lease = leases.newest(tx)
    if lease is None:
        return
    try:
        here = authority_digest(Authority.load(config.data_dir / "ca"))
    except NotFound:
        here = ""
    if here != lease.authority:
        raise Conflict(
            f"the devices of this database trust the authority of {lease.holder}, which led last, and {config.data_dir / 'ca'} "
            f"{'is another' if here else 'is empty'}: copy ca/ and trust/ from there; see docs/standby.md"
        )


def authority_digest(authority: Authority) -> str:
    """By which one is told from another."""
    return digest_of(authority.ca_pem.encode())


def make_folder(config: HubConfig) -> None:
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


def open_authority(config: HubConfig, clock: Clock | None = None) -> Authority:
    """Made where there is none. Raises Invalid, also for one of an older version."""
    folder = config.data_dir / "ca"
    try:
        return Authority.load(folder, clock=clock)
    except NotFound:
        pass
    try:
        return Authority.create(folder, clock=clock)
    except Conflict:
        return Authority.load(folder, clock=clock)  # another process made it at this moment


def open_database(config: HubConfig, *, epoch: int | None = None) -> Database:
    """``epoch``: of the term in which it is written; see ``Database``."""
    return Database(config.database_url or f"sqlite:///{config.data_dir / 'hub.db'}", epoch=epoch)


def create_tenant(config: HubConfig, name: str, admin: str, folder: Path, *, recover: bool = False) -> None:
    """A tenant begins with its first admin, whose identity is written to ``folder``; the rest is the admin's to do.

    ``recover``: it is there already, and nobody can administer it any more; ``admin`` may be an old or a new name.

    Only who can read the data folder can do this: no user of one tenant makes another.

    Raises:
        Conflict: the tenant has users already, or ``folder`` exists.
        Invalid: a name cannot be used.
    """
    try:
        tenant = ids.tenant_id(name)
    except ContractError as error:
        raise Invalid(str(error)) from error
    authority = open_authority(config)
    with contextlib.closing(open_database(config)) as database:
        database.migrate()
        with database.read() as tx:
            if bool(users.count(tx, tenant)) is not recover:
                raise Conflict(
                    f"tenant {tenant} has no users: create it"
                    if recover
                    else f"tenant {tenant} has users already: its admins make more with 'hubctl user create'"
                )
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(f"{folder} exists already: name a new folder") from error
        _write_admin(config, authority, database, folder, tenant, admin)
        with database.write() as tx:
            users.put(tx, tenant, admin, role=Role.ADMIN, disabled=False)


def _write_admin(
    config: HubConfig,
    authority: Authority,
    database: Database,
    folder: Path,
    tenant: TenantId = DEFAULT_TENANT,
    name: str = ADMIN,
) -> None:
    """Written last to first: hubctl.yaml marks the identity whole."""
    folder.mkdir(mode=0o700, exist_ok=True)
    identity = authority.sign_user(name, tenant=tenant)
    _record(database, identity.certificate_pem, tenant, name)
    write_atomic(folder / "key.pem", identity.key_pem.encode())
    write_atomic(folder / "cert.pem", identity.certificate_pem.encode())
    write_atomic(folder / "ca.pem", authority.ca_pem.encode())
    address = f"{config.grpc.names[0]}:{config.grpc.port}"
    settings = {"hub": address, "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    write_atomic(folder / "hubctl.yaml", yaml.safe_dump(settings, sort_keys=False).encode())


def _record_admin(database: Database, certificate_pem: str) -> None:
    """For a database that knows nobody: it is a new one beside an older data folder, and nobody could sign in."""
    with database.read() as tx:
        known = users.count(tx, DEFAULT_TENANT) > 0
    if not known:
        _record(database, certificate_pem)


def _record(database: Database, certificate_pem: str, tenant: TenantId = DEFAULT_TENANT, name: str = ADMIN) -> None:
    """The first admin, and that this certificate is the admin's."""
    with database.write() as tx:
        users.add(tx, tenant, name, Role.ADMIN, SystemClock().now())  # or it is there
        certificates.add(tx, recorded(certificate_pem, tenant, name))

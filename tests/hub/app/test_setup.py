"""``cloud-hub init``: what it makes, and that it never makes it anew."""

from pathlib import Path

import pytest
import yaml

from cloud_hub.app import setup
from cloud_hub.core.config import GrpcConfig, HubConfig
from cloud_hub.core.errors import Invalid, NotReady, Unauthenticated
from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.rpc.auth import certificate_proof
from cloud_hub.services.access import AccessService
from cloud_hub.store import certificates
from edge_agent.core.clock import SystemClock
from tests.e2e.system import HubProcess, program


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if "hub.db" not in path.name}


def test_repeating_it_keeps_the_authority_and_the_admin(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path)
    hub.init()
    before = _contents(hub.data_dir)
    assert {
        "ca/root.pem",
        "ca/root.key",
        "ca/issuing-1.pem",
        "ca/issuing-1.key",
        "admin/key.pem",
        "admin/cert.pem",
        "admin/ca.pem",
        "admin/hubctl.yaml",
    } <= set(before)
    hub.init()
    assert _contents(hub.data_dir) == before


def test_only_the_owner_may_read_the_admins_identity(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path / "new" / "data")
    admin = setup.initialise(config)
    assert config.data_dir.stat().st_mode & 0o777 == 0o700
    assert admin.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in admin.iterdir()} == {0o600}
    assert (config.data_dir / "ca" / "root.key").stat().st_mode & 0o777 == 0o600


def test_the_admins_configuration_names_the_hub(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path, grpc=GrpcConfig(port=7001, names=("hub.example", "localhost")))
    settings = yaml.safe_load((setup.initialise(config) / "hubctl.yaml").read_text())
    assert settings == {"hub": "hub.example:7001", "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}


def test_an_identity_that_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path)
    admin = setup.initialise(config)
    (admin / "hubctl.yaml").unlink()  # it is written last
    (admin / "cert.pem").write_text("")
    setup.initialise(config)
    assert "BEGIN CERTIFICATE" in (admin / "cert.pem").read_text()
    assert (admin / "hubctl.yaml").exists()


def _who_may(config: HubConfig) -> Principal:
    """Whom the certificate in the admin's folder makes its holder."""
    database = setup.open_database(config)
    try:
        proof = certificate_proof((config.data_dir / "admin" / "cert.pem").read_bytes())
        return AccessService(database, SystemClock()).admit(proof).who
    finally:
        database.close()


def test_the_first_admin_is_a_user_whose_certificate_the_hub_knows(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path)
    setup.initialise(config)
    assert _who_may(config) == Principal(role=Role.ADMIN, name="admin")
    (tmp_path / "admin" / "hubctl.yaml").unlink()
    setup.initialise(config)
    assert _who_may(config).name == "admin", "a new certificate is known like the first"


def test_a_new_database_beside_an_older_folder_knows_the_admin_again(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path)
    setup.initialise(config)
    before = (tmp_path / "admin" / "cert.pem").read_bytes()
    for path in tmp_path.glob("hub.db*"):
        path.unlink()
    setup.initialise(config)
    assert (tmp_path / "admin" / "cert.pem").read_bytes() == before
    assert _who_may(config).role is Role.ADMIN


def test_an_admin_who_was_revoked_stays_so(tmp_path: Path) -> None:
    config = HubConfig(data_dir=tmp_path)
    setup.initialise(config)
    database = setup.open_database(config)
    with database.write() as tx:
        certificates.revoke(tx, certificates.USER, "admin", SystemClock().now(), "bob: lost", tenant=DEFAULT_TENANT)
    database.close()
    setup.initialise(config)
    with pytest.raises(Unauthenticated):
        _who_may(config)


def test_a_folder_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.pem").write_text("older")
    with pytest.raises(Invalid, match="older version"):
        setup.initialise(HubConfig(data_dir=tmp_path))


def test_it_says_where_the_admin_finds_the_configuration(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path)
    done = program("cloud-hub", "init", "--config", hub.config_path)
    assert done.stderr == ""
    assert f"hubctl --config {hub.data_dir / 'admin' / 'hubctl.yaml'}" in done.stdout


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(NotReady, match=f"{tmp_path}.*not a database"):
        setup.initialise(HubConfig(data_dir=tmp_path))


def test_an_authority_that_was_damaged_is_not_replaced(tmp_path: Path) -> None:
    setup.initialise(HubConfig(data_dir=tmp_path))
    (tmp_path / "ca" / "root.pem").write_text("gone")
    with pytest.raises(Invalid, match="backup"):
        setup.initialise(HubConfig(data_dir=tmp_path))

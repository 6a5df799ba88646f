"""Who a certificate says is calling."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud_hub.core.model import Role
from cloud_hub.rpc.auth import ANONYMOUS, Peers, peer_of
from cloud_hub.rpc.errors import Unauthenticated
from cloud_hub.trust.authority import Authority
from protos.contract.ids import TenantId
from tests.hub.rpc.running import device_identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(Path(tmp_path_factory.mktemp("ca")))


def test_a_device_is_its_common_name_in_its_tenant(authority: Authority) -> None:
    peer = peer_of(device_identity(authority, "cam-1").certificate_pem.encode())
    assert (peer.principal.role, peer.principal.name, peer.principal.tenant) == (Role.DEVICE, "cam-1", "default")
    assert peer.serial and peer.expires_at is not None and peer.expires_at > datetime.now(UTC)


def test_a_user_is_named_without_the_prefix(authority: Authority) -> None:
    peer = peer_of(authority.sign_user("Ada Lovelace", tenant=TenantId("acme")).certificate_pem.encode())
    assert (peer.principal.role, peer.principal.name, peer.principal.tenant) == (Role.ADMIN, "Ada Lovelace", "acme")


def test_no_certificate_is_nobody() -> None:
    assert Peers().of({}) is ANONYMOUS


@pytest.mark.parametrize("kind", ["hub", "server", "device role for a user", "garbage"])
def test_a_certificate_that_names_no_caller_is_refused(authority: Authority, kind: str) -> None:
    pem = {
        "hub": lambda: authority.issue_hub_client().certificate_pem,  # for the broker only
        "server": lambda: authority.issue_server(["localhost"]).certificate_pem,
        "device role for a user": lambda: authority.sign_user("eve", role=Role.DEVICE).certificate_pem,
        "garbage": lambda: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }[kind]()
    with pytest.raises(Unauthenticated):
        peer_of(pem.encode())

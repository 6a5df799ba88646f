"""Who a certificate or a token makes its holder."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cloud_hub.core import roles
from cloud_hub.core.errors import Conflict, Denied, Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import Page
from cloud_hub.services.access import AccessService, CertificateProof, Unwelcome, token_proof
from cloud_hub.services.users import MAX_TOKEN_TTL_S, UserService
from cloud_hub.store import certificates, tokens, users
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from protos.contract.ids import TenantId
from tests.hub.fleet_parts import ADMIN, STRANGER, TENANT, Clock
from tests.hub.rpc.running import make_csr

KEY, OTHER_KEY = "sha256:" + "1" * 64, "sha256:" + "2" * 64
VIEWER = Principal(role=Role.VIEWER, name="vi")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(db: Database, clock: Clock) -> AccessService:
    return AccessService(db, clock)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
def service(db: Database, authority: Authority, access: AccessService, clock: Clock) -> UserService:
    with db.write() as tx:
        users.add(tx, TENANT, ADMIN.name, Role.ADMIN, clock.now())
        users.add(tx, STRANGER.tenant, STRANGER.name, Role.ADMIN, clock.now())
    made = UserService(db, authority, access, clock)
    made.create(ADMIN, "vi", Role.VIEWER)
    return made


def certify(
    db: Database, clock: Clock, name: str, role: str = certificates.USER, tenant: TenantId = TENANT
) -> CertificateProof:
    serial = f"{abs(hash((name, tenant))):x}"
    with db.write() as tx:
        certificates.add(
            tx,
            Certificate(
                serial=serial,
                tenant=tenant,
                role=role,
                subject=name,
                key_digest=KEY,
                issued_at=clock.now(),
                expires_at=clock.now() + timedelta(days=90),
            ),
        )
    return CertificateProof(serial, KEY)


# -- certificates -------------------------------------------------------------------------------------------------------


def test_a_user_has_the_role_that_the_table_says_now(
    db: Database, service: UserService, access: AccessService, clock: Clock
) -> None:
    proof = certify(db, clock, "vi")
    assert access.admit(proof).who == VIEWER
    service.update(ADMIN, "vi", role=Role.OPERATOR)
    assert access.known(proof) is None, "an answer outlived the change"
    assert access.admit(proof).who == replace(VIEWER, role=Role.OPERATOR)


@pytest.mark.parametrize("what", ["unknown serial", "another key", "revoked", "expired", "disabled", "no user", "no device"])
def test_a_certificate_that_is_not_good_makes_nobody(
    db: Database, service: UserService, access: AccessService, clock: Clock, what: str
) -> None:
    proof = certify(db, clock, "nobody" if what == "no user" else "vi", "device" if what == "no device" else "user")
    if what == "unknown serial":
        proof = CertificateProof("abc", KEY)
    elif what == "another key":
        proof = CertificateProof(proof.serial, OTHER_KEY)
    elif what == "revoked":
        service.revoke_certificates(ADMIN, "vi", "stolen")
    elif what == "expired":
        clock.advance(91 * 86_400)
    elif what == "disabled":
        service.update(ADMIN, "vi", disabled=True)
    with pytest.raises(Unwelcome) as refused:
        access.admit(proof)
    forged = what in ("unknown serial", "another key")
    assert (refused.value.whose is None) == forged, "a forged one would be written down as somebody's"


def test_an_answer_is_good_for_half_a_second_and_not_for_longer(
    db: Database, service: UserService, access: AccessService, clock: Clock
) -> None:
    proof = certify(db, clock, "vi")
    access.admit(proof)
    with db.write() as tx:  # by another process: nothing tells this one
        users.put(tx, TENANT, "vi", role=Role.VIEWER, disabled=True)
    clock.advance(0.4)
    assert access.known(proof) is not None
    clock.advance(0.2)
    assert access.known(proof) is None
    with pytest.raises(Unwelcome):
        access.admit(proof)


def test_an_answer_read_before_a_change_is_not_kept_after_it(
    db: Database, service: UserService, access: AccessService, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = certify(db, clock, "vi")
    real = access._answered

    def slow(*args: object) -> object:
        answers = real(*args)  # type: ignore[arg-type]
        access.changed()
        return answers

    monkeypatch.setattr(access, "_answered", slow)
    access.review([proof])
    assert access.known(proof) is None


# -- tokens -------------------------------------------------------------------------------------------------------------


def test_a_token_is_its_user_with_the_role_that_scope_and_user_share(
    service: UserService, access: AccessService, clock: Clock
) -> None:
    service.create(ADMIN, "rel", Role.RELEASER)
    made = service.create_token(ADMIN, user="rel")
    proof = token_proof(made.secret)
    assert access.admit(proof).who == Principal(role=Role.RELEASER, name="rel")
    for role, worth in ((Role.OPERATOR, Role.VIEWER), (Role.ADMIN, Role.RELEASER), (Role.VIEWER, Role.VIEWER)):
        service.update(ADMIN, "rel", role=role)
        assert access.admit(proof).who.role is worth


def test_the_secret_is_kept_nowhere(db: Database, service: UserService) -> None:
    made = service.create_token(ADMIN, note="ci")
    secret = made.secret.rpartition(made.token.id)[2].removeprefix("_")
    with db.read() as tx:
        row = tx.execute(tokens.tokens.select()).one()
    assert secret not in repr(row) and secret not in repr(made) and row.digest not in repr(made)
    assert len(secret) == 43  # 256 bits


@pytest.mark.parametrize("what", ["another secret", "another id", "revoked", "expired", "disabled"])
def test_a_token_that_is_not_good_makes_nobody(service: UserService, access: AccessService, clock: Clock, what: str) -> None:
    made = service.create_token(ADMIN, user="vi", ttl_s=3600)
    proof = token_proof(made.secret)
    assert access.admit(proof).who == VIEWER
    if what == "another secret":
        proof = replace(proof, digest="0" * 64)
    elif what == "another id":
        proof = replace(proof, id="0" * 16)
    elif what == "revoked":
        service.revoke_token(ADMIN, made.token.id)
    elif what == "expired":
        clock.advance(3600)
    else:
        service.update(ADMIN, "vi", disabled=True)
    with pytest.raises(Unwelcome):
        access.admit(proof)


def test_when_a_token_was_used_is_written_later_and_to_the_minute(
    db: Database, service: UserService, access: AccessService, clock: Clock
) -> None:
    made = service.create_token(ADMIN)
    clock.advance(90)
    access.admit(token_proof(made.secret))
    (token,) = service.list_tokens(ADMIN)
    assert token.used_at is None, "a call waited for a write"
    access.write_uses()
    (token,) = service.list_tokens(ADMIN)
    assert token.used_at == clock.now().replace(second=0, microsecond=0)


@pytest.mark.parametrize("ttl_s", [1, MAX_TOKEN_TTL_S + 1])
def test_a_token_has_a_bounded_life(service: UserService, ttl_s: int) -> None:
    with pytest.raises(Invalid):
        service.create_token(ADMIN, ttl_s=ttl_s)


def test_nobody_makes_a_token_for_more_than_he_may_do(service: UserService) -> None:
    for scope in roles.USERS - {Role.VIEWER}:
        with pytest.raises(Invalid):
            service.create_token(VIEWER, scope=scope)
    narrowed = replace(ADMIN, role=Role.VIEWER)  # an admin's own token for reading: it must not become an admin again
    with pytest.raises(Invalid):
        service.create_token(narrowed, scope=Role.ADMIN)
    assert service.create_token(narrowed).token.scope is Role.VIEWER
    with pytest.raises(Denied):
        service.create_token(VIEWER, user=ADMIN.name)
    with pytest.raises(Invalid):
        service.create_token(ADMIN, user="vi", scope=Role.OPERATOR)


def test_a_token_makes_none_that_outlives_it_for_the_same_user(access: AccessService, service: UserService) -> None:
    first = service.create_token(VIEWER, ttl_s=3600)
    who = access.admit(token_proof(first.secret)).who
    second = service.create_token(who, ttl_s=366 * 86_400)
    assert second.token.expires_at == first.token.expires_at
    assert service.create_token(who, ttl_s=60).token.expires_at < first.token.expires_at


def test_users_see_and_end_their_own_tokens_and_admins_everyones(service: UserService) -> None:
    mine, theirs = service.create_token(VIEWER).token, service.create_token(ADMIN).token
    assert [one.id for one in service.list_tokens(VIEWER)] == [mine.id]
    assert {one.id for one in service.list_tokens(ADMIN)} == {mine.id, theirs.id}
    with pytest.raises(Denied):
        service.list_tokens(VIEWER, ADMIN.name)
    with pytest.raises(NotFound):
        service.revoke_token(VIEWER, theirs.id)
    assert service.revoke_token(VIEWER, mine.id).revoked_at is not None
    assert service.revoke_token(ADMIN, theirs.id).revoked_at is not None


# -- users --------------------------------------------------------------------------------------------------------------


def test_the_last_admin_stays_one(service: UserService) -> None:
    for change in ({"role": Role.VIEWER}, {"disabled": True}):
        with pytest.raises(NotReady):
            service.update(ADMIN, ADMIN.name, **change)  # type: ignore[arg-type]
    service.create(ADMIN, "bea", Role.ADMIN)
    service.update(ADMIN, ADMIN.name, role=Role.VIEWER)
    with pytest.raises(NotReady):
        service.update(ADMIN, "bea", disabled=True)


def test_an_admin_of_another_tenant_finds_nobody(service: UserService) -> None:
    for act in (
        lambda: service.get(STRANGER, "vi"),
        lambda: service.update(STRANGER, "vi", role=Role.ADMIN),
        lambda: service.revoke_certificates(STRANGER, "vi", ""),
        lambda: service.issue_certificate(STRANGER, "vi", make_csr()[1]),
        lambda: service.create_token(STRANGER, user="vi"),
    ):
        with pytest.raises(NotFound):
            act()


@pytest.mark.parametrize("name", ["", " x", "x ", "a  b", "x" * 60, "a\nb", "a\x1b[2J", "ﬁx", "a\u202eb"])
def test_a_name_is_what_it_looks_like(service: UserService, name: str) -> None:
    with pytest.raises(Invalid):
        service.create(ADMIN, name, Role.VIEWER)


def test_a_name_is_taken_once_in_a_tenant(service: UserService) -> None:
    with pytest.raises(Conflict):
        service.create(ADMIN, "vi", Role.ADMIN)
    assert service.create(STRANGER, "vi", Role.ADMIN).tenant == STRANGER.tenant


@pytest.mark.parametrize("role", [Role.DEVICE, Role.ANONYMOUS])
def test_no_user_is_a_device_or_nobody(service: UserService, role: Role) -> None:
    with pytest.raises(Invalid):
        service.create(ADMIN, "odd", role)
    with pytest.raises(Invalid):
        service.update(ADMIN, "vi", role=role)


def test_users_are_listed_in_pages(service: UserService) -> None:
    for name in ("Zoe", "abe", "éva", "bob"):
        service.create(ADMIN, name, Role.VIEWER)
    seen, token = [], ""
    while True:
        found, token = service.list(ADMIN, Page(size=2, token=token))
        seen += [user.name for user in found]
        if not token:
            break
    assert seen == sorted(["Zoe", "abe", "éva", "bob", "vi", ADMIN.name])


def test_a_certificate_is_for_the_users_own_key_and_known_to_the_hub(service: UserService, access: AccessService) -> None:
    from cloud_hub.rpc.auth import certificate_proof

    issued = service.issue_certificate(ADMIN, "vi", make_csr("CN=root")[1], days=7)
    proof = certificate_proof(issued.certificate_pem.encode())
    assert access.admit(proof).who == VIEWER
    assert service.revoke_certificates(ADMIN, "vi", "stolen") == 1
    with pytest.raises(Unwelcome):
        access.admit(proof)
    service.update(ADMIN, "vi", disabled=True)
    with pytest.raises(NotReady):
        service.issue_certificate(ADMIN, "vi", make_csr()[1])


# -- the order of roles -----------------------------------------------------------------------------------------------------


def test_what_two_roles_share_is_within_both_and_nothing_higher_is() -> None:
    for one in roles.USERS:
        for other in roles.USERS:
            both = roles.shared(one, other)
            below = [role for role in roles.USERS if roles.within(role, one) and roles.within(role, other)]
            assert both in below and all(roles.within(role, both) for role in below)

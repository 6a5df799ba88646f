"""Root and issuing authority: the root key kept away, renewal, and lists of what is void."""

import socket
import ssl
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.core.errors import Conflict, Invalid, NotReady
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import SystemClock
from protos.contract import ids
from tests.hub.fleet_parts import Clock
from tests.hub.trust.test_csr import csr_pem

WEEK = timedelta(days=7)
FIVE_YEARS_S = 5 * 365 * 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    return Authority.create(tmp_path / "ca", clock=clock)


def device(authority: Authority, name: str = "cam-1") -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    tenant = ids.tenant_id("default")
    certificate = authority.sign_device(csr_pem(key), tenant=tenant, device_id=ids.device_id(name), days=90)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return Issued(certificate_pem=certificate, key_pem=pem)


def certificates(issued: Issued | str) -> list[x509.Certificate]:
    pem = issued if isinstance(issued, str) else issued.certificate_pem
    return x509.load_pem_x509_certificates(pem.encode())


def serial(issued: Issued) -> str:
    return f"{certificates(issued)[0].serial_number:x}"


def issuer(issued: Issued) -> str:
    return certificates(issued)[1].subject.rfc4514_string()


def verified(authority: Authority, issued: Issued, folder: Path, clock: Clock, *, crl: str = "") -> bool:
    """Whether OpenSSL takes the chain from the leaf to the root; with ``crl`` also whether the leaf is not void."""
    (folder / "root.pem").write_text(authority.ca_pem)
    (folder / "leaf.pem").write_text(issued.certificate_pem)
    at = str(int(clock.now().timestamp()))
    command = ["openssl", "verify", "-x509_strict", "-attime", at, "-CAfile", "root.pem", "-untrusted", "leaf.pem"]
    if crl:
        (folder / "crl.pem").write_text(crl)
        command += ["-crl_check", "-CRLfile", "crl.pem"]
    return subprocess.run([*command, "leaf.pem"], cwd=folder, capture_output=True, check=False).returncode == 0


def test_the_root_signs_the_issuing_authority_and_that_one_signs_the_rest(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.ca_pem.encode())
    for chain in (device(authority), authority.issue_server(["hub"]), authority.issue_hub_client(), authority.sign_user("ada")):
        leaf, issuing = certificates(chain)
        leaf.verify_directly_issued_by(issuing)
        issuing.verify_directly_issued_by(root)
    constraints = [one.extensions.get_extension_for_class(x509.BasicConstraints).value for one in (root, issuing, leaf)]
    assert [(one.ca, one.path_length) for one in constraints] == [(True, 1), (True, 0), (False, None)]


def test_a_hub_runs_without_the_root_key_and_only_renewal_asks_for_it(tmp_path: Path, authority: Authority) -> None:
    assert authority.standing.root_key_here
    key = tmp_path / "ca" / "root.key"
    taken = key.read_bytes()
    key.unlink()
    loaded = Authority.load(tmp_path / "ca")
    assert certificates(loaded.issue_hub_client()) and not loaded.standing.root_key_here
    with pytest.raises(NotReady, match=r"root\.key"):
        loaded.renew_issuing()
    with pytest.raises(Conflict):
        Authority.create(tmp_path / "ca")
    key.write_bytes(taken)
    loaded.renew_issuing()


def test_another_roots_key_renews_nothing(tmp_path: Path, authority: Authority) -> None:
    Authority.create(tmp_path / "other")
    (tmp_path / "ca" / "root.key").write_bytes((tmp_path / "other" / "root.key").read_bytes())
    with pytest.raises(Invalid, match="right one"):
        authority.renew_issuing()
    assert certificates(Authority.load(tmp_path / "ca").issue_hub_client())


def test_an_issuing_authority_of_another_root_is_refused(tmp_path: Path, authority: Authority) -> None:
    Authority.create(tmp_path / "other")
    for name in ("issuing-1.pem", "issuing-1.key"):
        (tmp_path / "ca" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(Invalid, match="belong together"):
        Authority.load(tmp_path / "ca")


def test_an_authority_of_an_older_version_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("older")
    for act in (Authority.load, Authority.create):
        with pytest.raises(Invalid, match=r"older version \(ca.pem\)"):
            act(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]


def test_certificates_of_before_and_after_a_renewal_are_good_beside_each_other(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    before = device(authority)
    authority.renew_issuing()
    after = device(authority)
    assert issuer(before) != issuer(after) and authority.standing.older == 1
    assert verified(authority, before, tmp_path, clock) and verified(authority, after, tmp_path, clock)
    loaded = Authority.load(tmp_path / "ca", clock=clock)
    assert issuer(device(loaded)) == issuer(after)


def test_a_running_hub_takes_note_of_what_another_process_renewed(tmp_path: Path, authority: Authority, clock: Clock) -> None:
    other = Authority.load(tmp_path / "ca", clock=clock)
    other.renew_issuing()
    assert issuer(device(authority)) != issuer(device(other))
    authority.refresh()
    assert issuer(device(authority)) == issuer(device(other))


def test_an_expired_issuing_authority_signs_nothing_and_is_replaced(tmp_path: Path, authority: Authority, clock: Clock) -> None:
    clock.advance(FIVE_YEARS_S - 86_400)
    assert certificates(device(authority))[0].not_valid_after_utc == authority.expires_at
    clock.advance(86_401)
    with pytest.raises(NotReady, match="ca renew"):
        device(authority)
    authority.renew_issuing()
    assert verified(authority, device(authority), tmp_path, clock)
    assert authority.standing.older == 0, "nothing it signed is good any more"


def test_a_lost_issuing_authority_is_made_anew_from_the_root_key(tmp_path: Path, authority: Authority) -> None:
    for name in ("issuing-1.pem", "issuing-1.key"):
        (tmp_path / "ca" / name).unlink()
    loaded = Authority.load(tmp_path / "ca")
    with pytest.raises(NotReady, match="ca renew"):
        loaded.issue_hub_client()
    loaded.renew_issuing()
    assert loaded.ca_pem == authority.ca_pem and certificates(loaded.issue_hub_client())


# -- revocation lists ---------------------------------------------------------------------------------------------------


def test_openssl_refuses_what_is_on_the_list_and_nothing_else(tmp_path: Path, authority: Authority, clock: Clock) -> None:
    good, void = device(authority), device(authority)
    crl = authority.crl([(serial(void), clock.now(), "lost")], number=1, now=clock.now(), valid_for=WEEK)
    assert verified(authority, good, tmp_path, clock, crl=crl) and not verified(authority, void, tmp_path, clock, crl=crl)
    clock.advance(WEEK.total_seconds() + 1)
    assert not verified(authority, good, tmp_path, clock, crl=crl), "a list past its time locks everybody out"


def test_a_list_holds_for_certificates_of_older_issuing_authorities_too(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    good, void = device(authority), device(authority)
    authority.renew_issuing()
    new = device(authority)
    crl = authority.crl([(serial(void), clock.now(), "")], number=2, now=clock.now(), valid_for=WEEK)
    accepted = [verified(authority, one, tmp_path, clock, crl=crl) for one in (good, new, void)]
    assert accepted == [True, True, False]


def test_whatever_a_distrusted_issuing_authority_signed_is_refused_by_whoever_reads_the_list(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    old = device(authority)
    authority.renew_issuing(distrust=True)
    crl = authority.crl([], number=3, now=clock.now(), valid_for=WEEK)
    assert not verified(authority, old, tmp_path, clock, crl=crl)
    assert verified(authority, device(authority), tmp_path, clock, crl=crl)
    assert sorted(path.name for path in (tmp_path / "ca").glob("issuing*")) == ["issuing-2.key", "issuing-2.pem"]


def test_a_list_says_its_number_and_since_when_each_is_void(authority: Authority, clock: Clock) -> None:
    since = clock.now() - timedelta(hours=3)
    pem = authority.crl([("ff", since, "a reason\nthat is told to nobody")], number=7, now=clock.now(), valid_for=WEEK)
    crl = x509.load_pem_x509_crl(pem.encode())
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert [(one.serial_number, one.revocation_date_utc) for one in crl] == [(0xFF, since)]
    assert crl.next_update_utc == clock.now() + WEEK


def test_ten_thousand_entries_make_a_list(authority: Authority, clock: Clock) -> None:
    entries = [(f"{number:x}", clock.now(), "") for number in range(1, 10_001)]
    crl = x509.load_pem_x509_crl(authority.crl(entries, number=1, now=clock.now(), valid_for=WEEK).encode())
    assert len(crl) == 10_000


@pytest.mark.parametrize("revoked", [False, True])
def test_python_takes_the_chain_in_a_handshake_and_keeps_to_the_list(tmp_path: Path, revoked: bool) -> None:
    authority = Authority.create(tmp_path / "ca")
    now = SystemClock().now()
    client, server = device(authority), authority.issue_server(["localhost"])
    crl = authority.crl([(serial(client), now, "")] if revoked else [], number=1, now=now, valid_for=WEEK)
    listening = _context(tmp_path, "server", server, authority.ca_pem, ssl.Purpose.CLIENT_AUTH)
    (tmp_path / "crl.pem").write_text(crl)
    listening.load_verify_locations(tmp_path / "crl.pem")
    listening.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    listening.verify_mode = ssl.CERT_REQUIRED
    calling = _context(tmp_path, "client", client, authority.ca_pem, ssl.Purpose.SERVER_AUTH)
    assert _let_in(listening, calling) is (not revoked)


def _context(folder: Path, name: str, issued: Issued, ca_pem: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    (folder / f"{name}.pem").write_text(issued.certificate_pem)
    (folder / f"{name}.key").write_text(issued.key_pem)
    context = ssl.create_default_context(purpose, cadata=ca_pem)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def _let_in(listening: ssl.SSLContext, calling: ssl.SSLContext) -> bool:
    here, there = socket.socketpair()
    outcome: list[bool] = []

    def serve() -> None:
        try:
            with listening.wrap_socket(there, server_side=True) as connection:
                outcome.append(connection.getpeercert() is not None)
        except ssl.SSLError:
            outcome.append(False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with calling.wrap_socket(here, server_hostname="localhost") as connection:
            connection.recv(1)
    except OSError:
        pass  # the other side says why
    thread.join(10)
    return outcome[0]


def test_a_crash_while_an_issuing_authority_is_dropped_leaves_one_that_loads(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, gone = Path.unlink, []

    def crashes(path: Path, missing_ok: bool = False) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(path.name)
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", crashes)
        authority.renew_issuing(distrust=True)
    assert len(gone) == 1
    loaded = Authority.load(tmp_path / "ca")
    assert loaded.standing.older == 0 and certificates(loaded.issue_hub_client())

import os
import pwd
import socket
import stat
import subprocess
import threading
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt import client as mqtt

from cloud_hub.core.errors import Conflict, Invalid, NotFound, Unauthenticated
from cloud_hub.core.model import Role
from cloud_hub.rpc.auth import certificate_proof
from cloud_hub.services.access import AccessService
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority, Issued
from protos.contract import ids
from tests.hub.fleet_parts import Clock

TENANT = ids.tenant_id("default")
CAMERA = ids.device_id("cam-1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


def _csr(key: Any, name: str = "tl:hub") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "evil")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _device(authority: Authority, days: int = 30) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign_device(_csr(key), tenant=TENANT, device_id=CAMERA, days=days)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return Issued(certificate_pem=certificate, key_pem=pem)


def _parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _usages(pem: str) -> list[x509.ObjectIdentifier]:
    return list(_parsed(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_an_authority_is_the_same_when_it_is_loaded_again(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "ca")
    loaded = Authority.load(tmp_path / "ca")
    assert loaded.ca_pem == made.ca_pem
    leaf, issuing = x509.load_pem_x509_certificates(loaded.issue_hub_client().certificate_pem.encode())
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(_parsed(made.ca_pem))
    assert loaded.chain == made.chain == issuing.public_bytes(serialization.Encoding.PEM).decode()


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    first = Authority.create(tmp_path / "ca")
    with pytest.raises(Conflict, match="already"):
        Authority.create(tmp_path / "ca")
    assert Authority.load(tmp_path / "ca").ca_pem == first.ca_pem


def test_a_creation_that_a_crash_cut_off_can_be_done_again(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    (tmp_path / "ca" / "root.pem").unlink()
    with pytest.raises(NotFound):
        Authority.load(tmp_path / "ca")
    made = Authority.create(tmp_path / "ca")
    assert Authority.load(tmp_path / "ca").ca_pem == made.ca_pem


def test_the_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert modes == {"root.key": 0o600, "issuing-1.key": 0o600, "root.pem": 0o644, "issuing-1.pem": 0o644}


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a")
    Authority.create(tmp_path / "b")
    (tmp_path / "a" / "issuing-1.key").write_bytes((tmp_path / "b" / "issuing-1.key").read_bytes())
    with pytest.raises(Invalid, match="belong together"):
        Authority.load(tmp_path / "a")
    (tmp_path / "a" / "issuing-1.key").write_bytes(b"\0" * 200)  # as after a power cut on a bad disk
    with pytest.raises(Invalid, match="restore"):
        Authority.load(tmp_path / "a")


def test_no_name_and_no_right_is_taken_from_a_csr(authority: Authority) -> None:
    certificate = _parsed(_device(authority).certificate_pem)
    assert certificate.subject.rfc4514_string() == "CN=cam-1,OU=device,O=default"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert _usages(_device(authority).certificate_pem) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_each_certificate_is_good_for_one_side_only(authority: Authority) -> None:
    assert _usages(authority.issue_server(["hub"]).certificate_pem) == [ExtendedKeyUsageOID.SERVER_AUTH]
    for client in (authority.issue_hub_client(), authority.sign_user("ada")):
        assert _usages(client.certificate_pem) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_names_that_are_no_devices_cannot_be_device_ids(authority: Authority) -> None:
    def subject(issued: Issued) -> str:
        return _parsed(issued.certificate_pem).subject.rfc4514_string()

    assert subject(authority.issue_hub_client()) == "CN=tl:hub,OU=hub,O=default"
    assert subject(authority.sign_user("ada")) == "CN=user:ada,OU=admin,O=default"


@pytest.mark.parametrize("name", ["", "a" * 60, "line\nbreak"])
def test_a_user_name_that_fits_no_certificate_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(Invalid, match="user name"):
        authority.sign_user(name)


def test_a_servers_names_are_dns_names_and_addresses(authority: Authority) -> None:
    certificate = _parsed(authority.issue_server(["hub.example", "127.0.0.1", "::1"]).certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    with pytest.raises(Invalid, match="DNS"):
        authority.issue_server(["bücher"])
    with pytest.raises(Invalid, match="at least one"):
        authority.issue_server([])


def test_a_certificate_lasts_as_long_as_asked_and_never_longer_than_its_issuer(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority.create(tmp_path / "ca", clock=clock)
    certificate = _parsed(_device(authority, days=30).certificate_pem)
    assert certificate.not_valid_after_utc == clock.now() + timedelta(days=30)
    assert certificate.not_valid_before_utc < clock.now(), "a device's clock may be behind"
    lasting = _parsed(_device(authority, days=100 * 365).certificate_pem)
    assert lasting.not_valid_after_utc == authority.expires_at
    with pytest.raises(Invalid, match="day"):
        _device(authority, days=0)


def test_a_takeover_has_a_devices_name_for_five_minutes_and_no_right_at_the_hub(tmp_path: Path, db: Database) -> None:
    clock = Clock()
    authority = Authority.create(tmp_path / "ca", clock=clock)
    certificate = _parsed(authority.takeover(CAMERA, TENANT).certificate_pem)
    assert certificate.subject.rfc4514_string() == "CN=cam-1,OU=hub,O=default"
    assert certificate.not_valid_after_utc == clock.now() + timedelta(minutes=5)
    with pytest.raises(Unauthenticated):
        AccessService(db, clock).admit(certificate_proof(certificate.public_bytes(serialization.Encoding.PEM)))


def test_a_users_own_key_is_certified_under_the_name_the_hub_gives(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _parsed(authority.sign_user_csr(_csr(key, "user:root"), "ada", role=Role.VIEWER, days=7))
    assert certificate.subject.rfc4514_string() == "CN=user:ada,OU=viewer,O=default"
    assert certificate.public_key() == key.public_key()


def test_no_serial_is_given_twice(authority: Authority) -> None:
    serials = {_parsed(_device(authority).certificate_pem).serial_number for _ in range(200)}
    assert len(serials) == 200 and min(serials) > 1 << 64  # random ones, as CA/Browser baseline 7.1 asks: none can be foreseen


def test_keys_do_not_show_in_a_repr(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority.sign_user("ada"))


# -- what others make of it ---------------------------------------------------------------------------------------------


def test_openssl_accepts_the_chain_for_each_purpose_and_no_other(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text(authority.ca_pem)
    (tmp_path / "device.pem").write_text(_device(authority).certificate_pem)
    (tmp_path / "server.pem").write_text(authority.issue_server(["hub"]).certificate_pem)

    def accepts(name: str, purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem"]
        command += ["-untrusted", f"{name}.pem", f"{name}.pem"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert accepts("device", "sslclient") and accepts("server", "sslserver")
    assert not accepts("device", "sslserver") and not accepts("server", "sslclient")


def test_grpc_accepts_them_and_refuses_those_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_server(["localhost", "127.0.0.1"])
    ca = authority.ca_pem.encode()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    echo = grpc.unary_unary_rpc_method_handler(lambda _request, context: context.auth_context()["x509_common_name"][0])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"Am": echo}),))
    credentials = grpc.ssl_server_credentials([(issued.key_pem.encode(), issued.certificate_pem.encode())], ca, True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()

    def ask(client: Issued) -> bytes:
        mine = grpc.ssl_channel_credentials(ca, client.key_pem.encode(), client.certificate_pem.encode())
        with grpc.secure_channel(f"127.0.0.1:{port}", mine) as channel:
            answer: bytes = channel.unary_unary("/test.Who/Am")(b"", timeout=10)
            return answer

    try:
        assert ask(_device(authority)) == b"cam-1"
        assert ask(authority.sign_user("ada")) == b"user:ada"
        with pytest.raises(grpc.RpcError):
            ask(_device(Authority.create(tmp_path / "other")))
    finally:
        server.stop(None).wait(10)


def test_mosquitto_accepts_them_and_takes_the_common_name_as_user_name(authority: Authority, tmp_path: Path) -> None:
    server, hub, camera = authority.issue_server(["127.0.0.1"]), authority.issue_hub_client(), _device(authority)
    for name, text in (
        ("root.pem", authority.ca_pem),
        ("server.pem", server.certificate_pem),
        ("server.key", server.key_pem),
    ):
        (tmp_path / name).write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "acl").write_text("user tl:hub\ntopic read #\npattern write up/%u\n")
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\ncafile {tmp_path}/root.pem\ncertfile {tmp_path}/server.pem\n"
        f"keyfile {tmp_path}/server.key\nrequire_certificate true\nuse_identity_as_username true\nacl_file {tmp_path}/acl\n"
        f"user {_user()}\n"
    )
    broker = subprocess.Popen(["mosquitto", "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.PIPE, text=True)
    try:
        assert broker.stderr is not None
        assert any("running" in line for line in broker.stderr)
        threading.Thread(target=broker.stderr.read, daemon=True).start()
        received = _deliver(tmp_path, port, hub, camera)
        assert received == {"up/cam-1": b"hello"}
    finally:
        broker.terminate()
        broker.wait(10)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _deliver(folder: Path, port: int, hub: Issued, camera: Issued) -> dict[str, bytes]:
    """What the hub hears when the camera speaks as another device and as itself."""
    received: dict[str, bytes] = {}
    heard, subscribed = threading.Event(), threading.Event()
    listener, speaker = _client(folder, "hub", hub), _client(folder, "camera", camera)

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        received[message.topic] = message.payload
        if message.topic == "up/cam-1":
            heard.set()

    listener.on_message = on_message
    listener.on_connect = lambda client, *_: client.subscribe("up/#", qos=1)
    listener.on_subscribe = lambda *_: subscribed.set()
    try:
        listener.connect("127.0.0.1", port)
        listener.loop_start()
        assert subscribed.wait(10)
        speaker.connect("127.0.0.1", port)
        speaker.loop_start()
        speaker.publish("up/cam-2", b"spoofed", qos=1)
        speaker.publish("up/cam-1", b"hello", qos=1)
        assert heard.wait(10)
    finally:
        for client in (speaker, listener):
            client.disconnect()
            client.loop_stop()
    return received


def _client(folder: Path, name: str, identity: Issued) -> Any:
    (folder / f"{name}.pem").write_text(identity.certificate_pem)
    (folder / f"{name}.key").write_text(identity.key_pem)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name)
    client.tls_set(str(folder / "root.pem"), str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    return client

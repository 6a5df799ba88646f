from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge_agent.core.errors import ConfigError, DiskFull
from edge_agent.sync.keys import FileKeys, fingerprint
from tests.agent.sync.authority import private_pem


def test_a_pending_key_is_the_same_after_a_restart_until_it_is_settled(tmp_path: Path) -> None:
    first = FileKeys(tmp_path).pending("renew", "a1").public_der()
    assert FileKeys(tmp_path).pending("renew", "a1").public_der() == first
    FileKeys(tmp_path).settled("renew")
    assert FileKeys(tmp_path).pending("renew", "a1").public_der() != first


def test_purposes_do_not_disturb_each_other_and_a_new_tag_destroys_the_old_key(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path)
    enrolling = keys.pending("enroll", "x").public_der()
    first = keys.pending("renew", "a1").public_der()
    assert keys.pending("renew", "b2").public_der() != first
    assert keys.pending("renew", "a1").public_der() != first, "it was destroyed"
    keys.settled("renew")
    assert keys.pending("enroll", "x").public_der() == enrolling


def test_keys_are_on_the_disk_for_their_owner_only_and_in_no_repr(tmp_path: Path) -> None:
    key = FileKeys(tmp_path).pending("renew", "a1")
    (path,) = (tmp_path / "pending-keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(key) and "PRIVATE" not in repr(vars(FileKeys(tmp_path)))
    assert path.read_bytes() == key.stored()


def test_it_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    key = FileKeys(tmp_path).pending("renew", "a1")
    public = serialization.load_der_public_key(key.public_der())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(key.sign(b"data"), b"data", ec.ECDSA(hashes.SHA256()))
    csr = x509.load_der_x509_csr(key.request("cam-1"))
    assert csr.is_signature_valid and csr.subject.rfc4514_string() == "CN=cam-1" and csr.public_key() == public
    assert fingerprint(key).startswith("sha256:") and len(fingerprint(key)) == 71
    assert FileKeys(tmp_path).load(key.stored()).public_der() == key.public_der()


def test_a_damaged_pending_key_is_made_anew(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path)
    keys.pending("renew", "a1")
    (path,) = (tmp_path / "pending-keys").iterdir()
    path.write_bytes(b"\0" * 200)  # as a file system may leave it
    assert keys.pending("renew", "a1").public_der() == keys.pending("renew", "a1").public_der()


def test_what_is_no_ec_p256_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    other_curve = private_pem(ec.generate_private_key(ec.SECP384R1()))
    other_kind = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for stored in (other_curve, other_kind, b"s3cret nonsense", b""):
        with pytest.raises(ConfigError) as raised:
            FileKeys(tmp_path).load(stored)
        assert "s3cret" not in str(raised.value) and "PRIVATE" not in str(raised.value)


def test_a_disk_that_takes_no_key_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "pending-keys").write_text("in the way")
    with pytest.raises(DiskFull, match="pending-keys"):
        FileKeys(tmp_path).pending("renew", "a1")

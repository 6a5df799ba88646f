"""What strangers send in place of a CSR."""

import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from cloud_hub.core.errors import Invalid
from cloud_hub.trust.csr import checked_csr, fingerprint

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cam-1")])


SHA256 = hashes.SHA256()


def csr_pem(key: Any, algorithm: Any = SHA256) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def as_pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER)


def forged() -> str:
    """Names a key and is signed by another one."""
    mine, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    der = der_of(csr_pem(mine))
    encoding = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    return as_pem(der.replace(mine.public_key().public_bytes(*encoding), theirs.public_key().public_bytes(*encoding)))


def unsigned() -> str:
    der = bytearray(der_of(csr_pem(ec.generate_private_key(ec.SECP256R1()))))
    der[-30:] = bytes(30)
    return as_pem(bytes(der))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("forged", "signed by its own key"),
        ("unsigned", "CSR"),
        ("rsa", "P-256"),
        ("huge rsa", "CSR"),
        ("p-384", "P-256"),
        ("ed25519", "P-256"),
        ("sha-1", "CSR"),
        ("huge", "longer"),
        ("empty", "cannot be read"),
        ("surrogate", "cannot be read"),
        ("garbage", "cannot be read"),
        ("certificate", "cannot be read"),
    ],
)
def test_anything_but_a_signed_request_for_a_p256_key_is_refused(kind: str, named: str) -> None:
    made: dict[str, Callable[[], str]] = {
        "forged": forged,
        "unsigned": unsigned,
        "rsa": lambda: csr_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "huge rsa": lambda: csr_pem(rsa.generate_private_key(public_exponent=3, key_size=4096)) + "x" * 20_000,
        "p-384": lambda: csr_pem(ec.generate_private_key(ec.SECP384R1())),
        "ed25519": lambda: csr_pem(ed25519.Ed25519PrivateKey.generate(), None),
        "sha-1": lambda: _with_hash_named(b"\x2a\x86\x48\xce\x3d\x04\x01"),  # ecdsa-with-SHA1
        "huge": lambda: "x" * 100_000,
        "empty": lambda: "",
        "surrogate": lambda: "\ud800",
        "garbage": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "certificate": lambda: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    with pytest.raises(Invalid, match=named):
        checked_csr(made[kind]())


def _with_hash_named(oid: bytes) -> str:
    """A request that says it was signed with another hash; the encodings of both names are padded to one length."""
    der = der_of(csr_pem(ec.generate_private_key(ec.SECP256R1())))
    return as_pem(der.replace(b"\x2a\x86\x48\xce\x3d\x04\x03\x02", oid + b"\x00"))


def test_a_thousand_broken_requests_are_refused_and_nothing_worse() -> None:
    genuine, chance = der_of(csr_pem(ec.generate_private_key(ec.SECP256R1()))), random.Random(4)
    refused = 0
    for _ in range(1000):
        broken = bytearray(genuine)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        pem = as_pem(bytes(broken[: chance.choice((len(broken), chance.randrange(len(broken))))]))
        try:
            checked_csr(pem)
        except Invalid:
            refused += 1
    assert refused > 950  # a change that changes nothing is rare


def test_a_fingerprint_is_the_keys_alone() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = checked_csr(csr_pem(key)), checked_csr(csr_pem(key, hashes.SHA384()))
    assert fingerprint(first.public_key) == fingerprint(second.public_key) == fingerprint(key.public_key())
    assert fingerprint(key.public_key()) != fingerprint(ec.generate_private_key(ec.SECP256R1()).public_key())

"""Certificates per second as devices get them: a token redeemed, a certificate renewed, each durable before it is answered.

Reference, in the same run and in turns with it: bare ``cryptography`` checks the same CSR and signs the same leaf, and keeps
nothing. The difference is what a token that works once and a certificate that can be revoked cost.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_hub.core.config import HubConfig
from cloud_hub.core.model import Principal, Role
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.issuance import RENEW_CONTEXT
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from scripts.benches._figures import figure
from scripts.benches._postgres import database, postgres

ADMIN = Principal(role=Role.ADMIN, name="bench")
BOARD = "camera-x86"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    name: str
    key: ec.EllipticCurvePrivateKey
    csr: str
    next_csr: str
    vouched: bytes  # the old key's signature over the next CSR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    devices, rounds = (100, 3) if parser.parse_args().quick else (500, 5)
    with tempfile.TemporaryDirectory() as folder:
        _measure("sqlite", f"sqlite:///{folder}/hub.db", Path(folder), devices, rounds)
        try:
            with postgres() as socket:
                _measure("postgres", database(socket, "enroll"), Path(folder) / "pg", devices, rounds)
        except RuntimeError as error:  # no server is installed
            print(f"its figures are left out: {error}", file=sys.stderr)


def _measure(kind: str, url: str, home: Path, count: int, rounds: int) -> None:
    home.mkdir(exist_ok=True)
    authority = Authority.create(home / "ca")
    bare = _Bare()
    enrolled, renewed, signed = [], [], []
    with closing(Database(url)) as db:
        db.migrate()
        service = EnrollmentService(db, authority, SystemClock(), HubConfig())
        for number in range(rounds):
            devices = [_device(f"cam-{number}-{one}") for one in range(count)]
            tokens = [service.create_device(ADMIN, device.name, BOARD, {})[1] for device in devices]
            signed.append(_rate(count, lambda: bare.sign_all(devices)))  # noqa: B023  # called at once
            pems: list[str] = []
            enrolled.append(_rate(count, lambda: pems.extend(_enroll(service, devices, tokens))))  # noqa: B023
            renewed.append(_rate(count, lambda: _renew(service, devices, pems)))  # noqa: B023
    reference = statistics.median(signed)
    figure("enroll", f"enrolments, {kind}", statistics.median(enrolled), "certificates/s", reference=reference)
    figure("enroll", f"renewals, {kind}", statistics.median(renewed), "certificates/s", reference=reference)


def _enroll(service: EnrollmentService, devices: Sequence[Device], tokens: Sequence[str]) -> list[str]:
    return [service.enroll(token, device.csr, BOARD).certificate_pem for device, token in zip(devices, tokens, strict=True)]


def _renew(service: EnrollmentService, devices: Sequence[Device], pems: Sequence[str]) -> None:
    for device, pem in zip(devices, pems, strict=True):
        service.renew(pem, device.next_csr, device.vouched)


class _Bare:
    """An issuing key and ``cryptography``."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuing")])
        self._key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def sign_all(self, devices: Sequence[Device]) -> None:
        for device in devices:
            self._sign(device)

    def _sign(self, device: Device) -> bytes:
        csr = x509.load_pem_x509_csr(device.csr.encode())
        if not csr.is_signature_valid:
            raise RuntimeError("the bench made a CSR that is none")
        now, key = datetime.now(UTC), csr.public_key()
        usage = [True, *[False] * 8]
        return (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "default"),
                        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "device"),
                        x509.NameAttribute(NameOID.COMMON_NAME, device.name),
                    ]
                )
            )
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(*usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(self._key_id, critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


def _device(name: str) -> Device:
    key, following = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    csr, next_csr = _csr(key), _csr(following)
    der = next_csr.public_bytes(serialization.Encoding.DER)
    vouched = key.sign(RENEW_CONTEXT + der, ec.ECDSA(hashes.SHA256()))
    return Device(name=name, key=key, csr=_pem(csr), next_csr=_pem(next_csr), vouched=vouched)


def _csr(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())


def _pem(csr: x509.CertificateSigningRequest) -> str:
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def _rate(count: int, run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()

"""What a caller shows, and what the hub makes of it."""

from pathlib import Path
from typing import Any

import pytest

from cloud_hub.rpc.auth import Certificates, bearer, certificate_proof, source_of
from cloud_hub.services.access import CertificateProof, Unwelcome, new_secret
from cloud_hub.trust.authority import Authority
from tests.hub.rpc.running import device_identity


class Context:
    """As much of gRPC's as is looked at."""

    def __init__(self, *, pem: bytes | None = None, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        self._auth = {} if pem is None else {"x509_pem_cert": [pem]}
        self._metadata = metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(Path(tmp_path_factory.mktemp("ca")) / "ca")


def shown(pem: bytes | None) -> Any:
    return Certificates().shown(Context(pem=pem))  # type: ignore[arg-type]


def test_a_certificate_is_its_serial_and_its_key(authority: Authority) -> None:
    one, other = (device_identity(authority, "cam-1").certificate_pem.encode() for _ in range(2))
    first, second = shown(one), shown(other)
    assert isinstance(first, CertificateProof) and first == shown(one)
    assert first.serial != second.serial and first.key_digest != second.key_digest


def test_no_certificate_is_a_stranger() -> None:
    assert shown(None) is None


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(Unwelcome):
        certificate_proof(pem)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_its_public_id_and_a_digest_that_nobody_sees(scheme: str) -> None:
    secret, proof = new_secret()
    found = bearer(Context(metadata=(("user-agent", "x"), ("authorization", f"{scheme} {secret}"))))  # type: ignore[arg-type]
    assert found == proof
    assert secret.split("_", 2)[2] not in repr(found) and proof.digest not in repr(found)


def test_without_a_token_one_is_a_stranger() -> None:
    assert bearer(Context()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        ("",),
        ("Bearer",),
        ("Bearer ",),
        ("Basic YTpi",),
        ("Bearer tl_0123456789abcdef_short",),
        ("Bearer " + "x" * 5000,),
        (b"Bearer binary",),
        ("Bearer tl_0123456789abcdef_" + "a" * 43, "Bearer tl_0123456789abcdef_" + "b" * 43),
    ],
)
def test_a_header_that_is_no_token_is_refused_and_not_quoted(values: tuple[str | bytes, ...]) -> None:
    with pytest.raises(Unwelcome) as refused:
        bearer(Context(metadata=tuple(("authorization", value) for value in values)))  # type: ignore[arg-type]
    assert "tl_" not in str(refused.value) and len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:10.0.0.7:41414", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:443", "2001:db8::1"),
        ("ipv6:[::1]:443", "::1"),
        ("unix:/run/hub.sock", "unix:/run/hub.sock"),
        ("ipv4:nonsense", "ipv4:nonsense"),
    ],
)
def test_a_source_is_an_address_without_its_port(peer: str, source: str) -> None:
    assert source_of(peer) == source

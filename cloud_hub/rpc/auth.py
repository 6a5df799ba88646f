"""What a caller shows for itself: a client certificate whose key TLS has seen used, or a bearer token. Whom that makes the
caller is the database's to say: ``cloud_hub.services.access``."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.services.access import CertificateProof, Proof, Unwelcome, token_proof
from cloud_hub.trust.csr import fingerprint

Context = grpc.aio.ServicerContext[Any, Any]

_CACHED_CERTIFICATES = 4096
_BEARER = "bearer "
_MAX_AUTHORIZATION = 256  # characters; ours are a third of it


@dataclass(frozen=True, slots=True)
class Door:
    """A port, as far as it matters who comes in."""

    show: Callable[[Context], Proof | None]  # None: a stranger; raises Unwelcome
    needs: str  # what strangers are told
    strangers: bool  # whether anyone can connect: then no request is read before its caller is known


class Certificates:
    """Parses a certificate once and remembers it."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, CertificateProof] = OrderedDict()  # by their PEM, about a kilobyte each

    def shown(self, context: Context) -> Proof | None:
        shown = context.auth_context().get("x509_pem_cert")
        if not shown:
            return None
        (pem,) = shown  # TLS knows of one
        proof = self._known.get(pem)
        if proof is None:
            proof = self._known[pem] = certificate_proof(pem)
            if len(self._known) > _CACHED_CERTIFICATES:
                self._known.popitem(last=False)
        return proof


def certificate_proof(pem: bytes) -> CertificateProof:
    """Raises Unwelcome for what is no certificate of an EC key."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError as error:
        raise Unwelcome("the client certificate cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Unwelcome("the client certificate is not for an EC key: use one that this hub issued")
    return CertificateProof(f"{certificate.serial_number:x}", fingerprint(key))


def bearer(context: Context) -> Proof | None:
    """Of the header ``authorization: Bearer <token>``; None where there is no such header."""
    found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if not found:
        return None
    value = found[0]
    if len(found) > 1 or not isinstance(value, str) or len(value) > _MAX_AUTHORIZATION or not value[:7].lower() == _BEARER:
        raise Unwelcome("the header must be `authorization: Bearer <token>`, once")
    return token_proof(value[7:])


def nothing(context: Context) -> Proof | None:
    """Whatever is shown on a port for strangers, they stay strangers."""
    return None


def source_of(peer: str) -> str:
    """The address of gRPC's ``ipv4:10.0.0.7:41414``, without the port; whatever else a peer is, as gRPC says it."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    host = unquote(rest).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return peer

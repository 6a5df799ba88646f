"""The hub's Enrollment service as its contract says, over a throw-away authority: tokens, approval, renewal, revocation."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protos.v1 import enrollment_pb2 as pb
from protos.v1 import enrollment_pb2_grpc
from tests.agent.sync.authority import Authority

GRACE = timedelta(days=730)
REFUSED = "token is wrong, used or too old"


class Registrar(enrollment_pb2_grpc.EnrollmentServicer):
    def __init__(self, authority: Authority, *, tenant: str = "default", board: str = "camera-x86") -> None:
        self.changed = threading.Condition()  # guards what follows, and tells of new certificates
        self.tokens: dict[str, str] = {}  # token -> device
        self.unapproved: set[str] = set()  # devices
        self.asked: list[str] = []  # fingerprints of the keys that were asked for, repeats too
        self.issued: defaultdict[str, list[str]] = defaultdict(list)  # device -> serials, in order
        self.revoked: set[str] = set()  # serials
        self.unknown: set[str] = set()  # serials that a restored backup does not have
        self.lives: dict[str, timedelta] = {}  # device -> how long its certificates last
        self.age = timedelta(0)  # of a new certificate
        self.lost = 0  # so many answers do not arrive
        self.before_answer: Callable[[], object] = lambda: None
        self.down = False
        self.broker, self.hub_address, self.enroll_address = (
            pb.Broker(host="localhost", port=8883, protocol=5),
            "localhost:7443",
            "",
        )
        self._authority, self._tenant, self._board = authority, tenant, board
        self._keys: dict[str, str] = {}  # token -> fingerprint of the key that used it

    def issue(self, device: str, *, age: timedelta | None = None, life: timedelta | None = None) -> tuple[bytes, bytes]:
        """Key and chain, as enrolment would have given them ``age`` ago."""
        life = life or self.lives.get(device, timedelta(days=1))
        key, chain = self._authority.issue(device, life=life, age=self.age if age is None else age)
        self._remember(device, chain)
        return key, chain

    def Enroll(self, request: pb.EnrollRequest, context: grpc.ServicerContext) -> pb.EnrollReply:
        key, fingerprint = self._proven(request.csr_pem, context)
        device = self.tokens.get(request.token)
        if device is None or self._keys.get(request.token, fingerprint) != fingerprint or request.board != self._board:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, REFUSED)
            raise AssertionError("abort raises")
        if device in self.unapproved:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "an admin has to approve the key")
        self._keys[request.token] = fingerprint
        chain = self._certify(device, key)
        self._answer(context)
        return pb.EnrollReply(
            device_id=device,
            tenant=self._tenant,
            certificate_pem=chain.decode(),
            ca_pem=self._authority.pem.decode(),
            hub_address=self.hub_address,
            broker=self.broker,
            enroll_address=self.enroll_address,
        )

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewReply:
        key, _ = self._proven(request.csr_pem, context)
        old = x509.load_pem_x509_certificate(request.certificate_pem.encode())
        device = str(old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        old_key, csr = old.public_key(), x509.load_pem_x509_csr(request.csr_pem.encode())
        assert isinstance(old_key, ec.EllipticCurvePublicKey)
        proof = b"tideline renew v1\0" + csr.public_bytes(serialization.Encoding.DER)
        try:
            old_key.verify(request.signature, proof, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the old key did not sign")
        if not self.good(f"{old.serial_number:x}") or old.not_valid_after_utc + GRACE < datetime.now(UTC):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the certificate is not known, revoked or too old")
        chain = self._certify(device, key)
        self._answer(context)
        return pb.RenewReply(certificate_pem=chain.decode(), ca_pem=self._authority.pem.decode())

    def good(self, serial: str) -> bool:
        known = {one for serials in self.issued.values() for one in serials}
        return serial in known - self.unknown - self.revoked

    def _proven(self, csr_pem: str, context: grpc.ServicerContext) -> tuple[ec.EllipticCurvePublicKey, str]:
        if self.down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        assert csr.is_signature_valid and isinstance(key, ec.EllipticCurvePublicKey)
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        fingerprint = "sha256:" + hashlib.sha256(der).hexdigest()
        self.asked.append(fingerprint)
        return key, fingerprint

    def _certify(self, device: str, key: ec.EllipticCurvePublicKey) -> bytes:
        life = self.lives.get(device, timedelta(days=1))
        chain = self._authority.certify(device, key, life=life, age=self.age)
        self._remember(device, chain)
        return chain

    def _remember(self, device: str, chain: bytes) -> None:
        with self.changed:
            self.issued[device].append(f"{x509.load_pem_x509_certificate(chain).serial_number:x}")
            self.changed.notify_all()

    def _answer(self, context: grpc.ServicerContext) -> None:
        self.before_answer()
        if self.lost:
            self.lost -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

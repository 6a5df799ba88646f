"""Two TUF repositories of a size, made with python-tuf, and served over gRPC with mutual TLS and over plain HTTP."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Broker, Identity
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import trust_pb2, trust_pb2_grpc

TENANT, BOARD, MODEL = ids.tenant_id("default"), "camera-x86", ids.model_name("street")
KINDS = ("manifest", "model", "golden")
NAMES = {"manifest": "manifest.pb", "model": "model.onnx", "golden": "golden.pb"}
BITS = 8


@dataclass
class Repositories:
    """Image and director; ``files`` are those of the image repository by name on the wire, ``roots`` both first roots."""

    targets: int
    files: dict[str, bytes] = field(default_factory=dict)
    roots: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys = {role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets", "bins")}
        self._director = CryptoSigner.generate_ed25519()
        bins = SuccinctRoles([self._keys["bins"].public_key.keyid], 1, BITS, "bin")
        delegations = Delegations({self._keys["bins"].public_key.keyid: self._keys["bins"].public_key}, succinct_roles=bins)
        self._bins = {name: Targets(expires=_in(90)) for name in bins.get_roles()}
        self._bin_of = bins.get_role_for_target
        self._version = 0
        for number in range(1, self.targets // len(KINDS) + 1):
            for target in release(number):
                self._bins[self._bin_of(target.path)].targets[target.path] = target
        self.files["1.targets.json"] = _signed(Targets(expires=_in(90), delegations=delegations), self._keys["targets"])
        for name in self._bins:
            self._sign_bin(name)
        self._publish()
        online = {role: self._keys[role] for role in ("timestamp", "snapshot", "targets")}
        self.roots[1] = self.files["1.root.json"] = _root(self._keys["root"], online)
        self.roots[2] = _root(self._keys["root"], dict.fromkeys(online, self._director))

    def release_one_more(self) -> int:
        """Its number: three files in as many bins, a snapshot and a timestamp."""
        number = self.targets // len(KINDS) + 1
        self.targets += len(KINDS)
        for target in release(number):
            name = self._bin_of(target.path)
            self._bins[name].targets[target.path] = target
            self._bins[name].version += 1
            self._sign_bin(name)
        self._publish()
        return number

    def direct(self, device: str, generation: int, nonce: bytes) -> bytes:
        bound = {"device": device, "tenant": TENANT, "board": BOARD, "generation": generation, "nonce": nonce.hex()}
        bound["now_ms"] = to_ms(dt.datetime.now(dt.UTC))
        targets = {target.path: target for target in release(generation)}
        signed = Targets(version=generation, expires=_in(1), targets=targets, unrecognized_fields={"tideline": bound})
        return _signed(signed, self._director)

    def _sign_bin(self, name: str) -> None:
        self.files[f"{self._bins[name].version}.{name}.json"] = _signed(self._bins[name], self._keys["bins"])

    def _publish(self) -> None:
        self._version += 1
        meta = {f"{name}.json": MetaFile(bin_.version) for name, bin_ in self._bins.items()} | {"targets.json": MetaFile(1)}
        snapshot = _signed(Snapshot(version=self._version, expires=_in(7), meta=meta), self._keys["snapshot"])
        self.files[f"{self._version}.snapshot.json"] = snapshot
        newest = MetaFile.from_data(self._version, snapshot, ["sha256"])
        timestamp = Timestamp(version=self._version, expires=_in(1), snapshot_meta=newest)
        self.files["timestamp.json"] = _signed(timestamp, self._keys["timestamp"])


def release(number: int) -> list[TargetFile]:
    """The three files of a version, whose generation and release number are the same."""
    folder = f"models/{TENANT}/{MODEL}/{number}/onnx-int8"
    targets = []
    for kind in KINDS:
        custom = {"kind": kind, "boards": [BOARD], "release": number}
        digest = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
        targets.append(TargetFile(1000, {"sha256": digest}, f"{folder}/{NAMES[kind]}", {"custom": custom}))
    return targets


@contextmanager
def over_grpc(repositories: Repositories, folder: Path, generation: dict[str, int]) -> Iterator[Identity]:
    """Of a device ``bench``; it is to run the version and generation that ``generation["now"]`` says."""
    servers, devices = _self_signed("localhost"), _self_signed("bench")
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trust_pb2_grpc.add_TrustServicer_to_server(_Trust(repositories, generation), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([servers], devices[1], require_client_auth=True))
    server.start()
    identity = Identity(
        device_id=ids.device_id("bench"),
        tenant=TENANT,
        board=BOARD,
        hub_address=f"localhost:{port}",
        broker=Broker(host="localhost", port=1),
        folder=folder / identities.FOLDER,
    )
    try:
        yield identities.save(identity, key_pem=devices[0], certificate_pem=devices[1], ca_pem=servers[1])
    finally:
        server.stop(None).wait(10)


@contextmanager
def over_http(repositories: Repositories) -> Iterator[str]:
    """The URL of the image repository's metadata."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: else each answer waits for an acknowledgement
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            data = repositories.files.get(self.path.rpartition("/")[2])
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metadata/"
    finally:
        server.shutdown()


class _Trust(trust_pb2_grpc.TrustServicer):
    def __init__(self, repositories: Repositories, generation: dict[str, int]) -> None:
        self._repositories, self._generation = repositories, generation

    def GetMetadata(self, request: Any, context: grpc.ServicerContext) -> Iterator[trust_pb2.MetadataChunk]:
        director = request.repository == trust_pb2.REPOSITORY_DIRECTOR
        files = {"1.root.json": self._repositories.roots[2]} if director else self._repositories.files
        if request.name not in files:
            context.abort(grpc.StatusCode.NOT_FOUND, "none")
        data = files[request.name]
        for start in range(0, len(data), 64 << 10):
            yield trust_pb2.MetadataChunk(data=data[start : start + (64 << 10)])

    def GetDirector(self, request: Any, _: grpc.ServicerContext) -> trust_pb2.GetDirectorReply:
        return trust_pb2.GetDirectorReply(metadata=self._repositories.direct("bench", self._generation["now"], request.nonce))


def _root(root_key: CryptoSigner, online: dict[str, CryptoSigner]) -> bytes:
    root = Root(version=1, expires=_in(365), consistent_snapshot=True)
    root.add_key(root_key.public_key, "root")
    for role, signer in online.items():
        root.add_key(signer.public_key, role)
    return _signed(root, root_key)


def _signed(signed: Signed, signer: CryptoSigner) -> bytes:
    """As the hub stores it: compact."""
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(signer)
    return json.dumps(metadata.to_dict(), separators=(",", ":"), sort_keys=True).encode()


def _in(days: int) -> dt.datetime:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).replace(microsecond=0)


def _self_signed(name: str) -> tuple[bytes, bytes]:
    """Key and certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)

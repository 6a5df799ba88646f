"""A hub that does what a test says: a real broker and a real gRPC server, with everything behind them in memory."""

import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import paho.mqtt.client as paho
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion
from tuf.api.metadata import TargetFile

from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Broker, Identity, Receipt
from protos.contract import codec, ids, topics
from protos.contract.ids import Digest, digest_of
from protos.contract.telemetry import Batch, Lane, Mark, first_gap_free
from protos.contract.twin import Challenger, DesiredTwin, ModelAssignment, PackageAssignment, ReportedTwin, Status
from protos.v1 import (
    artifacts_pb2,
    artifacts_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    trust_pb2_grpc,
)
from tests.agent.models import ModelFiles
from tests.agent.sync.authority import Authority
from tests.agent.sync.broker import Mosquitto
from tests.agent.sync.registrar import Registrar
from tests.conformance.repository import Release, Repository, customised
from tests.conformance.trust import Answers, TrustService

TENANT = ids.tenant_id("default")
BOARD = "camera-x86"
CHUNK_BYTES = 4096
DEADLINE_S = 30.0


@dataclass
class Device:
    """What the hub has heard from one device."""

    statuses: list[Status] = field(default_factory=list)
    reported: list[ReportedTwin] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    uploads: list[datasets_pb2.UploadSampleRequest] = field(default_factory=list)
    acknowledged: bool = True  # watermarks are sent for what arrives

    @property
    def twin(self) -> ReportedTwin | None:
        return self.reported[-1] if self.reported else None


class Hub(artifacts_pb2_grpc.ArtifactsServicer, datasets_pb2_grpc.DatasetsServicer):
    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.heard = threading.Condition()
        self.devices: defaultdict[str, Device] = defaultdict(Device)
        self.blobs: dict[Digest, bytes] = {}
        self.registrar = Registrar(self.authority, tenant=TENANT, board=BOARD)
        self.tokens = self.registrar.tokens
        self.downloads: list[tuple[str, int]] = []  # (digest, offset) as asked for
        self.hold: dict[str, int] = {}  # digest -> bytes after which its download stands still
        self.streams: dict[
            str, Callable[[int], Iterable[bytes]]
        ] = {}  # digest -> what comes from an offset instead of the blob
        self.repository = Repository(TENANT)
        self._answers: dict[str, Answers] = {}  # by device
        self.refuse_uploads = False
        self._generation: defaultdict[str, int] = defaultdict(int)
        self.broker = Mosquitto(folder / "broker", self.authority)
        self.broker.start()
        self._client = self._listen(folder / "hub")
        self._server, self.port, self.enroll_port = self._serve()
        self.registrar.hub_address, self.registrar.enroll_address = f"localhost:{self.port}", f"localhost:{self.enroll_port}"
        self.registrar.broker = enrollment_pb2.Broker(host="localhost", port=self.broker.port, protocol=5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._server.stop(None).wait(10)
        self.broker.stop()

    # -- what a test does ---------------------------------------------------------------------------------------------

    def identity(
        self,
        name: str,
        data_dir: Path,
        repository: Repository | None = None,
        *,
        life: timedelta = timedelta(days=1),
        age: timedelta = timedelta(0),
    ) -> Identity:
        """What enrolment would have left in ``data_dir`` ``age`` ago; with a ``repository`` of its own where one is given.

        ``life``: of this certificate and of those to come.
        """
        if repository is not None:
            self._answers[name] = Answers(repository)
        self.registrar.lives[name] = life
        key_pem, certificate_pem = self.registrar.issue(name, age=age)
        identity = Identity(
            device_id=ids.device_id(name),
            tenant=TENANT,
            board=BOARD,
            hub_address=f"localhost:{self.port}",
            broker=Broker(host="localhost", port=self.broker.port),
            folder=data_dir / identities.FOLDER,
            enroll_address=f"localhost:{self.enroll_port}",
        )
        trusted = self.answers(name).repository
        return identities.save(
            identity,
            key_pem=key_pem,
            certificate_pem=certificate_pem,
            ca_pem=self.authority.pem,
            image_root=trusted.images.root,
            director_root=trusted.director.root,
            receipt=Receipt(at=datetime.now(UTC) - age),
        )

    def answers(self, device: str) -> Answers:
        """What the Trust service tells a device, and where a test says otherwise."""
        return self._answers.setdefault(device, Answers(self.repository))

    def put(self, files: ModelFiles) -> None:
        for data in (files.manifest_bytes, files.model, files.golden_bytes):
            self.blobs[digest_of(data)] = data

    def publish_model(self, files: ModelFiles, *, version: int | None = None) -> ModelAssignment:
        """Into the store and the image repository; under another ``version`` than the manifest's where one is given."""
        self.put(files)
        return self.repository.release(files, version=version).assignment

    def desire(self, device: str, model: ModelAssignment, *, release: Release | None = None) -> int:
        """The generation of it. The director signs it, and an older version is released anew; or as ``release`` says."""
        self._generation[device] += 1
        answers = self.answers(device)
        answers.generation, answers.release = self._generation[device], release or answers.repository.promote(model)
        twin = DesiredTwin(generation=self._generation[device], model=model, rollout_id="r1")
        self.send(device, topics.DESIRED, codec.encode_desired(twin), retain=True)
        return twin.generation

    def challenge(self, device: str, model: ModelAssignment, challenger: ModelAssignment | None, **shares: float) -> int:
        """``model`` goes on, and is challenged, or no more; the generation of it."""
        self._generation[device] += 1
        answers = self.answers(device)
        answers.generation, answers.release = self._generation[device], answers.repository.releases[model]
        answers.beside = answers.repository.promote(challenger).targets if challenger is not None else ()
        asked = Challenger(model=challenger, **shares) if challenger is not None else None
        twin = DesiredTwin(generation=self._generation[device], model=model, rollout_id="r1", challenger=asked)
        self.send(device, topics.DESIRED, codec.encode_desired(twin), retain=True)
        return twin.generation

    def skip(self, device: str) -> None:
        """One generation: above that of an agent equipped by hand."""
        self._generation[device] += 1

    def publish_package(self, package: PackageAssignment, data: bytes, *, release: int) -> TargetFile:
        """Into the store and the image repository, for every board; what the director is to name."""
        self.blobs[package.digest] = data
        kind = package.kind.name.lower()
        path = f"{kind}/{TENANT}/{package.name}/{package.version}/any"
        target = customised(TargetFile.from_data(path, data, ["sha256"]), kind=kind, boards=[], release=release)
        self.repository.images.add([target])
        return target

    def desire_all(
        self, device: str, model: ModelAssignment, packages: Sequence[PackageAssignment], targets: Sequence[TargetFile]
    ) -> int:
        """A model and packages, which are ``targets``; the generation of it."""
        self._generation[device] += 1
        answers = self.answers(device)
        answers.generation, answers.release = self._generation[device], answers.repository.promote(model)
        answers.beside = targets
        twin = DesiredTwin(generation=self._generation[device], model=model, rollout_id="r1", packages=tuple(packages))
        self.send(device, topics.DESIRED, codec.encode_desired(twin), retain=True)
        return twin.generation

    def call_off(self, device: str) -> int:
        """Ask for nothing, and so for an end of what is under way; the generation of it."""
        self._generation[device] += 1
        self.answers(device).generation, self.answers(device).release = self._generation[device], None
        self.send(device, topics.DESIRED, codec.encode_desired(DesiredTwin(generation=self._generation[device])), retain=True)
        return self._generation[device]

    def rotate(self, device: str, model: ModelAssignment | None = None) -> int:
        """Ask for a new certificate, and for the ``model`` as before; the generation of it."""
        self._generation[device] = 1 + max(self._generation[device], 1)  # above that of an agent equipped by hand
        twin = DesiredTwin(generation=self._generation[device], model=model, renew_before=datetime.now(UTC))
        self.send(device, topics.DESIRED, codec.encode_desired(twin), retain=True)
        return twin.generation

    def revoke(self, device: str) -> None:
        """As an admin does: every certificate it has, at the hub and at the broker, and its connection with them."""
        self.registrar.revoked.update(self.registrar.issued[device])
        self.broker.revoke(self.registrar.revoked)

    def pretend(self, device: str, model: ModelAssignment) -> int:
        """A desired twin that the director knows nothing of, as whoever holds the broker can send it; the generation of it."""
        self._generation[device] += 1
        twin = DesiredTwin(generation=self._generation[device], model=model)
        self.send(device, topics.DESIRED, codec.encode_desired(twin), retain=True)
        return twin.generation

    def send(self, device: str, kind: str, payload: bytes, *, retain: bool = False) -> None:
        topic = topics.of(TENANT, ids.device_id(device), kind)
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
        with self.heard:
            assert self.heard.wait_for(condition, seconds), f"waited {seconds} s for {what}"

    # -- what comes over MQTT -------------------------------------------------------------------------------------------

    def _listen(self, folder: Path) -> paho.Client:
        folder.mkdir()
        key, certificate = self.authority.issue("tl:hub")
        for name, content in (("key.pem", key), ("cert.pem", certificate), ("ca.pem", self.authority.pem)):
            (folder / name).write_bytes(content)
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="tl:hub")
        client.tls_set_context(context)
        subscribed = threading.Event()
        client.on_connect = lambda it, *_: it.subscribe(topics.HUB_SUBSCRIPTION, qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _c, _u, message: self._received(message.topic, bytes(message.payload))
        client.reconnect_delay_set(1, 1)
        client.connect("localhost", self.broker.port)
        client.loop_start()
        assert subscribed.wait(DEADLINE_S)
        return client

    def _received(self, topic: str, payload: bytes) -> None:
        up = topics.parse_up(topic)
        with self.heard:
            device = self.devices[up.device]
            if up.kind == topics.STATUS:
                device.statuses.append(codec.decode_status(payload))
            elif up.kind == topics.REPORTED:
                device.reported.append(codec.decode_reported(payload))
            else:
                device.batches.append(codec.decode_batch(payload))
            self.heard.notify_all()
        if up.kind == topics.TELEMETRY:
            self.acknowledge(up.device)

    def acknowledge(self, name: str) -> None:
        """Send the watermarks of all that has come from a device, if it is to be acknowledged."""
        device = self.devices[name]
        if not device.acknowledged:
            return
        ranges: defaultdict[tuple[str, Lane], list[tuple[int, int]]] = defaultdict(list)
        for batch in device.batches:
            ranges[batch.epoch, batch.lane].append((batch.first_sequence, batch.last_sequence))
        marks = tuple(
            Mark(epoch=epoch, lane=lane, committed_through=through)
            for (epoch, lane), spans in ranges.items()
            if (through := first_gap_free(sorted(spans), after=-1)) >= 0
        )
        topic = topics.of(TENANT, ids.device_id(name), topics.WATERMARK)
        self._client.publish(topic, codec.encode_watermark(marks), qos=1)

    # -- what comes over gRPC -------------------------------------------------------------------------------------------

    def _serve(self) -> tuple[grpc.Server, int, int]:
        server = grpc.server(futures.ThreadPoolExecutor(16))
        artifacts_pb2_grpc.add_ArtifactsServicer_to_server(self, server)
        datasets_pb2_grpc.add_DatasetsServicer_to_server(self, server)
        enrollment_pb2_grpc.add_EnrollmentServicer_to_server(self.registrar, server)
        trust = TrustService(self.answers, tenant=TENANT, board=BOARD)
        trust_pb2_grpc.add_TrustServicer_to_server(trust, server)
        pair = self.authority.issue("localhost")
        mutual = grpc.ssl_server_credentials([pair], self.authority.pem, require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", mutual)
        enroll_port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        server.start()
        return server, port, enroll_port

    def Locate(self, request: artifacts_pb2.LocateRequest, context: grpc.ServicerContext) -> artifacts_pb2.LocateReply:
        return artifacts_pb2.LocateReply()  # nowhere but here

    def Download(self, request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Iterator[artifacts_pb2.Chunk]:
        with self.heard:
            self.downloads.append((request.digest, request.offset))
            self.heard.notify_all()
        data = self.blobs.get(ids.digest(request.digest))
        if data is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no blob {request.digest}")
            return
        if request.digest in self.streams:
            for piece in self.streams[request.digest](request.offset):
                yield artifacts_pb2.Chunk(data=piece, total_bytes=len(data))
            return
        for start in range(request.offset, len(data), CHUNK_BYTES):
            with self.heard:
                self.heard.wait_for(lambda at=start: at < self.hold.get(request.digest, 1 << 40) or not context.is_active())
            yield artifacts_pb2.Chunk(data=data[start : start + CHUNK_BYTES], total_bytes=len(data))

    def UploadSample(
        self, request: datasets_pb2.UploadSampleRequest, context: grpc.ServicerContext
    ) -> datasets_pb2.UploadSampleReply:
        if self.refuse_uploads:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image")
        serial = f"{x509.load_pem_x509_certificate(context.auth_context()['x509_pem_cert'][0]).serial_number:x}"
        if not self.registrar.good(serial):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the certificate is not known or revoked")
        name = context.auth_context()["x509_common_name"][0].decode()
        with self.heard:
            self.devices[name].uploads.append(request)
            self.heard.notify_all()
        return datasets_pb2.UploadSampleReply(sample_id=request.digest)

"""A whole hub behind real TLS on free ports, without broker and training."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import firmware_images
from cloud_hub.alerting.log import LogSink
from cloud_hub.app.datasheets import DatasheetProcess
from cloud_hub.archive.engine import Engine
from cloud_hub.archive.files import open_files
from cloud_hub.core.config import AlertsConfig, DriftConfig, GrpcConfig, HubConfig
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.model import DEFAULT_TENANT, Baseline, ModelVersion, Principal, Role, Variant
from cloud_hub.core.ports import BrokerAddress
from cloud_hub.rpc.server import HubServer, build_server
from cloud_hub.rpc.services import Services
from cloud_hub.services.access import AccessService
from cloud_hub.services.alerts import AlertService
from cloud_hub.services.audit import AuditService
from cloud_hub.services.datasets import DatasetService
from cloud_hub.services.datasheets import DatasheetService
from cloud_hub.services.deltas import DeltaService
from cloud_hub.services.drift import DriftService
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.readings import ReadingsService
from cloud_hub.services.registry import PublishedVersion, RegistryService
from cloud_hub.services.reports import ReportService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.shadow import ShadowService
from cloud_hub.services.sources import DELTAS, SourceService
from cloud_hub.services.streams import StreamService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.services.training import TrainingService
from cloud_hub.services.trust import TrustService
from cloud_hub.services.users import UserService, recorded
from cloud_hub.store import certificates, users
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.store.web import open_web
from cloud_hub.trust.authority import Authority, Issued
from edge_agent.core.clock import Clock, SystemClock
from protos.contract import codec
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification
from tests.hub.trust_parts import Holders

ADMIN = Principal(role=Role.ADMIN, name="ada")
BROKER = BrokerAddress(host="localhost", port=8883, protocol=5)
LABELS = ("cat", "dog")
START_S = 20.0


class RunningHub:
    """Its services are the real ones; the server runs on a loop of its own, so that tests stay synchronous."""

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, insecure_dev: bool = False, database_url: str = "", **limits: Any
    ) -> None:
        self.clock = clock = clock or SystemClock()
        self._insecure_dev = insecure_dev
        self.config = HubConfig(
            data_dir=folder,
            grpc=replace(GrpcConfig(), port=0, enroll_port=0, token_port=0, names=("localhost", "127.0.0.1"), **limits),
        )
        self.authority = Authority.create(folder / "ca")
        self.db = Database(database_url or f"sqlite:///{folder / 'hub.db'}")
        self.db.migrate()
        artifacts = ArtifactStore(folder / "artifacts")
        deltas = DeltaService(self.db, artifacts, ArtifactStore(folder / "artifacts" / DELTAS), self.config.artifacts, clock)
        files = open_files(self.config.telemetry, folder)
        access = AccessService(self.db, clock)
        fleet = FleetService(self.db, clock, on_revoked=access.changed)
        registry = RegistryService(self.db, artifacts, clock)
        packages = PackageService(self.db, artifacts, clock)
        self.services = Services(
            access=access,
            users=UserService(self.db, self.authority, access, clock),
            audit=AuditService(self.db, clock),
            trust=TrustService(self.db, folder / "trust" / "keys", clock),
            enrollment=EnrollmentService(self.db, self.authority, clock, self.config, on_revoked=access.changed),
            fleet=fleet,
            registry=registry,
            packages=packages,
            artifacts=artifacts,
            deltas=deltas,
            sources=SourceService(
                self.db, registry, artifacts, deltas, open_web(self.config.artifacts, folder / "artifacts"), clock
            ),
            rollouts=RolloutService(self.db, registry, fleet, clock, packages),
            shadows=ShadowService(self.db, registry, fleet, clock),
            training=TrainingService(self.db, clock),
            reports=ReportService(self.db, artifacts),
            datasets=(datasets := DatasetService(self.db, artifacts, clock)),
            datasheets=DatasheetService(datasets.versions, DatasheetProcess(folder / "artifacts")),
            telemetry=TelemetryService(self.db, clock),
            readings=ReadingsService(self.db, Engine(files, self.config.telemetry, folder / "spill"), clock),
            drift=DriftService(self.db, DriftConfig(), lambda episode: "", clock),
            streams=StreamService(self.db, clock),
            alerts=AlertService(self.db, AlertsConfig(), clock, [LogSink()]),
        )
        Holders(self.services.trust).init(clock.now())
        self.user = self.add_user("ada")
        self.metrics = HubMetrics()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub")
        self._thread.start()
        self.server: HubServer = self._run(self._start(clock))

    @property
    def address(self) -> str:
        return self.server.addresses.hub

    @property
    def enroll_address(self) -> str:
        return self.server.addresses.enroll

    def add_user(self, name: str, role: Role = Role.ADMIN, tenant: TenantId = DEFAULT_TENANT, *, days: int = 365) -> Issued:
        """Whom the hub knows, with a certificate that it knows too."""
        identity = self.authority.sign_user(name, tenant=tenant, role=role, days=days)
        with self.db.write() as tx:
            users.add(tx, tenant, name, role, self.clock.now())
            certificates.add(tx, recorded(identity.certificate_pem, tenant, name))
        return identity

    def channel(self, identity: Issued | None = None) -> grpc.Channel:
        """To the mTLS port; without an identity as a stranger."""
        ca = self.authority.ca_pem.encode()
        if identity is None:
            return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(ca))
        pair = (identity.key_pem.encode(), identity.certificate_pem.encode())
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(ca, *pair))

    def token_channel(self, token: str | None = None) -> grpc.Channel:
        """To the port for tokens; without one as a stranger."""
        credentials = grpc.ssl_channel_credentials(self.authority.ca_pem.encode())
        if token is not None:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        return grpc.secure_channel(self.server.addresses.tokens, credentials)

    def enroll_channel(self) -> grpc.Channel:
        return grpc.secure_channel(self.enroll_address, grpc.ssl_channel_credentials(self.authority.ca_pem.encode()))

    def device(self, name: str, tenant: TenantId = DEFAULT_TENANT) -> Issued:
        """Create and enrol one, in process."""
        admin = Principal(role=Role.ADMIN, name="ada", tenant=tenant)
        _, token = self.services.enrollment.create_device(admin, name, "camera-x86", {})
        key, csr = make_csr()
        enrolled = self.services.enrollment.enroll(token, csr, "camera-x86")
        return Issued(certificate_pem=enrolled.certificate_pem, key_pem=key)

    def assign(self, device: str, version: ModelVersion) -> None:
        """Its desired twin names the version's int8 ONNX file."""
        _, assignment = self.services.registry.assignment(version, firmware_images.board("camera-x86"), ())
        with self.db.write() as tx:
            self.services.fleet.set_desired(tx, DeviceId(device), assignment)

    def publish(self, model: str, *, artifact: bytes = b"onnx" * 1000, job_id: str = "") -> ModelVersion:
        name, store = ModelName(model), self.services.artifacts
        version = self.services.registry.reserve(name)
        golden = b"golden set of " + model.encode()
        manifest = codec.encode_manifest(
            Manifest(
                name=name,
                version=version,
                task="image-classification",
                artifact=Blob(digest=store.put(artifact), size_bytes=len(artifact)),
                format=Format.ONNX,
                precision=Precision.INT8,
                input=ImageInput(width=32, height=32, channels=3, layout=Layout.NCHW, mean=(0.5,) * 3, std=(0.5,) * 3),
                output=Classification(labels=LABELS),
                golden=GoldenRef(blob=Blob(digest=store.put(golden), size_bytes=len(golden)), tolerance=0.1),
            )
        )
        decoded = codec.decode_manifest(manifest)
        variant = Variant(
            target="onnx-int8",
            manifest_digest=store.put(manifest),
            manifest_size_bytes=len(manifest),
            artifact_digest=decoded.artifact.digest,
            artifact_size_bytes=len(artifact),
            golden_digest=decoded.golden.blob.digest,
            score=0.97,
            metric="accuracy",
            latency_p50_ms=1.5,
            output_error=0.01,
        )
        baseline = Baseline(
            labels=LABELS, label_share=(0.5, 0.5), confidence_share=(0.1,) * 10, confidence_mean=0.9, samples=100
        )
        published = self.services.registry.publish(
            PublishedVersion(
                name=name,
                version=version,
                task="image-classification",
                variants=(variant,),
                baseline=baseline,
                report={"accuracy": 0.97},
                job_id=job_id or f"job-{model}-{version}",
            )
        )
        self.services.trust.tick(self.clock.now())
        return published

    def close(self) -> None:
        self._run(self.server.stop(0.2))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()
        self.db.close()

    async def _start(self, clock: Clock) -> HubServer:
        server = build_server(
            self.services,
            authority=self.authority,
            broker=BROKER,
            config=self.config.grpc,
            clock=clock,
            metrics=self.metrics,
            insecure_dev=self._insecure_dev,
        )
        await server.start()
        return server

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_S)


def make_csr(common_name: str = "whatever") -> tuple[str, str]:
    """Key and CSR, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem.decode(), csr.public_bytes(serialization.Encoding.PEM).decode()


def device_identity(authority: Authority, name: str, *, days: int = 1) -> Issued:
    """A device's certificate that no enrolment gave out."""
    key, csr = make_csr()
    pem = authority.sign_device(csr, tenant=TenantId("default"), device_id=DeviceId(name), days=days)
    return Issued(certificate_pem=pem, key_pem=key)

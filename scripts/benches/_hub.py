"""A hub to send to: a supervised mosquitto and an ingest that stores in SQLite."""

import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig, HubConfig, IngestConfig
from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.ingest.service import IngestService, IngestServices
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Identity
from protos.contract import ids

ADMIN = Principal(role=Role.ADMIN, name="bench")
DEADLINE_S = 300.0


class SmallHub:
    """Started on entry; no quota, so that a drain is measured and not the quota."""

    def __init__(self, folder: Path) -> None:
        self._folder, clock = folder, SystemClock()
        self.authority = Authority.create(folder / "ca")
        self.broker = open_broker(BrokerConfig(kind="mosquitto", port=0), folder, self.authority)
        self.db = Database(f"sqlite:///{folder / 'hub.db'}")
        self._enrollment = EnrollmentService(self.db, self.authority, clock, HubConfig())
        fleet = FleetService(self.db, clock)
        artifacts = ArtifactStore(folder / "artifacts")
        registry, packages = RegistryService(self.db, artifacts, clock), PackageService(self.db, artifacts, clock)
        self._services = IngestServices(
            fleet=fleet,
            rollouts=RolloutService(self.db, registry, fleet, clock, packages),
            telemetry=TelemetryService(self.db, clock),
        )

    def __enter__(self) -> "SmallHub":
        self.db.migrate()
        self.broker.start()
        self._ingest = IngestService(
            IngestConfig(device_bytes_per_s=1 << 40, device_burst_bytes=1 << 40),
            self.db,
            self._services,
            address=self.broker.local,
            tls=self.broker.hub_tls,
            share_tls=self.broker.ingest_tls,
            clock=SystemClock(),
        )
        self._ingest.start()
        wait(lambda: self._ingest.ready, "ingest")
        return self

    def stop_ingest(self) -> None:
        """The broker goes on; what it takes nobody reads."""
        self._ingest.stop()

    def __exit__(self, *_: object) -> None:
        self._ingest.stop()
        self.broker.stop()
        self.db.close()

    def device(self, name: str) -> Identity:
        """A new device, enrolled by hand."""
        device = ids.device_id(name)
        self._enrollment.create_device(ADMIN, device, "camera-x86", {})
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        local = self.broker.local
        return identities.save(
            Identity(
                device_id=device,
                tenant=DEFAULT_TENANT,
                board="camera-x86",
                hub_address="localhost:1",
                broker=identities.Broker(host=local.host, port=local.port, protocol=local.protocol),
                folder=self._folder / name / identities.FOLDER,
            ),
            key_pem=private,
            certificate_pem=self.authority.sign_device(pem, tenant=DEFAULT_TENANT, device_id=device, days=1).encode(),
            ca_pem=self.authority.ca_pem.encode(),
        )


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S:.0f} s for {what}")
        time.sleep(0.002)

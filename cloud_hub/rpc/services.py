"""The use cases that the servers expose; the composition root fills it."""

from dataclasses import dataclass

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
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.reports import ReportService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.shadow import ShadowService
from cloud_hub.services.sources import SourceService
from cloud_hub.services.streams import StreamService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.services.training import TrainingService
from cloud_hub.services.trust import TrustService
from cloud_hub.services.users import UserService
from cloud_hub.store.artifacts import ArtifactStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    access: AccessService
    users: UserService
    audit: AuditService
    trust: TrustService
    enrollment: EnrollmentService
    fleet: FleetService
    registry: RegistryService
    packages: PackageService
    artifacts: ArtifactStore
    deltas: DeltaService
    sources: SourceService
    rollouts: RolloutService
    shadows: ShadowService
    training: TrainingService
    reports: ReportService
    datasets: DatasetService
    datasheets: DatasheetService
    telemetry: TelemetryService
    readings: ReadingsService
    drift: DriftService
    streams: StreamService
    alerts: AlertService

"""Status, desired and reported twin."""

from protos.contract import ids
from protos.contract.codec.message import MAX_TWIN_BYTES, bounded, decoder, enum, parse, sendable
from protos.contract.telemetry import Lane, from_ms, to_ms
from protos.contract.twin import (
    MAX_WINDOWS,
    Challenger,
    DesiredTwin,
    Fit,
    Health,
    Held,
    MaintenanceWindow,
    ModelAssignment,
    PackageAssignment,
    PackageKind,
    PackageStatus,
    Presence,
    ReportedTwin,
    ShadowReport,
    Status,
    UpdateStatus,
)
from protos.contract.update import UpdateState
from protos.v1 import twin_pb2

_HEALTH_FIELDS = tuple(name for name in Health.__slots__ if name not in ("started_at", "temperature_c"))
_FIT_FIELDS = Fit.__slots__
_SHADOW_FIELDS = tuple(name for name in ShadowReport.__slots__ if name not in ("model", "since", "problem", "fit"))


def encode_status(status: Status) -> bytes:
    return twin_pb2.Status(
        presence=enum(status.presence), boot_id=status.boot_id, agent_version=status.agent_version, at_ms=to_ms(status.at)
    ).SerializeToString(deterministic=True)


@decoder
def decode_status(data: bytes) -> Status:
    message = parse(twin_pb2.Status(), bounded(data, MAX_TWIN_BYTES))
    return Status(
        presence=Presence(message.presence),
        boot_id=message.boot_id,
        agent_version=message.agent_version,
        at=from_ms(message.at_ms),
    )


def assignment_to_pb(assignment: ModelAssignment) -> twin_pb2.ModelAssignment:
    return twin_pb2.ModelAssignment(
        name=assignment.name,
        version=assignment.version,
        manifest_digest=assignment.manifest_digest,
        manifest_size_bytes=assignment.manifest_size_bytes,
    )


def assignment_from_pb(message: twin_pb2.ModelAssignment) -> ModelAssignment:
    return ModelAssignment(
        name=ids.model_name(message.name),
        version=message.version,
        manifest_digest=ids.digest(message.manifest_digest),
        manifest_size_bytes=message.manifest_size_bytes,
    )


def package_to_pb(package: PackageAssignment) -> twin_pb2.PackageAssignment:
    return twin_pb2.PackageAssignment(
        kind=enum(package.kind),
        name=package.name,
        version=package.version,
        digest=package.digest,
        size_bytes=package.size_bytes,
        rollout_id=package.rollout_id,
    )


def package_from_pb(message: twin_pb2.PackageAssignment) -> PackageAssignment:
    return PackageAssignment(
        kind=PackageKind(message.kind),
        name=message.name,
        version=message.version,
        digest=ids.digest(message.digest),
        size_bytes=message.size_bytes,
        rollout_id=message.rollout_id,
    )


def window_to_pb(window: MaintenanceWindow) -> twin_pb2.MaintenanceWindow:
    return twin_pb2.MaintenanceWindow(
        start_minute=window.start_minute,
        end_minute=window.end_minute,
        days=sum(1 << day for day in window.days),
        local=window.local,
    )


def window_from_pb(message: twin_pb2.MaintenanceWindow) -> MaintenanceWindow:
    return MaintenanceWindow(
        start_minute=message.start_minute,
        end_minute=message.end_minute,
        days=frozenset(day for day in range(32) if message.days >> day & 1) or frozenset(range(7)),
        local=message.local,
    )


def desired_to_pb(twin: DesiredTwin) -> twin_pb2.DesiredTwin:
    challenger = twin.challenger
    return twin_pb2.DesiredTwin(
        generation=twin.generation,
        model=assignment_to_pb(twin.model) if twin.model else None,
        rollout_id=twin.rollout_id,
        renew_before_ms=to_ms(twin.renew_before) if twin.renew_before else 0,
        packages=[package_to_pb(package) for package in twin.packages],
        challenger=twin_pb2.Challenger(
            model=assignment_to_pb(challenger.model),
            share=challenger.share,
            max_share_of_time=challenger.max_share_of_time,
        )
        if challenger
        else None,
        windows=[window_to_pb(window) for window in twin.windows],
        not_before_ms=to_ms(twin.not_before) if twin.not_before else 0,
    )


def desired_from_pb(message: twin_pb2.DesiredTwin) -> DesiredTwin:
    return DesiredTwin(
        generation=message.generation,
        model=assignment_from_pb(message.model) if message.HasField("model") else None,
        rollout_id=message.rollout_id,
        renew_before=from_ms(message.renew_before_ms) if message.renew_before_ms else None,
        packages=tuple(package_from_pb(package) for package in message.packages[: len(PackageKind) + 1]),
        challenger=_challenger_from_pb(message.challenger) if message.HasField("challenger") else None,
        windows=tuple(window_from_pb(window) for window in message.windows[: MAX_WINDOWS + 1]),
        not_before=from_ms(message.not_before_ms) if message.not_before_ms else None,
    )


def _challenger_from_pb(message: twin_pb2.Challenger) -> Challenger:
    return Challenger(model=assignment_from_pb(message.model), share=message.share, max_share_of_time=message.max_share_of_time)


def encode_desired(twin: DesiredTwin) -> bytes:
    return desired_to_pb(twin).SerializeToString(deterministic=True)


@decoder
def decode_desired(data: bytes) -> DesiredTwin:
    return desired_from_pb(parse(twin_pb2.DesiredTwin(), bounded(data, MAX_TWIN_BYTES)))


def reported_to_pb(twin: ReportedTwin) -> twin_pb2.ReportedTwin:
    return twin_pb2.ReportedTwin(
        generation=twin.generation,
        boot_id=twin.boot_id,
        agent_version=twin.agent_version,
        board=twin.board,
        runtimes=list(twin.runtimes),
        model=assignment_to_pb(twin.model) if twin.model else None,
        update=_update_to_pb(twin.update) if twin.update else None,
        health=_health_to_pb(twin.health),
        at_ms=to_ms(twin.at),
        held=[twin_pb2.Held(epoch=h.epoch, lane=enum(h.lane), oldest=h.oldest, next=h.next) for h in twin.held],
        packages=[package_to_pb(package) for package in twin.packages],
        package_updates=[_package_status_to_pb(update) for update in twin.package_updates],
        shadow=_shadow_to_pb(twin.shadow) if twin.shadow else None,
    )


def reported_from_pb(message: twin_pb2.ReportedTwin) -> ReportedTwin:
    return ReportedTwin(
        generation=message.generation,
        boot_id=message.boot_id,
        agent_version=message.agent_version,
        board=message.board,
        runtimes=tuple(message.runtimes),
        model=assignment_from_pb(message.model) if message.HasField("model") else None,
        update=_update_from_pb(message.update) if message.HasField("update") else None,
        health=_health_from_pb(message.health),
        at=from_ms(message.at_ms),
        held=tuple(Held(epoch=h.epoch, lane=Lane(h.lane), oldest=h.oldest, next=h.next) for h in message.held[: len(Lane) + 1]),
        packages=tuple(package_from_pb(package) for package in message.packages[: len(PackageKind) + 1]),
        package_updates=tuple(_package_status_from_pb(each) for each in message.package_updates[: len(PackageKind) + 1]),
        shadow=_shadow_from_pb(message.shadow) if message.HasField("shadow") else None,
    )


def encode_reported(twin: ReportedTwin) -> bytes:
    return reported_to_pb(twin).SerializeToString(deterministic=True)


@decoder
def decode_reported(data: bytes) -> ReportedTwin:
    return reported_from_pb(parse(twin_pb2.ReportedTwin(), bounded(data, MAX_TWIN_BYTES)))


def _health_to_pb(health: Health) -> twin_pb2.Health:
    return twin_pb2.Health(
        started_at_ms=to_ms(health.started_at),
        temperature_c=health.temperature_c,
        **{name: getattr(health, name) for name in _HEALTH_FIELDS},
    )


def _health_from_pb(message: twin_pb2.Health) -> Health:
    return Health(
        started_at=from_ms(message.started_at_ms),
        temperature_c=message.temperature_c if message.HasField("temperature_c") else None,
        **{name: getattr(message, name) for name in _HEALTH_FIELDS},
    )


def _update_to_pb(update: UpdateStatus) -> twin_pb2.UpdateStatus:
    return twin_pb2.UpdateStatus(
        generation=update.generation,
        state=enum(update.state),
        model=assignment_to_pb(update.model),
        rollout_id=update.rollout_id,
        attempts=update.attempts,
        reason=sendable(update.reason),
        at_ms=to_ms(update.at),
        fit=_fit_to_pb(update.fit) if update.fit else None,
    )


def _update_from_pb(message: twin_pb2.UpdateStatus) -> UpdateStatus:
    return UpdateStatus(
        generation=message.generation,
        state=UpdateState(message.state),
        model=assignment_from_pb(message.model),
        rollout_id=message.rollout_id,
        attempts=message.attempts,
        reason=sendable(message.reason),
        at=from_ms(message.at_ms),
        fit=_fit_from_pb(message.fit) if message.HasField("fit") else None,
    )


def _fit_to_pb(fit: Fit) -> twin_pb2.Fit:
    return twin_pb2.Fit(**{name: getattr(fit, name) for name in _FIT_FIELDS})


def _fit_from_pb(message: twin_pb2.Fit) -> Fit:
    return Fit(**{name: getattr(message, name) for name in _FIT_FIELDS})


def _package_status_to_pb(update: PackageStatus) -> twin_pb2.PackageStatus:
    return twin_pb2.PackageStatus(
        generation=update.generation,
        state=enum(update.state),
        package=package_to_pb(update.package),
        attempts=update.attempts,
        reason=sendable(update.reason),
        at_ms=to_ms(update.at),
    )


def _package_status_from_pb(message: twin_pb2.PackageStatus) -> PackageStatus:
    return PackageStatus(
        generation=message.generation,
        state=UpdateState(message.state),
        package=package_from_pb(message.package),
        attempts=message.attempts,
        reason=sendable(message.reason),
        at=from_ms(message.at_ms),
    )


def _shadow_to_pb(report: ShadowReport) -> twin_pb2.ShadowReport:
    return twin_pb2.ShadowReport(
        model=assignment_to_pb(report.model),
        since_ms=to_ms(report.since),
        problem=sendable(report.problem),
        fit=_fit_to_pb(report.fit) if report.fit else None,
        **{name: getattr(report, name) for name in _SHADOW_FIELDS},
    )


def _shadow_from_pb(message: twin_pb2.ShadowReport) -> ShadowReport:
    return ShadowReport(
        model=assignment_from_pb(message.model),
        since=from_ms(message.since_ms),
        problem=sendable(message.problem),
        fit=_fit_from_pb(message.fit) if message.HasField("fit") else None,
        **{name: getattr(message, name) for name in _SHADOW_FIELDS},
    )

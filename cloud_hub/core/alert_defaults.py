"""The rules that every tenant starts with; a rule of the same name changes one or switches it off."""

from collections.abc import Mapping

from cloud_hub.core.alert_rules import AlertRule

_DAY = 86_400.0

_RULES = (
    AlertRule(
        name="offline",
        source="device.offline",
        above=300.0,
        clear=0.0,  # only a device that is back ends it
        clear_for_s=10.0,
        summary="{device} has not been heard of for {value} s",
    ),
    AlertRule(name="gap", source="telemetry.gap", summary="{device} dropped {value} records: its spool was full"),
    AlertRule(name="quarantine", source="telemetry.quarantine", summary="{value} messages from {device} cannot be used"),
    AlertRule(
        name="cloned",
        event="telemetry.cloned",
        over_s=_DAY,
        severity="critical",
        summary="two devices use the identity of {device}",
    ),
    AlertRule(name="spool", event="spool.*", over_s=_DAY, summary="{device} had to begin its spool anew: see its events"),
    AlertRule(name="lost", event="telemetry.lost", over_s=_DAY, severity="critical", summary="telemetry of {device} is lost"),
    AlertRule(
        name="disk-low",
        source="device.disk_free_ratio",
        below=0.05,
        clear=0.08,
        for_s=60.0,
        summary="{device} has {value} of its disk left (0..1)",
    ),
    AlertRule(
        name="hot",
        source="device.temperature_c",
        above=80.0,
        clear=75.0,
        for_s=60.0,
        clear_for_s=60.0,
        summary="{device} is at {value} degrees Celsius",
    ),
    AlertRule(name="drift", source="drift", summary="what {device} sees has drifted from what its model was validated on"),
    AlertRule(
        name="inference-failing",
        source="device.inference_errors",
        above=0.05,
        clear=0.01,
        for_s=60.0,
        severity="critical",
        summary="{value} of the inferences of {device} fail (0..1)",
    ),
    AlertRule(name="job-failed", source="job.failed", summary="the last training job of {key} failed"),
    AlertRule(
        name="broker-down",
        source="hub.broker_down",
        for_s=30.0,
        severity="critical",
        summary="the hub has no connection to its broker",
    ),
    AlertRule(
        name="ingest-lag",
        source="hub.ingest_lag_s",
        above=300.0,
        clear=60.0,
        for_s=60.0,
        summary="telemetry waits {value} s before it is looked at",
    ),
    AlertRule(
        name="certificate-expiring",
        source="hub.certificate_days",
        below=14.0,
        clear=15.0,
        summary="a certificate of the hub expires in {value} days",
    ),
    AlertRule(
        name="revocation-list-old",
        source="hub.revocation_list_days",
        below=3.5,
        clear=3.6,
        severity="critical",
        summary="the broker's revocation list expires in {value} days: past that it lets nobody in",
    ),
    AlertRule(
        name="authority-expiring",
        source="hub.issuing_days",
        below=400.0,  # nothing that it issues outlives it: server certificates last 397 days
        clear=401.0,
        summary="the issuing authority expires in {value} days: run 'cloud-hub ca renew' where the root key is",
    ),
    AlertRule(
        name="audit-broken",
        source="hub.audit_broken",
        severity="critical",
        summary="the audit log of {value} tenants does not hold: see the hub's log and 'hubctl audit verify'",
    ),
    AlertRule(
        name="root-expiring",
        source="hub.root_days",
        below=60.0,
        clear=61.0,
        summary="the root of trust expires in {value} days: two of its holders have to run 'hubctl trust rotate'",
    ),
    AlertRule(
        name="signing-stopped",
        source="hub.metadata_left",
        below=0.3,
        clear=0.35,
        severity="critical",
        summary="metadata has {value} of its life left (0..1) and is not signed again: see 'hubctl trust status'",
    ),
    AlertRule(name="notices-dead", source="hub.dead_notices", summary="{value} notices of alerts could not be delivered"),
)

BUILT_IN: Mapping[str, AlertRule] = {rule.name: rule for rule in _RULES}

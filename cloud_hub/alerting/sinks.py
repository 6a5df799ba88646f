"""From the configuration to sinks."""

import ssl
from collections.abc import Callable, Mapping

from cloud_hub.alerting import log
from cloud_hub.alerting.log import LogSink
from cloud_hub.alerting.mqtt import MqttSink, Publish
from cloud_hub.alerting.secrets import Secret
from cloud_hub.alerting.smtp import SmtpSink
from cloud_hub.alerting.webhook import WebhookSink
from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.config import AlertsConfig, SinkConfig
from cloud_hub.core.errors import Invalid
from cloud_hub.core.notices import Route, Sink
from edge_agent.core.nearest import did_you_mean
from protos.contract import ids
from protos.contract.errors import ContractError

Make = Callable[[SinkConfig, Route, Publish], Sink]


def open_sinks(config: AlertsConfig, publish: Publish) -> list[Sink]:
    """The log, and what is configured. Raises Invalid naming the sink and the key."""
    names = [log.NAME]
    sinks: list[Sink] = [LogSink()]
    for one in config.sinks:
        if one.name in names:
            raise Invalid(f"alerts.sinks: {one.name!r} stands there twice, or is the log's own name")
        names.append(one.name)
        sinks.append(_open(one, publish))
    return sinks


def _open(config: SinkConfig, publish: Publish) -> Sink:
    try:
        ids.device_id(config.name)  # names are written as ids are
        tenants = frozenset(ids.tenant_id(tenant) for tenant in config.tenants)
    except ContractError as error:
        raise Invalid(f"alerts.sinks: 'name' or 'tenants' of {config.name!r}: {error}") from error
    if config.kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise Invalid(
            f"sink {config.name!r}: 'kind' must be one of {known}, got {config.kind!r}{did_you_mean(config.kind, _KINDS)}"
        )
    if not 0.1 <= config.timeout_s <= 60.0:
        raise Invalid(f"sink {config.name!r}: 'timeout_s' must be in 0.1..60, got {config.timeout_s}")
    route = Route(sink=config.name, min_severity=Severity.of(config.min_severity), tenants=tenants)
    try:
        return _KINDS[config.kind](config, route, publish)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"sink {config.name!r}: 'ca_file' {config.ca_file} cannot be used: {error}") from error


def _webhook(config: SinkConfig, route: Route, publish: Publish) -> Sink:
    return WebhookSink(route, url=config.url, secret=_secret(config), ca_file=config.ca_file, timeout_s=config.timeout_s)


def _smtp(config: SinkConfig, route: Route, publish: Publish) -> Sink:
    return SmtpSink(
        route,
        host=config.host,
        port=config.port,
        starttls=config.starttls,
        user=config.user,
        password=_secret(config),
        sender=config.sender,
        recipients=config.recipients,
        ca_file=config.ca_file,
        timeout_s=config.timeout_s,
    )


def _mqtt(config: SinkConfig, route: Route, publish: Publish) -> Sink:
    return MqttSink(route, publish, segment=config.topic, timeout_s=config.timeout_s)


def _secret(config: SinkConfig) -> Secret | None:
    return None if config.secret_file is None else Secret(config.secret_file)


_KINDS: Mapping[str, Make] = {"webhook": _webhook, "smtp": _smtp, "mqtt": _mqtt}

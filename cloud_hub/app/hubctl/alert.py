"""``hubctl alert``: what is wrong, who sees to it, and when somebody is told."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl import texts
from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of, pairs
from cloud_hub.app.hubctl.watch import watch as watched
from protos.v1 import alerts_pb2 as pb

app = typer.Typer(help="Alerts, their rules and silences.")
rule = typer.Typer(help="Rules: when to be told of what.")
silence = typer.Typer(help="Silences: when not to be told.")
app.add_typer(rule, name="rule", no_args_is_help=True)
app.add_typer(silence, name="silence", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Alert id.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="For those who look later.")]
RuleName = Annotated[str, typer.Option("--rule", help="Of this rule only.")]
Device = Annotated[str, typer.Option(help="Of this device only.")]
Severity = Annotated[str, typer.Option(help="info, warning or critical.")]

_SPAN = re.compile(r"(\d{1,9})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SEVERITIES = ("info", "warning", "critical")
_STATES = ("firing", "acknowledged", "resolved")
_COLUMNS = ("id", "severity", "state", "rule", "device_id", "key", "value", "fired_at", "repeats", "summary")


@app.command("list")
def list_(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    state: Annotated[str, typer.Option(help="firing, acknowledged or resolved.")] = "",
    rule: RuleName = "",
    device: Device = "",
    severity: Annotated[str, typer.Option(help="At least: info, warning or critical.")] = "",
    limit: Limit = 100,
) -> None:
    """List alerts, newest first: those that are open, or all."""
    session = of(context)
    request = pb.ListAlertsRequest(
        open_only=not all_ and state != "resolved",
        rule=rule,
        device_id=device,
        min_severity=_number(severity, _SEVERITIES, "--severity"),  # type: ignore[arg-type]  # numbers are the wire's
        state=_number(state, _STATES, "--state"),  # type: ignore[arg-type]
    )
    with session.hub() as hub:
        found = listed(hub.alerts.ListAlerts, request, "alerts", limit)
    session.out.rows(found, _COLUMNS, empty="no alerts" if all_ else "no open alerts")


@app.command()
def get(context: typer.Context, id: Id) -> None:
    """Show one alert."""
    session = of(context)
    with session.hub() as hub:
        session.out.record(plain(hub.alerts.GetAlert(pb.GetAlertRequest(id=id), timeout=TIMEOUT_S)))


@app.command()
def watch(context: typer.Context) -> None:
    """Print the open alerts, then every change, until interrupted."""
    session = of(context)
    with session.hub() as hub:
        for alert in watched(_Changes(hub)):
            one = plain(alert)
            sentence = f"{one['updated_at']} {one['severity']} {one['state']}: {one['summary']} ({one['rule']}, {one['id']})"
            session.out.each(sentence, one)


class _Changes:
    """Each change once, wherever the connection breaks off."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._token = ""
        self._told: dict[str, int] = {}

    def __call__(self) -> Iterator[pb.Alert]:
        for change in self._hub.alerts.WatchAlerts(pb.WatchAlertsRequest(token=self._token)):
            alert, known = change.alert, self._told.get(change.alert.id)
            self._told[alert.id] = alert.state
            if change.token:  # what comes from here on comes for the first time
                self._token = change.token
                self._told = {id: state for id, state in self._told.items() if state != pb.ALERT_STATE_RESOLVED}
            if known != alert.state:
                yield alert


@app.command()
def ack(context: typer.Context, id: Id, comment: Comment = "") -> None:
    """Say that you see to it: it is not told again until it is resolved."""
    session = of(context)
    with session.hub() as hub:
        alert = hub.alerts.AckAlert(pb.AckAlertRequest(id=id, comment=comment), timeout=TIMEOUT_S)
    session.out.done(f"alert {id} is acknowledged by {alert.acknowledged_by}", plain(alert))


@app.command()
def resolve(context: typer.Context, id: Id, comment: Comment = "") -> None:
    """End it by hand; a condition that still holds fires anew."""
    session = of(context)
    with session.hub() as hub:
        alert = hub.alerts.ResolveAlert(pb.ResolveAlertRequest(id=id, comment=comment), timeout=TIMEOUT_S)
    session.out.done(f"alert {id} is resolved", plain(alert))


@app.command()
def sinks(context: typer.Context) -> None:
    """List where alerts are told."""
    session = of(context)
    with session.hub() as hub:
        names = hub.alerts.ListSinks(pb.ListSinksRequest(), timeout=TIMEOUT_S).names
    session.out.rows([{"name": name} for name in names], ("name",), empty="no sinks")


@app.command()
def test(context: typer.Context, sink: Annotated[str, typer.Argument(help="Name of the sink.")]) -> None:
    """Send a made-up alert to a sink, now; fails with what the sink said."""
    session = of(context)
    with session.hub() as hub:
        hub.alerts.TestSink(pb.TestSinkRequest(name=sink), timeout=2 * TIMEOUT_S)  # a sink may take a minute
    session.out.done(f"sink {sink} has taken a test alert", {"sink": sink})


@rule.command("put")
def put_rule(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file; - for standard input.")],
) -> None:
    """Make or replace the rules of a file, all or none."""
    session = of(context)
    yaml = texts.read(file)
    with session.hub() as hub:
        stored = hub.alerts.PutRule(pb.PutRuleRequest(yaml=yaml), timeout=TIMEOUT_S)
    session.out.done(f"stored {', '.join(one.name for one in stored.rules)}", plain(stored))


@rule.command("list")
def list_rules(context: typer.Context) -> None:
    """List rules by name, built-in ones included."""
    session = of(context)
    with session.hub() as hub:
        found = [plain(one) for one in hub.alerts.ListRules(pb.ListRulesRequest(), timeout=TIMEOUT_S).rules]
    columns = ("name", "source", "severity", "enabled", "built_in", "changed_at", "changed_by")
    session.out.rows(found, columns, empty="no rules")


@rule.command("get")
def get_rule(context: typer.Context, name: Annotated[str, typer.Argument(help="Rule name.")]) -> None:
    """Print a rule's YAML."""
    session = of(context)
    with session.hub() as hub:
        rules = hub.alerts.ListRules(pb.ListRulesRequest(), timeout=TIMEOUT_S).rules
    found = next((one for one in rules if one.name == name), None)
    if found is None:
        raise Failure(f"no alert rule {name}", ExitCode.NOT_FOUND)
    session.out.done(found.yaml.rstrip("\n"), plain(found))


@rule.command("delete")
def delete_rule(context: typer.Context, name: Annotated[str, typer.Argument(help="Rule name.")]) -> None:
    """Delete a rule; a built-in one of that name holds again as it was."""
    session = of(context)
    with session.hub() as hub:
        hub.alerts.DeleteRule(pb.DeleteRuleRequest(name=name), timeout=TIMEOUT_S)
    session.out.done(f"deleted alert rule {name}", {"name": name})


@silence.command("add")
def add_silence(
    context: typer.Context,
    duration: Annotated[str, typer.Option("--for", help="How long: 90s, 15m, 2h, 7d.")],
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why.")],
    rule: RuleName = "",
    device: Device = "",
    severity: Severity = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the device; may be given again.")] = None,
) -> None:
    """Tell nobody of alerts that match all that is given."""
    session = of(context)
    request = pb.CreateSilenceRequest(
        rule=rule,
        device_id=device,
        severity=_number(severity, _SEVERITIES, "--severity"),  # type: ignore[arg-type]  # numbers are the wire's
        labels=pairs(label or (), "--label"),
        duration_s=span_s(duration),
        reason=reason,
    )
    with session.hub() as hub:
        made = plain(hub.alerts.CreateSilence(request, timeout=TIMEOUT_S))
    session.out.done(f"silence {made['id']} until {made['until']}", made)


@silence.command("list")
def list_silences(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
    limit: Limit = 100,
) -> None:
    """List silences, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = listed(hub.alerts.ListSilences, pb.ListSilencesRequest(active_only=not all_), "silences", limit)
    columns = ("id", "rule", "device_id", "severity", "labels", "until", "created_by", "reason")
    session.out.rows(found, columns, empty="no silences")


@silence.command("expire")
def expire_silence(context: typer.Context, id: Annotated[str, typer.Argument(help="Silence id.")]) -> None:
    """End a silence now."""
    session = of(context)
    with session.hub() as hub:
        ended = hub.alerts.ExpireSilence(pb.ExpireSilenceRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"silence {id} has ended", plain(ended))


def span_s(text: str) -> int:
    """Seconds. Raises typer.BadParameter."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise typer.BadParameter(f"a duration is a number and a unit (90s, 15m, 2h, 7d), got {text!r}")
    return int(found[1]) * _UNIT_S[found[2]]


def _number(word: str, words: tuple[str, ...], option: str) -> int:
    """As on the wire; 0 for none."""
    if not word:
        return 0
    if word not in words:
        raise typer.BadParameter(f"{option} takes one of {', '.join(words)}, got {word!r}")
    return words.index(word) + 1

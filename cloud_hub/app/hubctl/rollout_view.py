"""A rollout as a picture for people: its waves, the states of its devices, and what its gates read."""

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cloud_hub.app.hubctl.output import printable
from cloud_hub.app.hubctl.plain import iso, plain
from protos.v1 import rollouts_pb2 as pb
from protos.v1 import twin_pb2

_BAR = 24  # characters
_SHOWN = 5  # failures
_FAILED = (twin_pb2.UPDATE_STATE_FAILED, twin_pb2.UPDATE_STATE_ROLLED_BACK)
_STYLES = {"pass": "green", "wait": "yellow", "breach": "bold red"}
_SIGNS = {"max": "<= {}", "min": ">= {}", "max_rise": "<= {versus} + {}", "max_fall": ">= {versus} - {}"}
_SIGNS["max_ratio"] = "<= {} x {versus}"


def what(rollout: pb.Rollout) -> str:
    if rollout.component in ("", "model"):
        return f"{rollout.model}:{rollout.version}"
    return f"{rollout.component} {rollout.model} {rollout.package_version}"


def summary(rollout: pb.Rollout) -> str:
    """One line."""
    counts = Counter[str]()
    for wave in rollout.standings:
        counts.update({"waiting": wave.waiting, "on the way": wave.pending, "committed": wave.committed})
        counts.update({"failed": wave.failed, "superseded": wave.superseded})
    devices = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "no devices"
    return f"{plain(rollout)['state']}, wave {rollout.wave + 1} of {rollout.waves}, {devices}"


def share_done(rollout: pb.Rollout) -> float:
    """0..1 of its devices."""
    devices = sum(wave.waiting + wave.pending + wave.committed + wave.failed for wave in rollout.standings)
    return sum(wave.committed for wave in rollout.standings) / devices if devices else 0.0


def picture(rollout: pb.Rollout) -> RenderableType:
    state = plain(rollout)["state"] or "?"
    head = Text(f"rollout {printable(rollout.id)}  {printable(what(rollout))}  {state}", style="bold")
    parts: list[RenderableType] = [head]
    if rollout.reason:
        parts.append(Text(printable(rollout.reason), style="yellow"))
    parts.append(waves(rollout))
    states = Counter(device["state"] or "waiting" for device in plain(rollout)["devices"])
    shown = f"of the first {len(rollout.devices)} devices: " if len(rollout.devices) < _devices(rollout) else "devices: "
    parts.append(Text(shown + (", ".join(f"{count} {name}" for name, count in sorted(states.items())) or "none")))
    if rollout.gates:
        parts.append(gates(rollout))
    failed = [device for device in rollout.devices if device.state in _FAILED]
    for device in failed[:_SHOWN]:
        parts.append(Text(f"{printable(device.device_id)}: {printable(device.reason) or 'no reason given'}", style="red"))
    return Group(*parts)


def waves(rollout: pb.Rollout) -> Table:
    table = _table("WAVE", "DEVICES", "", "WAITING", "ON THE WAY", "COMMITTED", "FAILED", "NOW")
    for number, wave in enumerate(rollout.standings):
        devices = wave.waiting + wave.pending + wave.committed + wave.failed
        counts = (wave.waiting, wave.pending, wave.committed, wave.failed)
        table.add_row(
            str(number + 1), printable(wave.title), _bar(wave, devices), *map(str, counts), Text(_now(rollout, number, wave))
        )
    return table


def gates(rollout: pb.Rollout) -> Table:
    """Readings beside their limits."""
    table = _table("GATE", "LIMIT", "READS", "INTERVAL", "AGAINST", "SAMPLES", "")
    for gate in rollout.gates:
        treated = gate.treated if gate.HasField("treated") else None
        word = plain(gate)["outcome"] or "?"
        table.add_row(
            gate.metric,
            _SIGNS.get(gate.rule, "{}").format(f"{gate.bound:g}", versus=gate.versus),
            f"{treated.value:.4g}" if treated else "-",
            f"{treated.low:.4g}..{treated.high:.4g}" if treated else "-",
            f"{gate.compared.value:.4g}" if gate.HasField("compared") else "-",
            f"{treated.samples if treated else 0:g} of {gate.min_samples:g}",
            Text(word, style=_STYLES.get(word, "")),
        )
    return table


def _now(rollout: pb.Rollout, number: int, wave: pb.RolloutWave) -> str:
    if number < rollout.wave:
        return "passed"
    if number > rollout.wave or not wave.started_at_ms:
        if number == rollout.wave and rollout.state == pb.ROLLOUT_STATE_AWAITING_APPROVAL:
            return "waits for approval"
        return "needs approval" if wave.approval and not wave.approved_by else ""
    if rollout.state == pb.ROLLOUT_STATE_SUCCEEDED:
        return "passed"
    if wave.soaking_since_ms:
        until = (iso(wave.soaking_since_ms + 1000 * wave.soak_s) or "")[11:19]
        return f"soaks until {until} UTC"
    return ""


def _bar(wave: pb.RolloutWave, devices: int) -> Text:
    if not devices:
        return Text("-" * _BAR, style="dim")
    done, failed = round(_BAR * wave.committed / devices), round(_BAR * wave.failed / devices)
    going = min(_BAR - done - failed, round(_BAR * wave.pending / devices))
    rest = _BAR - done - failed - going
    return Text.assemble(("#" * done, "green"), ("!" * failed, "red"), (">" * going, "yellow"), ("." * rest, "dim"))


def _devices(rollout: pb.Rollout) -> int:
    return sum(wave.waiting + wave.pending + wave.committed + wave.failed + wave.superseded for wave in rollout.standings)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

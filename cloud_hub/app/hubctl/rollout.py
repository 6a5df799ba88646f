"""``hubctl rollout``: a version to devices, in waves."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of, pairs
from cloud_hub.app.hubctl.watch import watch as watch_stream
from protos.v1 import fleet_pb2, registry_pb2
from protos.v1 import rollouts_pb2 as pb

app = typer.Typer(help="Rollouts.")

Id = Annotated[str, typer.Argument(help="Rollout id.")]
_COLUMNS = ("id", "model", "version", "state", "wave", "waves", "created_by", "created_at", "reason")


@app.command()
def create(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[int, typer.Option(help="Version number.")] = 0,
    alias: Annotated[str, typer.Option(help="The version an alias points at.")] = "",
    select: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE over labels, id, board or model; none: every device.")
    ] = None,
    canary: Annotated[int, typer.Option(min=0, help="Devices in the first wave; 0: all at once.")] = 1,
    soak: Annotated[int, typer.Option(min=0, help="Seconds a wave must stay healthy.")] = 60,
    max_failures: Annotated[int, typer.Option(min=0, help="More failures than this stop the rollout.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
) -> None:
    """Bring a version to every selected device."""
    if bool(version) == bool(alias):
        raise typer.BadParameter("give --version N or --alias NAME")
    session = of(context)
    match = pairs(select or (), "--select")
    with session.hub() as hub:
        if alias:
            found = hub.registry.GetVersion(registry_pb2.GetVersionRequest(name=model, alias=alias), timeout=TIMEOUT_S)
            version = found.version
        request = pb.CreateRolloutRequest(
            model=model,
            version=version,
            selector=fleet_pb2.Selector(match=match),
            canary=canary,
            soak_s=soak,
            max_failures=max_failures,
        )
        rollout = hub.rollouts.CreateRollout(request, timeout=TIMEOUT_S)
        if not watch:
            session.out.done(f"rollout {rollout.id}: {model} version {version}, {_summary(rollout)}", plain(rollout))
            return
        session.out.note(f"rollout {rollout.id}")
        _follow(session, hub, rollout.id)


@app.command("list")
def list_(
    context: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="Not ended ones only.")] = False,
    limit: Limit = 100,
) -> None:
    """List rollouts, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = listed(hub.rollouts.ListRollouts, pb.ListRolloutsRequest(active_only=active), "rollouts", limit)
    session.out.rows(found, _COLUMNS, empty="no rollouts")


@app.command()
def get(context: typer.Context, id: Id) -> None:
    """Show one rollout with its devices."""
    session = of(context)
    with session.hub() as hub:
        rollout = plain(hub.rollouts.GetRollout(pb.GetRolloutRequest(id=id), timeout=TIMEOUT_S))
    if session.out.json:
        session.out.document(rollout)
        return
    devices = rollout.pop("devices")
    session.out.record(rollout)
    session.out.rows(devices, ("device_id", "wave", "state", "target", "reason"), empty="no devices")


@app.command()
def watch(context: typer.Context, id: Id) -> None:
    """Follow a rollout to its end; exit 1 unless it succeeded."""
    session = of(context)
    with session.hub() as hub:
        _follow(session, hub, id)


@app.command()
def pause(context: typer.Context, id: Id) -> None:
    """Dispatch to no more devices until it is resumed."""
    _act(context, id, lambda hub: hub.rollouts.PauseRollout)


@app.command()
def resume(context: typer.Context, id: Id) -> None:
    """Go on with a paused rollout."""
    _act(context, id, lambda hub: hub.rollouts.ResumeRollout)


@app.command()
def abort(context: typer.Context, id: Id) -> None:
    """Stop for good; devices keep what they run."""
    _act(context, id, lambda hub: hub.rollouts.AbortRollout)


@app.command()
def rollback(context: typer.Context, id: Id) -> None:
    """Stop for good and send every touched device back to what it ran before."""
    _act(context, id, lambda hub: hub.rollouts.RollbackRollout)


def _act(context: typer.Context, id: str, method: Callable[[Hub], Callable[..., pb.Rollout]]) -> None:
    session = of(context)
    with session.hub() as hub:
        rollout = method(hub)(pb.RolloutActionRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"rollout {id}: {_summary(rollout)}", plain(rollout))


def _follow(session: Session, hub: Hub, id: str) -> None:
    """To its end. Raises Failure unless it succeeded."""
    rollout = pb.Rollout(id=id)
    with session.out.progress(f"rollout {id}", 1.0) as bar:
        for rollout in watch_stream(lambda: hub.rollouts.WatchRollout(pb.GetRolloutRequest(id=id))):
            if session.out.json:
                session.out.line(plain(rollout))
            else:
                typer.echo(f"rollout {id}: {_summary(rollout)}")
            bar.at(_share_done(rollout), f"rollout {id} wave {rollout.wave + 1}/{rollout.waves}")
    if rollout.state == pb.ROLLOUT_STATE_SUCCEEDED:
        return
    if rollout.state in (pb.ROLLOUT_STATE_RUNNING, pb.ROLLOUT_STATE_PAUSED, pb.ROLLOUT_STATE_UNSPECIFIED):
        raise Failure(f"the hub ended the watch of rollout {id}, which goes on: watch again", ExitCode.UNREACHABLE)
    raise Failure(f"rollout {id} is {plain(rollout)['state']}: {rollout.reason or 'no reason given'}", ExitCode.FAILED)


def _summary(rollout: pb.Rollout) -> str:
    states = Counter(device["state"] or "waiting" for device in plain(rollout)["devices"])
    devices = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no devices"
    return f"{plain(rollout)['state']}, wave {rollout.wave + 1} of {rollout.waves}, {devices}"


def _share_done(rollout: pb.Rollout) -> float:
    committed = sum(device["state"] == "committed" for device in plain(rollout)["devices"])
    return committed / len(rollout.devices) if rollout.devices else 0.0

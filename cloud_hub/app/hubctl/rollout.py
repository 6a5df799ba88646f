"""``hubctl rollout``: a version to devices, in waves."""

import contextlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl import texts
from cloud_hub.app.hubctl.failure import ExitCode, Failure, refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.rollout_view import picture, share_done, summary, what
from cloud_hub.app.hubctl.session import Session, of, pairs
from cloud_hub.app.hubctl.watch import watch as watch_stream
from protos.contract.update import UpdateState
from protos.v1 import fleet_pb2, registry_pb2
from protos.v1 import rollouts_pb2 as pb

app = typer.Typer(help="Rollouts.")

Id = Annotated[str, typer.Argument(help="Rollout id.")]
_ENDED = (
    pb.ROLLOUT_STATE_SUCCEEDED,
    pb.ROLLOUT_STATE_ABORTED,
    pb.ROLLOUT_STATE_FAILED,
    pb.ROLLOUT_STATE_ROLLED_BACK,
)
_COLUMNS = ("id", "component", "model", "version", "state", "wave", "waves", "created_by", "created_at", "reason")
DeviceState = StrEnum("DeviceState", [state.name.lower() for state in UpdateState])  # type: ignore[misc]  # made of the contract's
_DEVICE_COLUMNS = ("device_id", "wave", "state", "target", "asked_at", "ended_at", "reason")


@app.command()
def create(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model name; or a plan, with --file.")] = "",
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A plan in YAML; - for standard input.")] = None,
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
    """Bring a version to every selected device: as a plan says, or in short."""
    if bool(file) == bool(model):
        raise typer.BadParameter("give a model, or a plan with --file")
    if model and bool(version) == bool(alias):
        raise typer.BadParameter("give --version N or --alias NAME")
    session = of(context)
    match = pairs(select or (), "--select")
    request = pb.CreateRolloutRequest(plan_yaml=_plan(context, file) if file else "")
    with session.hub() as hub:
        if model:
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
            session.out.done(f"rollout {rollout.id}: {what(rollout)}, {summary(rollout)}", plain(rollout))
            return
        session.out.note(f"rollout {rollout.id}")
        _follow(session, hub, rollout.id)


def _plan(context: typer.Context, file: Path) -> str:
    """Raises Failure, and typer.BadParameter for an option beside it: a selector that is passed over means every device."""
    for name in ("version", "alias", "select", "canary", "soak", "max_failures"):
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            raise typer.BadParameter(f"a plan says everything: leave out --{name.replace('_', '-')}, and write it in {file}")
    text = texts.read(file)
    if not text.strip():
        raise refused(f"{file} is empty: a plan names a model, config, agent or firmware, and its version")
    return text


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
    if not session.out.json:
        _for_people(found)
    session.out.rows(found, _COLUMNS, empty="no rollouts")


@app.command()
def get(context: typer.Context, id: Id) -> None:
    """Show one rollout with its devices."""
    session = of(context)
    with session.hub() as hub:
        found = hub.rollouts.GetRollout(pb.GetRolloutRequest(id=id), timeout=TIMEOUT_S)
    rollout = plain(found)
    if session.out.json:
        session.out.document(rollout)
        return
    devices = rollout.pop("devices")
    _for_people([rollout, *devices])
    session.out.record({key: value for key, value in rollout.items() if key not in ("plan", "standings", "gates")})
    session.out.rows(devices, ("device_id", "wave", "state", "target", "reason"), empty="no devices")


@app.command()
def status(context: typer.Context, id: Id) -> None:
    """Show how a rollout stands: waves, states, gates and their limits."""
    session = of(context)
    with session.hub() as hub:
        rollout = hub.rollouts.GetRollout(pb.GetRolloutRequest(id=id), timeout=TIMEOUT_S)
    if session.out.json:
        session.out.document({key: value for key, value in plain(rollout).items() if key != "devices"})
    else:
        session.out.show(picture(rollout))


@app.command()
def devices(
    context: typer.Context,
    id: Id,
    state: Annotated[DeviceState | None, typer.Option(help="Those in this state only.")] = None,
    limit: Limit = 100,
) -> None:
    """List the devices of a rollout, however many, by wave."""
    session = of(context)
    number = UpdateState[state.upper()] if state else 0
    with session.hub() as hub:
        request = pb.ListRolloutDevicesRequest(id=id, state=number)  # type: ignore[arg-type]  # numbers are the wire's
        found = listed(hub.rollouts.ListRolloutDevices, request, "devices", limit)
    if not session.out.json:
        _for_people(found)
    session.out.rows(found, _DEVICE_COLUMNS, empty="no devices")


@app.command()
def watch(context: typer.Context, id: Id) -> None:
    """Follow a rollout to its end, live on a terminal; exit 1 unless it succeeded."""
    session = of(context)
    with session.hub() as hub:
        _follow(session, hub, id)


@app.command()
def start(context: typer.Context, id: Id) -> None:
    """Start a scheduled rollout now."""
    _act(context, id, lambda hub: hub.rollouts.StartRollout)


@app.command()
def approve(context: typer.Context, id: Id) -> None:
    """Let the next wave begin."""
    _act(context, id, lambda hub: hub.rollouts.ApproveRollout)


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


def _for_people(rows: Iterable[dict[str, Any]]) -> None:
    """As in the picture and in every sentence: waves count from 1, and the version of a package is its text."""
    for row in rows:
        row["wave"] += 1
        if text := row.pop("package_version", ""):
            row["version"] = text


def _act(context: typer.Context, id: str, method: Callable[[Hub], Callable[..., pb.Rollout]]) -> None:
    session = of(context)
    with session.hub() as hub:
        rollout = method(hub)(pb.RolloutActionRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"rollout {id}: {summary(rollout)}", plain(rollout))


def _follow(session: Session, hub: Hub, id: str) -> None:
    """To its end. Raises Failure unless it succeeded."""
    rollout = pb.Rollout(id=id)
    stream = watch_stream(lambda: hub.rollouts.WatchRollout(pb.GetRolloutRequest(id=id)))
    with contextlib.ExitStack() as stack:
        show = _shown_live(session, stack) if session.out.draws else _told(session, stack, id)
        for rollout in stream:
            show(rollout)
    if rollout.state == pb.ROLLOUT_STATE_SUCCEEDED:
        return
    if rollout.state not in _ENDED:
        raise Failure(f"the hub ended the watch of rollout {id}, which goes on: watch again", ExitCode.UNREACHABLE)
    raise Failure(f"rollout {id} is {plain(rollout)['state']}: {rollout.reason or 'no reason given'}", ExitCode.FAILED)


def _shown_live(session: Session, stack: contextlib.ExitStack) -> Callable[[pb.Rollout], None]:
    drawn = stack.enter_context(session.out.live())
    return lambda rollout: drawn.update(picture(rollout), refresh=True)


def _told(session: Session, stack: contextlib.ExitStack, id: str) -> Callable[[pb.Rollout], None]:
    """A line for each change, or JSON; how far it is on stderr."""
    bar = stack.enter_context(session.out.progress(f"rollout {id}", 1.0))

    def tell(rollout: pb.Rollout) -> None:
        session.out.each(f"rollout {id}: {summary(rollout)}", plain(rollout) if session.out.json else {})
        bar.at(share_done(rollout), f"rollout {id} wave {rollout.wave + 1}/{rollout.waves}")

    return tell

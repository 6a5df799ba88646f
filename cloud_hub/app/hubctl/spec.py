"""``hubctl spec``: how a model is trained."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl import texts
from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import training_pb2 as pb

app = typer.Typer(help="Training specifications.")


@app.command()
def put(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file; - for standard input.")],
) -> None:
    """Store the specification of the model it names; jobs from now on run it."""
    session = of(context)
    yaml = texts.read(file)
    with session.hub() as hub:
        stored = hub.training.PutSpec(pb.PutSpecRequest(yaml=yaml), timeout=TIMEOUT_S)
        notes = hub.training.ValidateSpec(pb.ValidateSpecRequest(yaml=yaml), timeout=TIMEOUT_S).notes
    for note in notes:
        session.out.note(note)
    session.out.done(f"stored the specification of {stored.model}", plain(stored))


@app.command("tasks")
def tasks_(context: typer.Context) -> None:
    """List the kinds of problem that can be trained; with --output json each with the defaults of its own sections."""
    session = of(context)
    with session.hub() as hub:
        found = [plain(task) for task in hub.training.ListTasks(pb.ListTasksRequest(), timeout=TIMEOUT_S).tasks]
    if not session.out.json:
        for task in found:
            task["published if"] = f"{task['metric']} {'>=' if task['higher_is_better'] else '<='} {task['bound']:g}"
    columns = ("name", "kind", "annotation", "published if", "losses", "augmentations")
    session.out.rows(found, columns, empty="this hub knows no task")


@app.command()
def task(context: typer.Context, name: Annotated[str, typer.Argument(help="Task name.")]) -> None:
    """Print the sections that are a task's own, with their defaults, as YAML."""
    session = of(context)
    with session.hub() as hub:
        found = {task.name: task for task in hub.training.ListTasks(pb.ListTasksRequest(), timeout=TIMEOUT_S).tasks}
    if name not in found:
        raise Failure(f"no task {name!r}: there are {', '.join(found)}", ExitCode.NOT_FOUND)
    session.out.done(f"task: {name}\n{found[name].sections.rstrip()}", plain(found[name]))


@app.command()
def get(context: typer.Context, model: Annotated[str, typer.Argument(help="Model name.")]) -> None:
    """Print the specification as it was stored."""
    session = of(context)
    with session.hub() as hub:
        stored = hub.training.GetSpec(pb.GetSpecRequest(model=model), timeout=TIMEOUT_S)
    session.out.done(stored.yaml.rstrip("\n"), plain(stored))

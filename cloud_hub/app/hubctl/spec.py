"""``hubctl spec``: how a model is trained."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl import texts
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
    session.out.done(f"stored the specification of {stored.model}", plain(stored))


@app.command()
def get(context: typer.Context, model: Annotated[str, typer.Argument(help="Model name.")]) -> None:
    """Print the specification as it was stored."""
    session = of(context)
    with session.hub() as hub:
        stored = hub.training.GetSpec(pb.GetSpecRequest(model=model), timeout=TIMEOUT_S)
    session.out.done(stored.yaml.rstrip("\n"), plain(stored))

"""The root command: global options, and the one place where errors become a line and an exit code."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cloud_hub.app.hubctl import (
    alert,
    audit,
    dataset,
    device,
    drift,
    job,
    label,
    model,
    package,
    rollout,
    sample,
    shadow,
    spec,
    stream,
    telemetry,
    token,
    trust,
    user,
)
from cloud_hub.app.hubctl.failure import EPILOG, ExitCode, Failure
from cloud_hub.app.hubctl.output import Format, Output
from cloud_hub.app.hubctl.session import Session
from cloud_hub.app.hubctl.settings import ENV_CONFIG

ENV_DEBUG = "TIDELINE_HUBCTL_DEBUG"


class OneLine(TyperGroup):
    """No command shows a stack trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            _say(str(failure))
            raise typer.Exit(failure.code) from failure
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # `hubctl ... | head`
                raise
            _say(f"{error.filename or 'system'}: {error.strerror or error}")
            raise typer.Exit(ExitCode.REFUSED if error.filename else ExitCode.FAILED) from error


app = typer.Typer(
    name="hubctl",
    cls=OneLine,
    help="Administers a fleet through its hub.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for name, noun in (
    ("device", device.app),
    ("board", device.boards),
    ("dataset", dataset.app),
    ("sample", sample.app),
    ("label", label.app),
    ("model", model.app),
    ("spec", spec.app),
    ("job", job.app),
    ("rollout", rollout.app),
    ("shadow", shadow.app),
    ("telemetry", telemetry.app),
    ("stream", stream.app),
    ("drift", drift.app),
    ("alert", alert.app),
    ("user", user.app),
    ("token", token.app),
    ("audit", audit.app),
    ("trust", trust.app),
    ("package", package.app),
):
    app.add_typer(noun, name=name, no_args_is_help=True)
app.command()(user.whoami)


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"YAML with hub (host:port), ca, and cert and key or token_file; default: ${ENV_CONFIG}, "
            "else ~/.config/tideline/hubctl.yaml."
        ),
    ] = None,
    output: Annotated[Format, typer.Option(help="For people, or for scripts.")] = Format.TABLE,
) -> None:
    context.obj = Session(config=config, out=Output(output))


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log lines would stand beside ours
    if not os.environ.get(ENV_DEBUG):
        sys.excepthook = _bug
    app()


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _say(f"a bug in hubctl: {kind.__name__}: {error}; set {ENV_DEBUG}=1 to see where")


def _say(message: str) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)

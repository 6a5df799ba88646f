"""``cloud-hub``: make a hub, run a hub."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cloud_hub.core import config as configuration
from cloud_hub.core.errors import HubError
from edge_agent.core import phone_home
from edge_agent.core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The Tideline hub.", pretty_exceptions_enable=False)
ca = typer.Typer(no_args_is_help=True, help="The hub's certificate authority; needs no running hub.")
tenant = typer.Typer(no_args_is_help=True, help="Tenants of this hub; needs no running hub.")
app.add_typer(ca, name="ca")
app.add_typer(tenant, name="tenant")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hub.yaml; CLOUD_HUB__SECTION__KEY overrides it")]

EXIT_FAILED = 1
EXIT_USAGE = 2


@app.command()
def init(config: Config = None) -> None:
    """Make the data folder: certificate authority, database and the first admin's hubctl configuration. Safe to repeat."""
    from cloud_hub.app import setup

    settings = _load(config)
    folder = setup.initialise(settings)
    print(f"hub data in {settings.data_dir}\nadmin: hubctl --config {folder / 'hubctl.yaml'} device list")


@app.command()
def serve(
    config: Config = None,
    insecure_dev: Annotated[
        bool, typer.Option("--insecure-dev", help="Plain text on the port for tokens; on a loopback address only.")
    ] = False,
) -> None:
    """Run the hub until SIGTERM: broker, ingest, gRPC, scheduler and training."""
    from cloud_hub.app import server

    server.serve(_load(config), config, insecure_dev=insecure_dev)


@app.command()
def ingest(name: Annotated[str, typer.Option(help="ingest-2 to ingest-16")], config: Config = None) -> None:
    """Ingest telemetry beside the hub until SIGTERM, on the hub's broker and database; see docs/operate.md."""
    from cloud_hub.app import replica

    replica.ingest(_load(config), name)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[int, typer.Option(help="Of the model.")],
    dataset: Annotated[str, typer.Option(help="Data set whose samples it looks at.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file: id, name, label, confidence, value, problem.")],
    config: Config = None,
    target: Annotated[str, typer.Option(help="Which of its files, as onnx-int8; by default the first.")] = "",
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only samples without a label.")] = False,
    label_above: Annotated[
        float | None, typer.Option(help="Label samples that have none where it is so sure, 0..1; they train, and never judge.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Of a Ray cluster (training.ray_address); 0: this process.")] = 0,
    tenant_: Annotated[str, typer.Option("--tenant")] = "default",
) -> None:
    """Let a version look at a whole data set; needs no running hub."""
    from cloud_hub.app import scoring
    from protos.contract.ids import TenantId

    asked = scoring.Asked(
        model=model,
        version=version,
        dataset=dataset,
        tenant=TenantId(tenant_),
        target=target,
        only_unlabelled=unlabelled,
        workers=workers,
        floor=label_above,
    )
    done = scoring.score(_load(config), asked, out)
    rate = done.scored.samples / max(done.scored.seconds, 1e-9)
    print(
        f"{done.scored.samples} samples in {done.scored.seconds:.1f} s ({rate:.0f}/s), {done.scored.problems} cannot be used;"
        f" {done.labelled} labelled; {out}"
    )


@ca.command("status")
def ca_status(config: Config = None) -> None:
    """Say until when the authorities hold, and whether the root key is here."""
    from cloud_hub.app import setup

    standing = setup.open_authority(_load(config)).standing
    where = (
        "here: take it offline, only `cloud-hub ca renew` needs it" if standing.root_key_here else "not here, as it should be"
    )
    print(
        f"root     until {standing.root_expires_at:%Y-%m-%d}; its key is {where}\n"
        f"issuing  until {standing.expires_at:%Y-%m-%d}; serial {standing.issuing}; older ones: {standing.older}"
    )


@ca.command("renew")
def ca_renew(
    config: Config = None,
    distrust: Annotated[
        bool, typer.Option(help="The issuing key is in foreign hands: what it signed is refused from now on.")
    ] = False,
) -> None:
    """Make a new issuing authority with the root key; a running hub takes it within a minute."""
    from cloud_hub.app import setup

    authority = setup.open_authority(_load(config))
    authority.renew_issuing(distrust=distrust)
    print(f"new issuing authority {authority.standing.issuing}, until {authority.expires_at:%Y-%m-%d}")
    if distrust:
        print("restart the hub now: the broker asks for certificates when a connection is made, and open ones go on until then")


@tenant.command("create")
def tenant_create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and '-'.")],
    admin: Annotated[str, typer.Option(help="User name of its first admin.")],
    out: Annotated[Path, typer.Option(help="New folder for the admin's key, certificate and hubctl.yaml.")],
    config: Config = None,
) -> None:
    """Begin a tenant: its first admin makes its other users."""
    from cloud_hub.app import setup

    setup.create_tenant(_load(config), name, admin, out)
    print(f"tenant {name}; {admin} administers it: hubctl --config {out / 'hubctl.yaml'} user create NAME --role ROLE")


@tenant.command("recover")
def tenant_recover(
    name: Annotated[str, typer.Argument(help="A tenant that nobody can administer any more; `default` is the hub's own.")],
    admin: Annotated[str, typer.Option(help="User name of the admin; one there is, or a new one.")],
    out: Annotated[Path, typer.Option(help="New folder for the admin's key, certificate and hubctl.yaml.")],
    config: Config = None,
) -> None:
    """Give a tenant an admin again, whatever became of its certificates."""
    from cloud_hub.app import setup

    setup.create_tenant(_load(config), name, admin, out, recover=True)
    print(f"{admin} administers tenant {name}: hubctl --config {out / 'hubctl.yaml'} user list")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("tideline"))


def main() -> None:
    phone_home.forbid()  # for the processes of jobs too
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines on stderr would stand between ours
    try:
        app()
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except HubError as error:
        _fail(str(error), EXIT_FAILED)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"cloud-hub: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _load(path: Path | None) -> configuration.HubConfig:
    from cloud_hub.app import logs

    settings = configuration.load(path)
    try:
        logs.configure(settings.log_level)
    except ValueError as error:
        raise ConfigError(f"'log_level' must be DEBUG, INFO, WARNING or ERROR, got {settings.log_level!r}") from error
    logging.captureWarnings(True)
    return settings

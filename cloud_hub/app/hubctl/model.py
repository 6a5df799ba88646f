"""``hubctl model``: versions and aliases."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl import document
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import registry_pb2 as pb
from protos.v1 import training_pb2

app = typer.Typer(help="Models, their versions and aliases.")

Name = Annotated[str, typer.Argument(help="Model name.")]


@app.command("list")
def list_(context: typer.Context) -> None:
    """List models."""
    session = of(context)
    with session.hub() as hub:
        models = hub.registry.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).models
    session.out.rows(map(plain, models), ("name", "task", "latest_version", "aliases"), empty="no models")


@app.command()
def versions(context: typer.Context, name: Name) -> None:
    """List the versions of a model."""
    session = of(context)
    with session.hub() as hub:
        found = [plain(v) for v in hub.registry.ListVersions(pb.ListVersionsRequest(name=name), timeout=TIMEOUT_S).versions]
    if not session.out.json:
        for version in found:
            version["targets"] = [f"{v['target']} {_metric(v)} {v['score']:.4g}" for v in version["variants"]]
    columns = ("version", "aliases", "targets", "job_id", "created_at")
    session.out.rows(found, columns, empty=f"model {name} has no versions")


@app.command()
def get(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Option(help="Version number.")] = 0,
    alias: Annotated[str, typer.Option(help="champion or challenger.")] = "",
) -> None:
    """Show one version: by number, by alias, or the champion."""
    if version and alias:
        raise typer.BadParameter("give --version or --alias, not both")
    session = of(context)
    request = pb.GetVersionRequest(name=name, version=version, alias="" if version else alias or "champion")
    with session.hub() as hub:
        found = plain(hub.registry.GetVersion(request, timeout=TIMEOUT_S))
    if session.out.json:
        session.out.document(found)
        return
    variants, on_boards = found.pop("variants"), found.pop("on_boards")
    table = ((found.get("report") or {}).get("compression") or {}).pop("table", [])
    session.out.record(found)
    columns = ("target", "metric", "score", "latency_p50_ms", "output_error", "artifact_size_bytes", "boards")
    session.out.rows(variants, columns, empty="no variants")
    session.out.rows(_stood(variants, on_boards), _ON_BOARDS, empty="no board runs it")
    if table:
        session.out.rows(table, [name for name in table[0] if name not in _LEFT_TO_JSON], empty="")


def _metric(variant: dict[str, Any]) -> str:
    return variant["metric"] or "accuracy"


_LEFT_TO_JSON = ("parameters", "macs", "speedup", "smaller")  # of the table of a compression search: it is wide enough
_ON_BOARDS = ("board", "target", "taken", "declared_ms", "p50_ms", "p95_ms", "peak_mb", "error", "agreement", "devices")


def _stood(variants: list[dict[str, Any]], on_boards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is published, by board: whether devices get it or why not, what the hub declared of it and what devices measured."""
    declared = {variant["target"]: variant["latency_p50_ms"] for variant in variants}
    measured = ("p50_ms", "p95_ms", "error", "agreement")
    return [
        {
            "board": one["board"],
            "target": one["target"],
            "taken": "yes" if one["chosen"] else f"no: {one['passed_over']}",
            "declared_ms": declared[one["target"]],
            "devices": one["devices"],
            "peak_mb": round(one["peak_bytes"] / 1e6, 1) if one["devices"] else None,
            **{name: one[name] if one["devices"] else None for name in measured},
        }
        for one in on_boards
        if one["target"] in declared
    ]


@app.command()
def report(
    context: typer.Context,
    name: Name,
    out: document.Out,
    version: Annotated[int, typer.Option(min=0, help="Version number; 0: the champion.")] = 0,
) -> None:
    """Write what is known of how good a version is, and where it fails, as one HTML page that loads nothing."""

    def ask(hub: Hub) -> Iterable[training_pb2.ReportPiece]:
        request = pb.GetVersionRequest(name=name, alias="champion")
        number = version or hub.registry.GetVersion(request, timeout=TIMEOUT_S).version
        wanted = training_pb2.GetReportRequest(model=name, version=number, json=document.figures(of(context), out))
        pieces: Iterable[training_pb2.ReportPiece] = hub.training.GetReport(wanted)
        return pieces

    document.save(of(context), ask, out)


@app.command()
def promote(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "champion",
) -> None:
    """Point an alias at a version."""
    session = of(context)
    with session.hub() as hub:
        model = hub.registry.SetAlias(pb.SetAliasRequest(name=name, alias=alias, version=version), timeout=TIMEOUT_S)
    session.out.done(f"{alias} of {name} is version {version}", plain(model))

"""What every command shares: where the hub is, and how to print."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import typer

from cloud_hub.app.hubctl import settings
from cloud_hub.app.hubctl.failure import of_rpc
from cloud_hub.app.hubctl.hub import Hub
from cloud_hub.app.hubctl.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    config: Path | None
    out: Output

    @property
    def ca_pem(self) -> bytes:
        """What the hub is trusted by."""
        return settings.credentials(settings.load(self.config)).ca

    @contextlib.contextmanager
    def hub(self) -> Iterator[Hub]:
        """Connected while the block runs; every RPC error inside becomes a Failure."""
        chosen = settings.load(self.config)
        with Hub(chosen.hub, settings.credentials(chosen)) as hub:
            try:
                yield hub
            except grpc.RpcError as error:
                raise of_rpc(error, chosen.hub) from error


def of(context: typer.Context) -> Session:
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("the root callback makes the session")
    return session


def pairs(items: Iterable[str], option: str) -> dict[str, str]:
    """``k=v`` words as a mapping. Raises typer.BadParameter."""
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key or key in found:
            raise typer.BadParameter(f"{option} takes KEY=VALUE, each key once, got {item!r}")
        found[key] = value
    return found

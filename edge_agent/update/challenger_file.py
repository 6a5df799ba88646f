"""What a device remembers of its challenger over a restart: one file, whole or not there."""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.core.files import sync_folder, write_atomic
from protos.contract import ids
from protos.contract.twin import Challenger, Fit, ModelAssignment, ShadowReport

log = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A challenger that the hub wants here."""

    generation: int  # of the twin that named it, with these shares
    challenger: Challenger
    report: ShadowReport  # as it was last kept
    attempts: int = 0  # starts of it that have not lasted, each counted before it is made
    damaged: int = 0  # downloads of it that were
    given_up: str = ""  # why it is not tried any more


def load(path: Path) -> Held | None:
    """None where there is none; a file that makes no sense counts as none: the hub still says what it wants."""
    try:
        return _of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:  # ContractError is a ValueError
        log.warning("the challenger is forgotten, its file is damaged", extra={"path": str(path), "error": repr(error)})
        return None


def save(path: Path, held: Held) -> None:
    """Durable on return. Raises OSError."""
    values = asdict(held) | {"version": _VERSION}
    values["report"]["since"] = held.report.since.isoformat()
    write_atomic(path, json.dumps(values, sort_keys=True).encode())


def remove(path: Path) -> None:
    """Durable on return. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _of(values: dict[str, Any]) -> Held:
    if values["version"] != _VERSION:
        raise ValueError(f"it is of version {values['version']}")
    wanted, report = values["challenger"], values["report"]
    measured = report.pop("fit")
    report |= {"model": _model(report["model"]), "since": datetime.fromisoformat(report["since"])}
    return Held(
        generation=int(values["generation"]),
        challenger=Challenger(**wanted | {"model": _model(wanted["model"])}),
        report=ShadowReport(**report, fit=Fit(**measured) if measured is not None else None),
        attempts=int(values["attempts"]),
        damaged=int(values.get("damaged", 0)),  # agents before did not count them
        given_up=str(values["given_up"]),
    )


def _model(values: dict[str, Any]) -> ModelAssignment:
    return ModelAssignment(
        name=ids.model_name(values["name"]),
        version=values["version"],
        manifest_digest=ids.digest(values["manifest_digest"]),
        manifest_size_bytes=values["manifest_size_bytes"],
    )

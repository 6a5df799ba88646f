"""Which image was put into which slot of the board, and why: what RAUC does not remember for us."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.core.files import write_atomic
from protos.contract import ids
from protos.contract.twin import PackageAssignment, PackageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a slot was filled with."""

    assignment: PackageAssignment
    generation: int
    good: bool = False  # it passed its trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An installation, written down before it is begun: whichever slot is booted then is the one to come back to."""

    image: Image
    origin: str  # slot that was booted
    boot: str  # id of that start of the kernel
    installed: bool = False  # RAUC has ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    slots: Mapping[str, Image] = field(default_factory=dict)
    attempt: Attempt | None = None


def load(path: Path) -> Firmware:
    """Nothing, where there is none or it makes no sense: then the board runs what it came with, as far as is known."""
    try:
        values = json.loads(path.read_bytes())
        attempt = values["attempt"]
        return Firmware(
            slots={str(slot): _image(image) for slot, image in values["slots"].items()},
            attempt=attempt
            and Attempt(
                image=_image(attempt["image"]),
                origin=str(attempt["origin"]),
                boot=str(attempt["boot"]),
                installed=bool(attempt["installed"]),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # ContractError is a ValueError
        return Firmware()


def store(path: Path, firmware: Firmware) -> None:
    """Durable on return. Raises OSError."""
    write_atomic(path, json.dumps(asdict(firmware), sort_keys=True).encode())


def _image(values: Mapping[str, Any]) -> Image:
    it = values["assignment"]
    return Image(
        assignment=PackageAssignment(
            kind=PackageKind.FIRMWARE,
            name=it["name"],
            version=it["version"],
            digest=ids.digest(it["digest"]),
            size_bytes=it["size_bytes"],
            rollout_id=it["rollout_id"],
        ),
        generation=int(values["generation"]),
        good=bool(values["good"]),
    )

"""What the director says this device is to run: signed on demand, bound to one device and one question."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from edge_agent.core.errors import BadSignature, ForeignDevice, Frozen, LinkDown, Replayed, RollbackRefused, WrongHardware
from edge_agent.update.floors import MAX_NUMBER, VersionFloor
from edge_agent.update.surroundings import Anchor
from edge_agent.update.updater import key_names, typed
from protos.contract.errors import ContractError
from protos.contract.telemetry import from_ms

ROLE = Targets.type
MAX_TARGETS = 64  # a device runs a few files; each of them costs a look into the image repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the director is asked, and by whom."""

    anchor: Anchor
    generation: int  # of the newest desired twin
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    now: datetime  # by the director's clock
    floor: VersionFloor
    targets: Mapping[str, TargetFile]  # by path


def verify(data: bytes, root: Root, floor: VersionFloor | None, question: Question, *, time: datetime) -> Answer:
    """The answer in ``data``, believed under the newest ``root`` of the director at ``time`` or by its own later clock.

    Raises:
        BadSignature, ForeignDevice, WrongHardware, Replayed, RollbackRefused, Frozen.
        LinkDown: it is about a newer generation than was asked for; the twin of that one is on its way.
    """
    targets = _signed(data, root)
    bound = _Bound.of(targets)
    _check_bound(bound, question)
    keys = key_names(root, ROLE)
    if floor is not None and floor.keys == keys and targets.version < floor.version:
        raise RollbackRefused(
            f"director metadata version {targets.version} is older than {floor.version}, which was seen before"
        )
    latest = max(time, bound.now)
    for what, expired in (("the director's root", root.is_expired(latest)), ("director metadata", targets.is_expired(latest))):
        if expired:
            raise Frozen(f"{what} has expired")
    if bound.generation > question.generation:
        raise LinkDown(f"the hub wants generation {bound.generation} by now: waiting for its desired twin")
    return Answer(now=bound.now, floor=VersionFloor(keys=keys, version=targets.version), targets=targets.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """Who and what an answer is for."""

    device: str
    tenant: str
    board: str
    generation: int
    nonce: bytes
    now: datetime

    @classmethod
    def of(cls, targets: Targets) -> "_Bound":
        """Raises BadSignature: a signature over something that is no answer."""
        values: Any = targets.unrecognized_fields.get("tideline")
        try:
            device, tenant, board = (_text(values[name]) for name in ("device", "tenant", "board"))
            return cls(
                device=device,
                tenant=tenant,
                board=board,
                generation=_count(values["generation"]),
                nonce=bytes.fromhex(_text(values["nonce"])),
                now=from_ms(_count(values["now_ms"])).astimezone(UTC),
            )
        except (KeyError, TypeError, ValueError, OverflowError, ContractError) as error:
            raise BadSignature(f"director metadata does not say whom it is for ({error!r})") from error


def _signed(data: bytes, root: Root) -> Targets:
    """Raises BadSignature."""
    with typed("director metadata"):
        metadata: Metadata[Targets] = Metadata.from_bytes(data)
        root.verify_delegate(ROLE, metadata.signed_bytes, metadata.signatures)
    targets = metadata.signed
    if not isinstance(targets, Targets):  # the key that signed it may speak for other roles too
        raise BadSignature("director metadata is of another role")
    if not isinstance(targets.version, int) or targets.version > MAX_NUMBER or len(targets.targets) > MAX_TARGETS:
        raise BadSignature(f"director metadata has a version or a number of targets ({len(targets.targets)}) that cannot be")
    return targets


def _check_bound(bound: _Bound, question: Question) -> None:
    anchor = question.anchor
    if (bound.device, bound.tenant) != (anchor.device_id, anchor.tenant):
        raise ForeignDevice(
            f"director metadata is for {bound.tenant}/{bound.device}, this is {anchor.tenant}/{anchor.device_id}"
        )
    if bound.nonce != question.nonce:
        raise Replayed("director metadata answers another question than was asked")
    if bound.board != anchor.board:
        raise WrongHardware(f"director metadata is for board {bound.board!r}, this is {anchor.board!r}")
    if bound.generation < question.generation:
        raise Replayed(f"director metadata is of generation {bound.generation}, desired is {question.generation}")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise TypeError(f"no text: {str(value)[:80]!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise TypeError(f"no count: {str(value)[:80]!r}")
    return value

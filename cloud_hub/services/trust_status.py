"""What is in force: roots, online roles and when each ends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Root

from cloud_hub.core.targets import BIN_PREFIX, DIRECTOR, IMAGE
from cloud_hub.store import trust
from cloud_hub.store.database import Tx
from cloud_hub.store.trust import ROOT, Head
from cloud_hub.trust.tuf import roots
from cloud_hub.trust.tuf.keys import ONLINE_ROLES
from cloud_hub.trust.tuf.signing import LIFE


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    repository: str
    role: str  # "bins": the one that expires first
    version: int  # 0: signed on demand
    expires_at: datetime | None
    threshold: int
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStatus:
    roles: tuple[RoleStatus, ...]  # empty before the first root
    targets: int  # named by the newest metadata
    waiting: int
    problem: str  # why releases cannot be signed; empty where they can


def of_roots(tx: Tx) -> Iterator[RoleStatus]:
    """Of those there are."""
    for repository in (IMAGE, DIRECTOR):
        data = trust.find(tx, repository, ROOT)
        if data is not None:
            root = roots.parsed(data, repository).signed
            holders = root.roles[Root.type]
            yield RoleStatus(
                repository=repository,
                role=ROOT,
                version=root.version,
                expires_at=root.expires,
                threshold=holders.threshold,
                key_ids=tuple(holders.keyids),
            )


def of_online(tx: Tx, used: Mapping[tuple[str, str], str]) -> Iterator[RoleStatus]:
    """``used``: the key of each online role; empty before the first root."""
    heads = {head.role: head for head in _heads(tx, IMAGE)}
    for repository, role in ONLINE_ROLES if used else ():
        head = heads.get(role) if repository == IMAGE else None
        yield RoleStatus(
            repository=repository,
            role=role,
            version=head.version if head else 0,
            expires_at=head.expires_at if head else None,
            threshold=1,
            key_ids=(used[repository, role],),
        )


def expiries(tx: Tx) -> dict[str, datetime]:
    """When each role's metadata ends, by "repository role"; of the bins the first."""
    return {f"{repository} {head.role}": head.expires_at for repository in (IMAGE, DIRECTOR) for head in _heads(tx, repository)}


def figures(ends: Mapping[str, datetime], now: datetime) -> dict[str, float]:
    """By the source of alert rules; ``ends`` as ``expiries`` gives them."""
    by_root = [(at - now).total_seconds() / 86_400 for name, at in ends.items() if name.endswith(ROOT)]
    left = [(at - now) / LIFE[name.split()[1]] for name, at in ends.items() if not name.endswith(ROOT)]
    figures = {"hub.root_days": min(by_root)} if by_root else {}
    return {**figures, "hub.metadata_left": min(left)} if left else figures


def _heads(tx: Tx, repository: str) -> list[Head]:
    """Of the bins only the one that ends first, under the name "bins"."""
    heads = trust.heads(tx, repository)
    bins = [head for head in heads if head.role.startswith(f"{BIN_PREFIX}-")]
    others = [head for head in heads if not head.role.startswith(f"{BIN_PREFIX}-")]
    if bins:
        first = min(bins, key=lambda head: head.expires_at)
        others.append(Head(role="bins", version=first.version, expires_at=first.expires_at, resign_at=first.resign_at))
    return others

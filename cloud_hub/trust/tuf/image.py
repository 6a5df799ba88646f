"""The image repository: which files exist. 256 bins by the hash of the path: one more file rewrites a 256th (TAP 15)."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Delegations, MetaFile, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp

from cloud_hub.core.targets import BIN_PREFIX, BINS, Target
from cloud_hub.trust.tuf.signing import LIFE, File, expiry, sealed

TIMESTAMP, SNAPSHOT, TARGETS = "timestamp", "snapshot", "targets"
BIN_ROLES = tuple(f"{BIN_PREFIX}-{number:02x}" for number in range(BINS))

_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    timestamp: CryptoSigner
    snapshot: CryptoSigner
    targets: CryptoSigner
    bins: CryptoSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a round is to sign, besides the timestamp."""

    bins: Mapping[str, Iterable[Target]]  # whole: every target of each
    targets: bool = False
    snapshot: bool = False  # also where neither of them is


def renewed(versions: Mapping[str, int], work: Work, last_snapshot: bytes, signers: Signers, now: datetime) -> list[File]:
    """New versions of what ``work`` names, and a snapshot and a timestamp that agree with them.

    Args:
        versions: of every role, the newest so far; none before the first round, which must name everything.
        last_snapshot: its bytes; used where no new one is needed.
    """
    files = [_bin(role, versions.get(role, 0) + 1, targets, signers.bins, now) for role, targets in work.bins.items()]
    if work.targets:
        files.append(_targets(versions.get(TARGETS, 0) + 1, signers, now))
    version = versions.get(SNAPSHOT, 0)
    if files or work.snapshot:
        version += 1
        named = {role: versions[role] for role in (TARGETS, *BIN_ROLES) if role in versions}
        snapshot = _snapshot(version, {**named, **{file.role: file.version for file in files}}, signers.snapshot, now)
        files.append(snapshot)
        last_snapshot = snapshot.data
    files.append(_timestamp(versions.get(TIMESTAMP, 0) + 1, version, last_snapshot, signers.timestamp, now))
    return files


def bins_key_of(data: bytes) -> str:
    """The id of the bins' key that a targets file of ours names."""
    return str(json.loads(data)["signed"]["delegations"]["succinct_roles"]["keyids"][0])


def target_file(target: Target) -> TargetFile:
    """As both repositories name it."""
    return TargetFile(target.length, {"sha256": target.sha256}, target.path, {"custom": target.custom})


def _bin(role: str, version: int, targets: Iterable[Target], signer: CryptoSigner, now: datetime) -> File:
    expires = expiry("bins", now)
    files = {target.path: target_file(target) for target in targets}
    signed = Targets(version=version, expires=expires, targets=files)
    # half of its life, a quarter more or less by its number: 256 bins of one age are not all due in the same moment
    share = 0.375 + 0.25 * (int(role.removeprefix(f"{BIN_PREFIX}-"), 16) % 32) / 31
    return File(
        role=role,
        version=version,
        signed_at=now,
        expires_at=expires,
        resign_at=now + share * LIFE["bins"],
        data=sealed(signed, [signer]),
    )


def _targets(version: int, signers: Signers, now: datetime) -> File:
    key: SSlibKey = signers.bins.public_key
    bins = SuccinctRoles([key.keyid], 1, _BITS, BIN_PREFIX)
    delegations = Delegations({key.keyid: key}, succinct_roles=bins)
    signed = Targets(version=version, expires=expiry(TARGETS, now), targets={}, delegations=delegations)
    return _file(TARGETS, signed.version, sealed(signed, [signers.targets]), now)


def _snapshot(version: int, named: Mapping[str, int], signer: CryptoSigner, now: datetime) -> File:
    meta = {f"{role}.json": MetaFile(number) for role, number in named.items()}
    signed = Snapshot(version=version, expires=expiry(SNAPSHOT, now), meta=meta)
    return _file(SNAPSHOT, version, sealed(signed, [signer]), now)


def _timestamp(version: int, snapshot_version: int, snapshot: bytes, signer: CryptoSigner, now: datetime) -> File:
    meta = MetaFile(snapshot_version, len(snapshot), {"sha256": hashlib.sha256(snapshot).hexdigest()})
    signed = Timestamp(version=version, expires=expiry(TIMESTAMP, now), snapshot_meta=meta)
    return _file(TIMESTAMP, version, sealed(signed, [signer]), now)


def _file(role: str, version: int, data: bytes, now: datetime) -> File:
    return File(
        role=role,
        version=version,
        signed_at=now,
        expires_at=expiry(role, now),
        resign_at=now + LIFE[role] / 2,
        data=data,
    )

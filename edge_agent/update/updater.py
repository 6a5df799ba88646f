"""The client of a TUF repository, after https://theupdateframework.github.io/specification/latest/#detailed-client-workflow.

The rules are python-tuf's. What is ours: metadata comes through a port with bounds, the cache survives power cuts, what the
cache forgets the floors remember, and every refusal has its own type. ``_trusted_set`` is private to python-tuf: the version is
pinned. Imported late: TUF with its cryptography is the second heaviest thing the agent loads.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from tuf.api import exceptions
from tuf.api.metadata import Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from edge_agent.core.errors import (
    Absent,
    AgentError,
    BadSignature,
    Endless,
    Frozen,
    LinkDown,
    MixedUp,
    NoTrust,
    RollbackRefused,
    TooSlow,
    Untrusted,
)
from edge_agent.core.files import write_atomic
from edge_agent.update.floors import MAX_NUMBER, VersionFloor

log = logging.getLogger(__name__)

_BASE = "repository:/"  # python-tuf speaks of URLs; what is asked for behind it is a name
LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=64 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=256 << 10,
    targets_max_length=4 << 20,  # a bin of 256 for a million targets has half of it
)


class Source(Protocol):
    """Where metadata comes from."""

    def __call__(self, name: str, max_bytes: int) -> bytes:
        """As ``Hub.metadata``."""


class TrustedUpdater(Updater):
    """One check of one repository: ``refresh``, then ``get_targetinfo`` as often as needed. Not used again after an error.

    ``seen`` holds, also after an error, the versions that were found in order; they are to be kept as floors. A cache that
    cannot be written or read costs downloads, and nothing else. All methods raise Untrusted, or what ``source`` raises.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        root: bytes,
        floors: Mapping[str, VersionFloor],
        time: datetime,
        config: UpdaterConfig = LIMITS,
    ) -> None:
        """``root``: the one trusted from the start; NoTrust where it is none. ``time``: the latest believed."""
        with contextlib.suppress(OSError):
            (folder / "root_history").mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            super().__init__(str(folder), _BASE, fetcher=_Fetcher(source), config=config, bootstrap=root)
            guarded = _GuardedSet(root, floors, anchor=anchor_of(root))
        except exceptions.RepositoryError as error:
            raise NoTrust(f"the root of trust this device was given is none ({error}): enrol again") from error
        guarded.reference_time = time
        self._trusted_set = self._guarded = guarded
        self._rooted = False

    @property
    def seen(self) -> Mapping[str, VersionFloor]:
        return self._guarded.seen

    @property
    def keys(self) -> str:
        """Whose word is believed about versions and time, by the newest root found."""
        return key_names(self.root, Timestamp.type, Snapshot.type)

    @property
    def root(self) -> Root:
        """The newest found."""
        return self._guarded.root

    def believe(self, time: datetime) -> None:
        """It is at least this late."""
        self._guarded.reference_time = max(self._guarded.reference_time, time)

    def load_root(self) -> Root:
        """The newest root alone; its expiry is the caller's to check."""
        with typed("root"):
            self._load_root()
        return self.root

    def refresh(self) -> None:
        with typed("metadata"):
            super().refresh()

    def get_targetinfo(self, target_path: str) -> TargetFile | None:
        with typed(f"metadata of {target_path}"):
            return super().get_targetinfo(target_path)

    def _load_root(self) -> None:
        if not self._rooted:
            super()._load_root()
            self._guarded.settle_root()
            self._rooted = True

    def _persist_root(self, version: int, data: bytes) -> None:
        self._persist_file(str(Path(self._dir, "root_history", f"{version}.root.json")), data)

    def _persist_file(self, filename: str, data: bytes) -> None:
        """Durably, and only what is new; a full disk is no reason to refuse what was verified."""
        path = Path(filename)
        with contextlib.suppress(OSError):
            if path.read_bytes() == data:
                return
        try:
            write_atomic(path, data)
        except OSError as error:
            log.warning("metadata not cached", extra={"file": path.name, "error": str(error)})

    def _update_root_symlink(self) -> None:
        """``root.json`` is for people; trust begins at the root that was given."""
        link, current = Path(self._dir, "root.json"), f"root_history/{self._trusted_set.root.version}.root.json"
        with contextlib.suppress(OSError):
            if link.is_symlink() and str(link.readlink()) == current:
                return
            fresh = link.with_name(".root.json.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(current)
            fresh.replace(link)


class _GuardedSet(TrustedMetadataSet):
    """Python-tuf's rules, with floors under them.

    The floors of everything but the root hold while the root names the same keys for timestamp and snapshot: with others the
    specification lets versions start anew (5.3.11), so that a repository can recover from a fast-forward.
    """

    def __init__(self, root: bytes, floors: Mapping[str, VersionFloor], *, anchor: str) -> None:
        self._floors, self._anchor = floors, anchor
        self.seen: dict[str, VersionFloor] = {}
        super().__init__(root, EnvelopeType.METADATA)

    def settle_root(self) -> None:
        """No newer root is to be had. Raises RollbackRefused where there was one."""
        self._demand(Root.type, self.root)
        self._saw(Root.type, self.root)

    def update_root(self, data: bytes) -> Root:
        try:
            return super().update_root(data)
        except exceptions.BadVersionNumberError as error:
            raise _MixedUp(f"a root under another's name: {error}") from error

    def update_timestamp(self, data: bytes) -> Timestamp:
        timestamp = super().update_timestamp(data)
        self._saw(Timestamp.type, timestamp)
        return timestamp

    def update_snapshot(self, data: bytes, trusted: bool | None = False) -> Snapshot:
        known = set(self.snapshot.meta) if Snapshot.type in self._trusted_set else set()
        try:
            snapshot = super().update_snapshot(data, trusted)
        except exceptions.LengthOrHashMismatchError as error:
            raise _MixedUp(f"snapshot is not the one of the timestamp: {error}") from error
        except exceptions.RepositoryError as error:
            if type(error) is exceptions.RepositoryError and known:  # the only bare one there: a file has vanished
                raise exceptions.BadVersionNumberError(str(error)) from error
            raise
        self._saw(Snapshot.type, snapshot)
        return snapshot

    def update_delegated_targets(self, data: bytes, role_name: str, delegator_name: str) -> Targets:
        try:
            targets = super().update_delegated_targets(data, role_name, delegator_name)
        except (exceptions.LengthOrHashMismatchError, exceptions.BadVersionNumberError) as error:
            if isinstance(error, _BelowFloor):
                raise
            raise _MixedUp(f"{role_name} is not the one of the snapshot: {error}") from error
        self._saw(role_name, targets)
        return targets

    def _check_final_snapshot(self) -> None:
        try:
            super()._check_final_snapshot()
        except exceptions.BadVersionNumberError as error:
            raise _MixedUp(f"snapshot is not the one of the timestamp: {error}") from error

    def _add(self, role: str, signed: Signed, delegator: str) -> None:
        """Whatever becomes trusted comes through here."""
        if not isinstance(signed.version, int) or isinstance(signed.version, bool) or signed.version > MAX_NUMBER:
            raise exceptions.RepositoryError(f"{role} has no usable version")
        if role != Root.type:  # roots are loaded one by one from the first
            self._demand(role, signed)
        super()._add(role, signed, delegator)

    def _demand(self, role: str, signed: Signed) -> None:
        floor = self._floors.get(role)
        if floor is not None and floor.keys == self._keys(role) and signed.version < floor.version:
            raise _BelowFloor(f"{role} version {signed.version} is older than {floor.version}, which was seen before")

    def _saw(self, role: str, signed: Signed) -> None:
        self.seen[role] = VersionFloor(keys=self._keys(role), version=signed.version)

    def _keys(self, role: str) -> str:
        if role == Root.type:
            return self._anchor
        return key_names(self.root, Timestamp.type, Snapshot.type)


class _MixedUp(exceptions.RepositoryError): ...


class _BelowFloor(exceptions.BadVersionNumberError): ...


class _Fetcher(FetcherInterface):
    """Asks ``source`` for names where python-tuf asks for URLs."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def download_bytes(self, url: str, max_length: int) -> bytes:
        try:
            return self._source(unquote(url.removeprefix(_BASE)), max_length)
        except Absent as error:
            raise _NotThere(str(error)) from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError("metadata is asked for whole, by name")


class _NotThere(exceptions.DownloadHTTPError):
    """Python-tuf takes a 404 for the end of the chain of roots."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 404)


def anchor_of(root: bytes) -> str:
    """What a first root is known by."""
    return "sha256:" + hashlib.sha256(root).hexdigest()


def key_names(root: Root, *roles: str) -> str:
    """The keys that speak for ``roles``, and how many of them must."""
    return " ".join(f"{role}:{root.roles[role].threshold}:{','.join(sorted(root.roles[role].keyids))}" for role in roles)


@contextlib.contextmanager
def typed(what: str) -> Iterator[None]:
    """Python-tuf's errors as the agent's."""
    try:
        yield
    except (exceptions.RepositoryError, exceptions.DownloadError, ValueError, RuntimeError) as error:
        raise _translated(what, error) from error


def _translated(what: str, error: Exception) -> AgentError:
    message = f"{what}: {error}"
    match error:
        case exceptions.ExpiredMetadataError():
            return Frozen(message)
        case exceptions.BadVersionNumberError():
            return RollbackRefused(message)
        case exceptions.LengthOrHashMismatchError() | _MixedUp():
            return MixedUp(message)
        case exceptions.DownloadLengthMismatchError():
            return Endless(message)
        case exceptions.SlowRetrievalError():
            return TooSlow(message)
        case exceptions.DownloadError():
            return LinkDown(message)
        case DeserializationError():
            return BadSignature(f"{what} cannot be read: {error.__cause__ or error}")
        case exceptions.UnsignedMetadataError():
            return BadSignature(message)
        case _:
            return Untrusted(message) if isinstance(error, RuntimeError) else BadSignature(message)

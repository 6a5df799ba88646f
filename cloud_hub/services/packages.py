"""Use cases about packages: settings, agents and firmware images, kept and signed like models."""

import builtins
import contextlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import firmware_images
from cloud_hub.core import pages
from cloud_hub.core import targets as values
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Device, Principal, Role
from cloud_hub.core.pages import Page
from cloud_hub.core.targets import ANY_BOARD, PACKAGES, Target, subject_of
from cloud_hub.services import releases
from cloud_hub.store import targets
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.errors import InvalidId
from protos.contract.ids import Digest, TenantId
from protos.contract.twin import PackageAssignment, PackageKind

log = logging.getLogger(__name__)

# The largest of each kind, in bytes. A device holds two agents beside what it does; settings are read by a person, too.
MAX_BYTES = {PackageKind.CONFIG: 256 << 10, PackageKind.AGENT: 256 << 20, PackageKind.FIRMWARE: 2 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Raises Invalid, or ``protos.contract.errors.InvalidValue`` for an unknown board."""

    kind: PackageKind
    board: str  # empty: for all; firmware is for one
    name: str
    version: str
    digest: Digest
    size_bytes: int

    def __post_init__(self) -> None:
        try:
            ids.package_version(self.version)
        except InvalidId as error:
            raise Invalid(str(error)) from error
        most = MAX_BYTES[self.kind]
        if self.board:
            most = min(most, firmware_images.board(self.board).storage_mb << 20)
        elif self.kind is PackageKind.FIRMWARE:
            raise Invalid("firmware is for one board: say which")
        if not 1 <= self.size_bytes <= most:
            raise Invalid(f"a package of kind {subject_of(self.kind)} must have 1 to {most} bytes, got {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    kind: PackageKind
    board: str  # empty: for all
    name: str
    version: str
    digest: Digest
    size_bytes: int
    release: int
    signed: bool  # devices can verify it
    created_at: datetime


class PackageService:
    """A package never changes once published; it is known by kind, name, version and board. Thread-safe."""

    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    # -- publishing -----------------------------------------------------------------------------------------------------

    def begin(self, who: Principal, announced: Announced) -> "Upload":
        """Nothing is kept before the upload is finished. Raises Conflict where another package has its name."""
        self.published(who, announced)
        return Upload(self, self._artifacts, who, announced)

    def published(self, who: Principal, announced: Announced) -> Package | None:
        """What has been published under this name. Raises Conflict where that is another file."""
        path = _target(who, announced, 0).path
        with self._db.read() as tx:
            found = targets.packages(tx, who.tenant, PACKAGES, from_=path, limit=1)
        if not found or found[0][0].path != path:
            return None
        package = _package(*found[0])
        _check_same(announced, package.digest)
        return package

    def publish(self, who: Principal, announced: Announced) -> Package:
        """Queue it to be signed; its blob is in the artifact store. Again gives what it gave. Raises Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            there = targets.find(tx, _target(who, announced, 0).path)
            if there is not None:
                _check_same(announced, there.digest)
            else:
                release = targets.next_release(tx, who.tenant, subject_of(announced.kind), announced.name)
                targets.add(tx, [_target(who, announced, release)], now)
        package = self.published(who, announced)
        assert package is not None  # it was written just now, and is never removed
        fields = {"kind": subject_of(package.kind).value, "package": package.name, "version": package.version}
        log.info("package published", extra={**fields, "board": package.board, "by": who.name})
        return package

    def list(
        self, who: Principal, page: Page, kinds: Collection[PackageKind] = tuple(PackageKind)
    ) -> tuple[builtins.list[Package], str]:
        """By kind, name, version and board, and the token of the next page: empty at the end. Raises Invalid."""
        pages.checked(page)
        subjects = [subject_of(kind) for kind in kinds]
        with self._db.read() as tx:
            found = targets.packages(tx, who.tenant, subjects, from_=page.token, limit=page.size + 1)
        following = found[page.size][0].path if len(found) > page.size else ""
        return [_package(*one) for one in found[: page.size]], following

    # -- for rollouts, in their transaction -------------------------------------------------------------------------------

    def check(self, tx: Tx, tenant: TenantId, kind: PackageKind, name: str, version: str) -> None:
        """Raises NotFound where there is no such package."""
        self._version(tx, tenant, kind, name, version)

    def assignment(
        self, tx: Tx, tenant: TenantId, kind: PackageKind, name: str, version: str, board: str, rollout_id: str = ""
    ) -> PackageAssignment:
        """The file of a version for a board: its own before the one for all.

        Raises:
            NotFound: no such package.
            NotReady: there is none for this board.
        """
        found = [target for target, _ in self._version(tx, tenant, kind, name, version)]
        by_variant = {target.variant: target for target in found}
        target = by_variant.get(board) or by_variant.get(ANY_BOARD)
        if target is None:
            raise NotReady(f"{subject_of(kind)} {name} {version} is only for {', '.join(sorted(by_variant))}, not for {board}")
        return PackageAssignment(
            kind=kind, name=name, version=version, digest=target.digest, size_bytes=target.length, rollout_id=rollout_id
        )

    def offer(self, tx: Tx, tenant: TenantId, kind: PackageKind, name: str, version: str) -> bool:
        """Make it what devices may go to, the newest release of its name; whether they can verify it already.

        Raises NotFound.
        """
        self._version(tx, tenant, kind, name, version)
        subject = subject_of(kind)
        releases.promote(tx, tenant, name, version, self._clock.now(), subject=subject)
        return releases.released(tx, tenant, name, version, subject=subject)

    def _version(
        self, tx: Tx, tenant: TenantId, kind: PackageKind, name: str, version: str
    ) -> builtins.list[tuple[Target, bool]]:
        found = targets.of_version(tx, tenant, subject_of(kind), name, version)
        if not found:
            raise NotFound(f"no {subject_of(kind)} package {name[:64]} {version[:64]}")
        return found


class Upload:
    """One package on its way in; ``close`` it however it ends."""

    def __init__(self, service: PackageService, artifacts: ArtifactStore, who: Principal, announced: Announced) -> None:
        self._service, self._who, self._announced = service, who, announced
        self._open = contextlib.ExitStack()
        self._write = self._open.enter_context(artifacts.receiving(announced.digest, announced.size_bytes))

    def take(self, data: bytes) -> None:
        """Raises Invalid where it is more than was announced."""
        self._write(data)

    def finish(self) -> Package:
        """Raises Invalid where it is not what was announced, Conflict where another package was faster."""
        self._open.close()
        return self._service.publish(self._who, self._announced)

    def close(self) -> None:
        """Forget what came, unless it is finished."""
        self._open.__exit__(InterruptedError, InterruptedError(), None)  # nothing is left in it once it is finished


def readable_by(tx: Tx, who: Principal, device: Device | None, digest: Digest) -> bool:
    """Users read every package of their tenant; a device those it should have or says it has. ``device``: the caller itself."""
    if who.role is Role.DEVICE:
        if device is None:
            return False
        installed = device.reported.packages if device.reported is not None else ()
        if all(package.digest != digest for package in (*device.desired.packages, *installed)):
            return False
    return targets.names_package(tx, who.tenant, digest)


def _target(who: Principal, announced: Announced, release: int) -> Target:
    return values.of_package(
        who.tenant,
        kind=announced.kind,
        board=announced.board,
        name=announced.name,
        version=announced.version,
        digest=announced.digest,
        length=announced.size_bytes,
        release=release,
    )


def _check_same(announced: Announced, digest: Digest) -> None:
    if digest != announced.digest:
        raise Conflict(
            f"{subject_of(announced.kind)} {announced.name} {announced.version} for {announced.board or 'all boards'} is "
            f"published already, as {digest}: give the new one another version"
        )


def _package(target: Target, signed: bool, created_at: datetime) -> Package:
    return Package(
        kind=PackageKind[target.subject.name],
        board=target.boards[0] if target.boards else "",
        name=target.name,
        version=target.version,
        digest=target.digest,
        size_bytes=target.length,
        release=target.release,
        signed=signed,
        created_at=created_at,
    )

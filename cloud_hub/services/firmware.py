"""Use cases about firmware images: they are kept and signed like models. No device installs one yet."""

import builtins
import contextlib
import logging
import re
from dataclasses import dataclass
from datetime import datetime

import firmware_images
from cloud_hub.core import pages
from cloud_hub.core import targets as values
from cloud_hub.core.errors import Conflict, Invalid
from cloud_hub.core.model import Principal
from cloud_hub.core.pages import Page
from cloud_hub.core.targets import Subject, Target
from cloud_hub.store import targets
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock
from protos.contract.ids import Digest

log = logging.getLogger(__name__)

MAX_BYTES = 2 << 30  # of any board

_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]{0,61}[A-Za-z0-9])?")  # a segment of a path: never "." or ".."


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Raises Invalid."""

    board: str
    name: str
    version: str
    digest: Digest
    size_bytes: int

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise Invalid(f"a version must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '-' and '+', got {self.version[:64]!r}")
        most = min(MAX_BYTES, firmware_images.board(self.board).storage_mb << 20)
        if not 1 <= self.size_bytes <= most:
            raise Invalid(f"firmware for {self.board} must have 1 to {most} bytes, got {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    board: str
    name: str
    version: str
    digest: Digest
    size_bytes: int
    release: int
    signed: bool
    created_at: datetime


class FirmwareService:
    """Thread-safe."""

    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    def begin(self, who: Principal, announced: Announced) -> "Upload":
        """Nothing is kept before the upload is finished. Raises Conflict where another image has its name."""
        self.published(who, announced)
        return Upload(self, self._artifacts, who, announced)

    def published(self, who: Principal, announced: Announced) -> Firmware | None:
        """What has been published under this name. Raises Conflict where that is another image."""
        path = _target(who, announced, 0).path
        with self._db.read() as tx:
            found = targets.firmware(tx, who.tenant, from_=path, limit=1)
        if not found or found[0][0].path != path:
            return None
        firmware = _firmware(*found[0])
        _check_same(announced, firmware.digest)
        return firmware

    def publish(self, who: Principal, announced: Announced) -> Firmware:
        """Queue it to be signed; its blob is in the artifact store. Again gives what it gave. Raises Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            there = targets.find(tx, _target(who, announced, 0).path)
            if there is not None:
                _check_same(announced, there.digest)
            else:
                release = targets.next_release(tx, who.tenant, Subject.FIRMWARE, announced.name)
                targets.add(tx, [_target(who, announced, release)], now)
        firmware = self.published(who, announced)
        assert firmware is not None  # it was written just now, and is never removed
        fields = {"board": firmware.board, "firmware": firmware.name, "version": firmware.version, "by": who.name}
        log.info("firmware published", extra=fields)
        return firmware

    def list(self, who: Principal, page: Page) -> tuple[builtins.list[Firmware], str]:
        """By board, name and version, and the token of the next page: empty at the end. Raises Invalid."""
        pages.checked(page)
        with self._db.read() as tx:
            found = targets.firmware(tx, who.tenant, from_=page.token, limit=page.size + 1)
        following = found[page.size][0].path if len(found) > page.size else ""
        return [_firmware(*one) for one in found[: page.size]], following


class Upload:
    """One image on its way in; ``close`` it however it ends."""

    def __init__(self, service: FirmwareService, artifacts: ArtifactStore, who: Principal, announced: Announced) -> None:
        self._service, self._who, self._announced = service, who, announced
        self._open = contextlib.ExitStack()
        self._write = self._open.enter_context(artifacts.receiving(announced.digest, announced.size_bytes))

    def take(self, data: bytes) -> None:
        """Raises Invalid where it is more than was announced."""
        self._write(data)

    def finish(self) -> Firmware:
        """Raises Invalid where it is not what was announced, Conflict where another image was faster."""
        self._open.close()
        return self._service.publish(self._who, self._announced)

    def close(self) -> None:
        """Forget what came, unless it is finished."""
        self._open.__exit__(InterruptedError, InterruptedError(), None)  # nothing is left in it once it is finished


def _target(who: Principal, announced: Announced, release: int) -> Target:
    return values.of_firmware(
        who.tenant,
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
            f"firmware {announced.name} {announced.version} for {announced.board} is published already, as {digest}: "
            "give the new one another version"
        )


def _firmware(target: Target, signed: bool, created_at: datetime) -> Firmware:
    return Firmware(
        board=target.variant,
        name=target.name,
        version=target.version,
        digest=target.digest,
        size_bytes=target.length,
        release=target.release,
        signed=signed,
        created_at=created_at,
    )

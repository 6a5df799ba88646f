"""The image of the board: RAUC writes it into the slot that is not booted, and the board is started from there on trial.

The boot loader counts the starts of a slot until it is marked good, and goes back by itself to one that is, when they are used
up: also where the new image does not even get as far as an agent. The mark is ours to give, after the trial, and at every
start of an image that has passed it.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_agent.core.boot import BOOT_ID
from edge_agent.core.errors import BadPackage
from edge_agent.core.files import sync_folder
from edge_agent.update.components import firmware_record
from edge_agent.update.components.firmware_record import Attempt, Firmware, Image
from edge_agent.update.components.rauc_cli import AGAIN_S, INSTALL_S, QUICK_S, Board, Rauc
from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release
from edge_agent.update.installer import Permit
from edge_agent.update.places import require
from edge_agent.update.probation import Verdict
from edge_agent.update.record import Component, Effect, Found, Update, package_of
from protos.contract.manifest import Blob
from protos.contract.twin import MAX_PACKAGE_BYTES, PackageAssignment

IDLE_S = 3600.0
_PLACE = "inbox"  # there is one: the slots are RAUC's
_SPARE_S = 120.0


class FirmwareInstaller:
    """See ``installer.Installer``. An image becomes active with a new start of the board. ``folder`` is on no slot: both images
    and every agent in them see the same.
    """

    component = Component.FIRMWARE

    def __init__(
        self,
        folder: Path,
        fetcher: Fetcher,
        trial: Trial,
        rauc: Rauc,
        *,
        settle_s: float,
        monotonic: Callable[[], float],
        again: Callable[[Effect], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``again``: asks for a new start of the board."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._fetcher, self._trial, self._rauc = folder, fetcher, trial, rauc
        self._record = folder / "firmware.json"
        self._monotonic, self._good_at = monotonic, monotonic() + settle_s
        self._board = Board(rauc, monotonic=monotonic, sleep=sleep)
        self._again = again
        self._marked = False
        self.verify_s = 3 * QUICK_S + _SPARE_S
        self.activate_s = INSTALL_S + 4 * QUICK_S + _SPARE_S

    def running(self) -> PackageAssignment | None:
        image = self._booted_image()
        return image.assignment if image is not None else None

    def found(self) -> Found | None:
        image = self._booted_image()
        if image is None:
            return None
        return Found(
            component=self.component,
            generation=image.generation,
            assignment=image.assignment,
            place=_PLACE,
            good=image.good,
            rollout_id=image.assignment.rollout_id,
        )

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        """The boot loader has decided what is started, before this process was."""
        known, standing = self._load(), self._board.if_up()
        attempt = known.attempt
        if attempt is None or standing is None:  # RAUC may not be up yet: ``activate`` asks it again
            return ""
        back = standing.booted == attempt.origin
        if trial is None or not _same(attempt.image, trial):
            if back:  # of an update that is over
                with contextlib.suppress(OSError):
                    firmware_record.store(self._record, replace(known, attempt=None))
            return ""
        came_back = back and attempt.installed and _boot_id() != attempt.boot
        return "the board came back with the image before it: the new one did not start" if came_back else ""

    def tend(self) -> float:
        """Tell the boot loader that this start of a good image has lasted; without that it would give the image up one day."""
        if self._marked:
            return IDLE_S
        if (left_s := self._good_at - self._monotonic()) > 0:
            return left_s
        attempt, standing, image = self._load().attempt, self._board.if_up(), self._booted_image()
        if attempt is not None and standing is not None and standing.booted != attempt.origin:
            # It was taken back. Where the one before it starts no more, the board would come back here again and again.
            if standing.primary != standing.booted:
                self._again(Effect.REBOOT)  # something came between that and the new start
            return IDLE_S
        if image is not None and not image.good:
            return AGAIN_S  # its trial decides
        try:
            self._rauc.mark_good()
        except (BadPackage, OSError):
            return AGAIN_S
        self._marked = True
        return IDLE_S

    def failing(self) -> str:
        return ""

    def damaged(self) -> bool:
        return False

    # -- in the order of an update ----------------------------------------------------------------------------------------

    def place(self, update: Update) -> str:
        return _PLACE

    def present(self, update: Update) -> str:
        standing, image = self._board.if_up(), self._booted_image()
        same = image is not None and image.good and _same(image, update)
        return _PLACE if same and standing is not None and standing.primary == standing.booted else ""

    def prepare(self, update: Update) -> None:
        for other in self._folder.glob("*.raucb*"):
            if not other.name.startswith(self._bundle(update).name):
                other.unlink(missing_ok=True)

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> Release:
        package = package_of(update)
        approved = self._fetcher.fetch(
            self._bundle(update),
            package,
            approve=lambda hub: permit.package(hub, package),
            called_off=called_off,
            max_bytes=MAX_PACKAGE_BYTES,
        )
        sync_folder(self._folder)
        return approved.release

    def cut(self) -> None:
        self._fetcher.cut()

    def progress(self, update: Update) -> int:
        try:
            return sum(file.stat().st_size for file in self._folder.glob(f"{self._bundle(update).name}*"))
        except OSError:
            return 0

    def verify(self, update: Update) -> None:
        """RAUC believes its signature, and it is for this board."""
        self.check(update)
        try:
            meant, here = self._rauc.compatible_of(self._bundle(update)), self._board.stand().compatible
        except OSError as error:
            raise BadPackage(f"RAUC cannot be asked: {error.strerror}") from error
        if meant != here:
            raise BadPackage(f"the image is for {meant!r}, this board is {here!r}")

    def check(self, update: Update) -> None:
        package = package_of(update)
        require(self._bundle(update), Blob(digest=package.digest, size_bytes=package.size_bytes))

    def activate(self, update: Update) -> Effect:
        standing, known = self._board.patiently(), self._load()
        attempt, booted = known.attempt, known.slots.get(standing.booted)
        if attempt is None and booted is not None and booted.good and _same(booted, update):
            return Effect.NOW  # committed, and the agent ended before it could note that
        if attempt is None or not _same(attempt.image, update):
            image = Image(assignment=package_of(update), generation=update.generation)
            attempt = Attempt(image=image, origin=standing.booted, boot=_boot_id())
            self._trial.begin()
            firmware_record.store(self._record, replace(known, attempt=attempt))
        if standing.booted != attempt.origin:
            self._put(standing.booted, attempt.image)
            return Effect.NOW
        if not attempt.installed or standing.primary == standing.booted:
            self.check(update)
            self._rauc.install(self._bundle(update))
            self._choose_new(standing.booted)
            installed = replace(attempt, installed=True, boot=_boot_id())
            firmware_record.store(self._record, replace(known, attempt=installed))
        return Effect.REBOOT

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        return self._trial.judge(elapsed_s)

    def commit(self, update: Update) -> None:
        try:
            self._rauc.mark_good()
        except BadPackage as error:
            raise OSError(f"RAUC does not take the mark: {error}") from error
        self._marked = True
        booted, known = self._board.stand().booted, self._load()
        image = known.slots.get(booted)
        if image is not None and not image.good:
            slots = {**known.slots, booted: replace(image, good=True)}
            firmware_record.store(self._record, Firmware(slots=slots, attempt=None))
        self._bundle(update).unlink(missing_ok=True)

    def withdraw(self, update: Update) -> None:
        """Only a new start of the board brings the other image."""

    def roll_back(self, update: Update) -> Effect:
        known = self._load()
        attempt = known.attempt
        if attempt is None or not _same(attempt.image, update):
            return Effect.NOW  # nothing of it was installed
        booted = self._board.patiently().booted
        try:
            self._rauc.mark_active(attempt.origin)
            if booted != attempt.origin:
                self._rauc.mark_bad(booted)
            self._board.anew()
        except BadPackage as error:
            raise OSError(f"RAUC does not go back: {error}") from error
        if booted != attempt.origin:
            return Effect.REBOOT
        firmware_record.store(self._record, replace(known, attempt=None))
        self._bundle(update).unlink(missing_ok=True)
        return Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        """What was committed is the boot loader's to give up."""
        return None

    # -- pieces -----------------------------------------------------------------------------------------------------------

    def _choose_new(self, booted: str) -> None:
        """Where the board's configuration leaves that to us. Raises BadPackage."""
        if self._board.anew().primary == booted:
            self._rauc.mark_active("other")
            if self._board.anew().primary == booted:
                raise BadPackage("RAUC has installed the image, but does not start the board from it")

    def _booted_image(self) -> Image | None:
        standing, known = self._board.if_up(), self._load()
        if standing is None:
            return None
        attempt = known.attempt
        if attempt is not None and standing.booted != attempt.origin:
            return attempt.image
        return known.slots.get(standing.booted)

    def _put(self, slot: str, image: Image) -> None:
        known = self._load()
        if known.slots.get(slot) != image:
            firmware_record.store(self._record, replace(known, slots={**known.slots, slot: image}))

    def _load(self) -> Firmware:
        return firmware_record.load(self._record)

    def _bundle(self, update: Update) -> Path:
        return self._folder / f"{package_of(update).digest.removeprefix('sha256:')[:16]}.raucb"


def _same(image: Image, update: Update) -> bool:
    return image.assignment == update.assignment


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()

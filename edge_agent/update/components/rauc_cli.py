"""RAUC through its command line: https://rauc.readthedocs.io/en/latest/using.html."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.errors import BadPackage

QUICK_S = 60.0  # for what only asks, or moves a mark
INSTALL_S = 3600.0  # an image onto a slow card
AGAIN_S = 60.0  # between questions that RAUC did not answer
_PATIENCE_S = (1.0, 2.0, 4.0)
_MAX_WORDS = 400  # characters of what it said


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the board is started from, by ``rauc status``."""

    compatible: str
    booted: str  # slot, "rootfs.0"
    primary: str  # slot that is started next


class Rauc:
    """Each call is one process, within a time. Raises BadPackage with RAUC's last words, or OSError where it is not there."""

    def __init__(self, command: Path) -> None:
        self._command = command

    def compatible_of(self, bundle: Path) -> str:
        """Of a bundle whose signature RAUC has verified by the board's own keyring."""
        values = self._json("info", "--output-format=json", str(bundle))
        return str(values.get("compatible", ""))

    def status(self) -> Standing:
        values = self._json("status", "--detailed", "--output-format=json")
        try:
            slots: Mapping[str, Any] = {name: slot for each in values["slots"] for name, slot in each.items()}
            # "booted" is the boot loader's name, or a device: the slot is the one that says so of itself
            booted = next(name for name, slot in slots.items() if slot["state"] == "booted")
            return Standing(compatible=str(values["compatible"]), booted=booted, primary=str(values["boot_primary"] or ""))
        except (KeyError, TypeError, AttributeError, StopIteration) as error:
            raise BadPackage("RAUC does not say which slot is booted: is the board started from one of its slots?") from error

    def install(self, bundle: Path) -> None:
        """Into the slot that is not booted; it is started next, unless the board's own configuration leaves that to us."""
        self._run("install", str(bundle), timeout_s=INSTALL_S)

    def mark_good(self) -> None:
        """The booted slot: the boot loader counts its starts no more."""
        self._run("status", "mark-good")

    def mark_bad(self, slot: str) -> None:
        self._run("status", "mark-bad", slot)

    def mark_active(self, slot: str) -> None:
        """It is started next; "other": the one that is not booted."""
        self._run("status", "mark-active", slot)

    def _json(self, *words: str) -> dict[str, Any]:
        printed = self._run(*words)
        try:
            values = json.loads(printed)
        except ValueError as error:
            raise BadPackage(f"'rauc {words[0]}' printed no JSON: {_last_words(printed)}") from error
        if not isinstance(values, dict):
            raise BadPackage(f"'rauc {words[0]}' printed something else than was asked for")
        return values

    def _run(self, *words: str, timeout_s: float = QUICK_S) -> bytes:
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                [str(self._command), *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env=env
            )
        except subprocess.TimeoutExpired as error:
            raise BadPackage(f"'rauc {' '.join(words[:2])}' took longer than {timeout_s:.0f} s") from error
        if done.returncode != 0:
            raise BadPackage(f"'rauc {words[0]}' ended with {done.returncode}: {_last_words(done.stderr or done.stdout)}")
        return done.stdout


class Board:
    """What RAUC says, kept: which slot is booted does not change while we run."""

    def __init__(self, rauc: Rauc, *, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._rauc, self._monotonic, self._sleep = rauc, monotonic, sleep
        self._standing: Standing | None = None
        self._silent_at = float("-inf")  # monotonic, when RAUC last gave no answer

    def stand(self) -> Standing:
        """Raises BadPackage, OSError."""
        return self._standing or self.anew()

    def anew(self) -> Standing:
        """After what RAUC was told to do. Raises as ``stand``."""
        self._standing = None
        self._standing = self._rauc.status()
        return self._standing

    def if_up(self) -> Standing | None:
        """For what is asked all the time: one that gives no answer is left alone for a while."""
        if self._standing is None and self._monotonic() - self._silent_at < AGAIN_S:
            return None
        try:
            return self.stand()
        except (BadPackage, OSError):
            self._silent_at = self._monotonic()
            return None

    def patiently(self) -> Standing:
        """Just after the board has started RAUC may not be up. Raises OSError: it is asked again later."""
        for pause_s in _PATIENCE_S:
            try:
                return self.stand()
            except (BadPackage, OSError):
                self._sleep(pause_s)
        try:
            return self.stand()
        except BadPackage as error:
            raise OSError(str(error)) from error


def _last_words(printed: bytes) -> str:
    text = " ".join(printed.decode("utf-8", "replace").split())[-_MAX_WORDS:]
    return "".join(letter if letter.isprintable() else " " for letter in text) or "no output"

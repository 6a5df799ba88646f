"""Which agent is started: the one that is installed, or a bundle that has taken its place.

The rules of ``edge-agent-launcher``, and the files that it shares with the agent. Standard library only: they must hold while
everything else is broken.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.files import write_atomic

MAX_STARTS = 3
NAMES = ("a", "b")
NONE = "none"  # what the pointer says where the agent of the board is to be started
ENV_APP = "TIDELINE_APP"  # to the agent: the folder of the bundles
ENV_PLACE = "TIDELINE_APP_PLACE"  # from where it was started, "a", "b" or NONE
ENV_DIGEST = "TIDELINE_APP_DIGEST"  # and which bundle that was; empty for the board's own
AGENT = ("-P", "-m", "edge_agent.app.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is to be started."""

    place: str = NONE
    digest: str = ""


@dataclass(frozen=True, slots=True)
class App:
    """The folder of the bundles, as ``edge_agent.update.shelf`` fills it. Everything in it is read as if it may be damaged."""

    folder: Path

    @property
    def fallen(self) -> Path:
        """What was given up here and why, for the agent that is started instead: JSON, ``digest`` and ``reason``."""
        return self.folder / "fallen.json"

    @property
    def starts(self) -> Path:
        """How often the bundle on trial was started: JSON, ``digest`` and ``count``."""
        return self.folder / "starts.json"

    def bundle(self, place: str) -> Path:
        return self.folder / place / "package"

    def record(self, place: str) -> dict[str, Any]:
        return read(self.folder / place / "package.json")

    def current(self) -> str:
        """A pointer that is lost or damaged means the newest bundle that has passed its trial."""
        try:
            text = (self.folder / "current").read_bytes().decode("ascii", "replace").strip()
        except OSError:
            text = ""
        return text if text in (*NAMES, NONE) else self.fallback("")

    def fallback(self, than: str) -> str:
        """Another place than ``than`` with a bundle that has passed its trial and is whole; NONE: there is none."""
        good = [(record, place) for place in NAMES if place != than and (record := self.record(place)).get("good") is True]
        whole = [(_number(record, "generation"), place) for record, place in good if not self.damage(place)]
        return max(whole)[1] if whole else NONE

    def damage(self, place: str) -> str:
        """Why the bundle there is not what its record says; empty: it is."""
        try:
            with self.bundle(place).open("rb") as file:
                found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if found == self.record(place).get("digest") else "its bytes are not those that were installed"

    def started(self, digest: str) -> int:
        """How often ``digest`` was started on trial."""
        values = read(self.starts)
        return _number(values, "count") if values.get("digest") == digest else 0


def choose(app: App) -> Start:
    """What to start now; a start on trial is counted first. Moves the pointer away from what cannot be started."""
    place = app.current()
    if place == NONE:
        return Start()
    record, why = app.record(place), app.damage(place)
    digest = str(record.get("digest", ""))
    if not why and record.get("good") is not True:
        why = _try_once_more(app, digest)
    if not why:
        return Start(place=place, digest=digest)
    return _fall_back(app, place, digest, why)


def _try_once_more(app: App, digest: str) -> str:
    """Why that must not be; empty: it is counted. One that cannot be counted is not made, or it could be made for ever."""
    count = app.started(digest)
    if count >= MAX_STARTS:
        return f"it did not get through its trial in {count} starts"
    try:
        write_atomic(app.starts, json.dumps({"digest": digest, "count": count + 1}).encode())
    except OSError as error:
        return f"its start could not be counted: {error.strerror}"
    return ""


def _fall_back(app: App, place: str, digest: str, why: str) -> Start:
    other = app.fallback(place)
    say(f"bundle {place} is not started: {why}; {'the one before it' if other != NONE else 'the agent of the board'} is")
    try:
        write_atomic(app.fallen, json.dumps({"digest": digest, "reason": why}).encode())
        write_atomic(app.folder / "current", other.encode() + b"\n")
    except OSError as error:  # the next start decides the same again
        say(f"that could not be written down: {error.strerror}")
    return Start(place=other, digest=str(app.record(other).get("digest", "")) if other != NONE else "")


def command(app: App, start: Start, arguments: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Program and environment of the agent. A bundle goes before what is installed, whatever that is."""
    path = [env[name] for name in ("PYTHONPATH",) if env.get(name)]
    if start.place != NONE:
        path.insert(0, str(app.bundle(start.place).absolute()))
    told = {ENV_APP: str(app.folder.absolute()), ENV_PLACE: start.place, ENV_DIGEST: start.digest}
    kept = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    return [sys.executable, *AGENT, *arguments], kept | told | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def started(env: Mapping[str, str]) -> Start | None:
    """What the launcher has started this process as; None: it did not."""
    place = env.get(ENV_PLACE)
    return Start(place=place, digest=env.get(ENV_DIGEST, "")) if place in (*NAMES, NONE) and env.get(ENV_APP) else None


def say(text: str) -> None:
    """To the journal of the service manager."""
    sys.stderr.write(f"edge-agent-launcher: {text}\n")


def read(path: Path) -> dict[str, Any]:
    """A small JSON object; empty where there is none, or it makes no sense."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _number(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return value if type(value) is int and value >= 0 else 0

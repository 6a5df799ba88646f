"""What an update needs to tell a good release from a bad one.

Imported late: TUF and TLS are heavy, and a start needs neither.
"""

import threading
from pathlib import Path

from edge_agent.core.clock import Clock
from edge_agent.core.errors import ConfigError, LinkDown, NoTrust
from edge_agent.core.ports import Hub
from edge_agent.sync import identity
from edge_agent.update.floors import Floors
from edge_agent.update.surroundings import Anchor, Approved, ApprovedPackage, Verifier
from protos.contract.twin import ModelAssignment, PackageAssignment

FOLDER = "trust"


def anchor(data_dir: Path) -> Anchor:
    """Who this device is now, and its roots. Raises LinkDown while it is not enrolled, NoTrust where it was given no roots."""
    try:
        me = identity.load(data_dir)
    except ConfigError as error:  # enrolling while we run mends it
        raise LinkDown(str(error)) from error
    folder = me.folder.resolve()  # both of one enrolment, whatever is replaced meanwhile
    try:
        image, director = ((folder / path.name).read_bytes() for path in (me.image_root_path, me.director_root_path))
    except OSError as error:
        raise NoTrust(
            "this device was given no roots of trust, so it can tell no release from a forgery: "
            "enrol again with a ticket made after `hubctl trust init`"
        ) from error
    return Anchor(device_id=me.device_id, tenant=me.tenant, board=me.board, image_root=image, director_root=director)


class OneAtATime:
    """``surroundings.Verifier``: several threads share a cache and floors, so one checks after the other."""

    def __init__(self, verifier: Verifier, turn: threading.Lock) -> None:
        self._verifier, self._turn = verifier, turn

    def check(self, hub: Hub, anchor: Anchor, assignment: ModelAssignment, generation: int) -> Approved:
        with self._turn:
            return self._verifier.check(hub, anchor, assignment, generation)

    def check_package(self, hub: Hub, anchor: Anchor, package: PackageAssignment, generation: int) -> ApprovedPackage:
        with self._turn:
            return self._verifier.check_package(hub, anchor, package, generation)


def verifier(data_dir: Path, floors: Floors, clock: Clock, turn: threading.Lock) -> Verifier:
    """``turn``: one for all verifiers with this ``data_dir``."""
    from edge_agent.update.trust import Trust

    return OneAtATime(Trust(data_dir / FOLDER, floors, clock), turn)

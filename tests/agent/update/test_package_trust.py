"""Whether a package may be fetched: as for models, both repositories must mean the same file for this device."""

import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tuf.api.metadata import TargetFile

from edge_agent.core.errors import (
    Absent,
    AlteredTarget,
    BadSignature,
    ForeignDevice,
    LinkDown,
    ReleaseRollback,
    Replayed,
    UnknownTarget,
    WrongHardware,
)
from edge_agent.core.ports import Hub
from edge_agent.core.ports import Repository as Metadata
from edge_agent.update import floors
from edge_agent.update.floors import Floors
from edge_agent.update.surroundings import Anchor, ApprovedPackage
from edge_agent.update.trust import ANY_BOARD, Trust
from protos.contract.ids import device_id, digest_of, tenant_id
from protos.contract.twin import PackageAssignment, PackageKind
from tests.agent.clocks import ManualClock
from tests.conformance.repository import Ask, Repository, customised

DEVICE, TENANT, BOARD = device_id("cam-1"), tenant_id("default"), "camera-x86"
DATA = b"log_level: DEBUG\n"
ONE = PackageAssignment(kind=PackageKind.CONFIG, name="loud", version="1", digest=digest_of(DATA), size_bytes=len(DATA))


def target(
    it: PackageAssignment, data: bytes, *, board: str = "", release: int = 1, tenant: str = TENANT, **custom: Any
) -> TargetFile:
    kind = it.kind.name.lower()
    path = f"{kind}/{tenant}/{it.name}/{it.version}/{board or ANY_BOARD}"
    words = {"kind": kind, "boards": [board] if board else [], "release": release, **custom}
    return customised(TargetFile.from_data(path, data, ["sha256"]), **words)


@dataclass
class Site:
    """A hub, and one device that trusts it."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    generation: int = 1
    ordered: list[TargetFile] = field(default_factory=list)
    forge: Callable[[Ask, bytes], bytes] = lambda _, answer: answer

    def __post_init__(self) -> None:
        self.repository = Repository(TENANT, self.clock.now)
        self.db = sqlite3.connect(self.folder / "floors.sqlite", isolation_level=None)
        self.db.executescript(floors.SCHEMA)
        self.trust = Trust(self.folder / "trust", Floors(self.db, self._change, durable=True), self.clock)
        roots = (self.repository.images.root, self.repository.director.root)
        self.anchor = Anchor(device_id=DEVICE, tenant=TENANT, board=BOARD, image_root=roots[0], director_root=roots[1])

    @contextmanager
    def _change(self) -> Any:
        self.db.execute("BEGIN")
        yield
        self.db.execute("COMMIT")

    def publish(self, *targets: TargetFile, order: bool = True) -> None:
        self.repository.images.add(targets)
        if order:
            self.ordered += targets

    def check(self, it: PackageAssignment = ONE) -> ApprovedPackage:
        return self.trust.check_package(cast(Hub, self), self.anchor, it, self.generation)

    def metadata(self, repository: Metadata, name: str, max_bytes: int) -> bytes:
        signed = self.repository.images if repository is Metadata.IMAGE else self.repository.director
        if name not in signed.files:
            raise Absent(name)
        return signed.files[name]

    def director(self, nonce: bytes) -> bytes:
        ask = Ask(device=DEVICE, tenant=TENANT, board=BOARD, generation=self.generation, nonce=nonce)
        return self.forge(ask, self.repository.director.answer(ask, self.ordered))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_package_that_both_repositories_mean_is_approved_with_its_release(site: Site) -> None:
    site.publish(target(ONE, DATA, release=7))
    approved = site.check()
    assert (approved.blob.digest, approved.blob.size_bytes) == (ONE.digest, ONE.size_bytes)
    assert (approved.release.series, approved.release.number) == ("config/default/loud", 7)


def test_one_for_this_board_alone_is_approved(site: Site) -> None:
    site.publish(target(ONE, DATA, board=BOARD))
    assert site.check().blob.digest == ONE.digest


def test_one_for_another_board_is_refused_under_whatever_name(site: Site) -> None:
    site.publish(target(ONE, DATA, board="vehicle-arm64"))
    with pytest.raises(UnknownTarget):
        site.check()
    site.publish(target(ONE, DATA, boards=["vehicle-arm64"]))
    with pytest.raises(WrongHardware):
        site.check()


def test_what_only_one_of_them_means_is_refused(site: Site) -> None:
    site.publish(target(ONE, DATA), order=False)
    with pytest.raises(UnknownTarget, match="0 files of config loud:1"):
        site.check()
    site.ordered = [target(replace(ONE, version="2"), DATA)]
    with pytest.raises(UnknownTarget, match="the image repository has none"):
        site.check(replace(ONE, version="2"))


def test_other_bytes_than_either_says_are_refused(site: Site) -> None:
    site.publish(target(ONE, DATA))
    other = b"log_level: ERROR\n"
    with pytest.raises(AlteredTarget):
        site.check(replace(ONE, digest=digest_of(other)))
    site.ordered = [target(ONE, other)]
    with pytest.raises(AlteredTarget):
        site.check()


def test_one_of_another_kind_is_refused_in_its_place(site: Site) -> None:
    site.publish(target(ONE, DATA, kind="agent"))
    with pytest.raises(UnknownTarget):
        site.check()


def test_an_older_release_than_was_committed_is_refused_and_one_of_another_kind_is_not(site: Site) -> None:
    agent = replace(ONE, kind=PackageKind.AGENT)
    site.publish(target(ONE, DATA, release=4), target(agent, DATA, release=4))
    site.check()
    site.db.execute("INSERT INTO release_floors VALUES ('config/default/loud', 5)")
    with pytest.raises(ReleaseRollback):
        site.check()
    assert site.check(agent)


def test_what_else_the_director_names_is_no_reason_to_refuse_it(site: Site) -> None:
    firmware = replace(ONE, kind=PackageKind.FIRMWARE, name="base")
    site.ordered = [target(firmware, b"which the image repository has not", board=BOARD)]
    site.publish(target(ONE, DATA))
    assert site.check()
    with pytest.raises(UnknownTarget):
        site.check(firmware)


def test_a_director_that_names_anything_of_another_tenant_is_not_believed_at_all(site: Site) -> None:
    site.publish(target(ONE, DATA))
    site.ordered.append(target(ONE, DATA, tenant="other"))
    with pytest.raises(ForeignDevice):
        site.check()


def test_the_directors_answer_is_bound_to_the_device_and_the_generation(site: Site) -> None:
    site.publish(target(ONE, DATA))
    director = site.repository.director
    for bound, error in (({"device": "cam-2"}, ForeignDevice), ({"generation": 0}, Replayed), ({"generation": 9}, LinkDown)):
        site.forge = lambda ask, _, bound=bound: director.answer(replace(ask, **bound), site.ordered)  # type: ignore[misc]
        with pytest.raises(error):
            site.check()
    site.forge = lambda ask, _: Repository(TENANT, site.clock.now).director.answer(ask, site.ordered)
    with pytest.raises(BadSignature):
        site.check()

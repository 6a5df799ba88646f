"""Packages: published once, assigned by board, released anew, named by the director, read by those they are for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

import firmware_images
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import Page
from cloud_hub.core.update_lines import PackageLine
from cloud_hub.services import fleet as fleets
from cloud_hub.services.packages import Announced, Package
from cloud_hub.store import fleet as fleet_store
from protos.contract import ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import DesiredTwin, Health, PackageAssignment, PackageKind, ReportedTwin
from tests.hub.fleet_parts import ADMIN, BOARD, SIGNS, STRANGER, TENANT, Hub

CONFIG, AGENT, FIRMWARE = PackageKind.CONFIG, PackageKind.AGENT, PackageKind.FIRMWARE
NONCE = bytes(range(32))


class Site(Hub):
    def put(
        self, kind: PackageKind, data: bytes, *, name: str = "base", version: str = "1", board: str = "", who: Principal = ADMIN
    ) -> Package:
        digest = self.artifacts.put(data)
        announced = Announced(kind=kind, board=board, name=name, version=version, digest=digest, size_bytes=len(data))
        return self.packages.publish(who, announced)

    def assignment(
        self, kind: PackageKind, *, name: str = "base", version: str = "1", board: str = BOARD, tenant: TenantId = TENANT
    ) -> PackageAssignment:
        with self.db.read() as tx:
            return self.packages.assignment(tx, tenant, kind, name, version, board, "r1")

    def ask(self, id: str, kind: PackageKind, package: PackageAssignment | None) -> DesiredTwin:
        """As a rollout asks."""
        with self.db.write() as tx:
            desired = fleets.known(tx, TENANT, DeviceId(id)).desired
            twin = replace(PackageLine(kind).asking(desired, package, "r1"), generation=desired.generation + 1)
            self.fleet.ask_many(tx, [(DeviceId(id), twin)])
            return twin

    def offer(self, kind: PackageKind, version: str) -> bool:
        with self.db.write() as tx:
            return self.packages.offer(tx, TENANT, kind, "base", version)

    def ordered(self, id: str) -> Targets:
        """What the director names for a device."""
        who = Principal(role=Role.DEVICE, name=id, tenant=TENANT)
        signed: Metadata[Targets] = Metadata.from_bytes(self.trust.director(who, NONCE))
        return signed.signed


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Site]:
    hub = Site(tmp_path, database_url=database_url)
    hub.sign()
    yield hub
    hub.db.close()


# -- publishing ---------------------------------------------------------------------------------------------------------


def test_a_package_never_changes_once_published(hub: Site) -> None:
    first = hub.put(CONFIG, b"log_level: DEBUG")
    assert hub.put(CONFIG, b"log_level: DEBUG") == first and not first.signed
    with pytest.raises(Conflict, match="another version"):
        hub.put(CONFIG, b"log_level: ERROR")
    assert hub.put(CONFIG, b"log_level: ERROR", version="2").release == 2
    assert hub.put(AGENT, b"an agent").release == 1, "each kind and name counts its own"


def test_packages_are_listed_by_kind_name_and_version_in_pages_of_their_tenant(hub: Site) -> None:
    for kind, name in ((FIRMWARE, "b"), (CONFIG, "b"), (AGENT, "b"), (CONFIG, "a")):
        hub.put(kind, f"{kind} {name}".encode(), name=name, board=BOARD if kind is FIRMWARE else "")
    hub.put(CONFIG, b"theirs", name="theirs", who=STRANGER)
    hub.publish()  # a model is no package
    found, token = [], ""
    while True:
        page, token = hub.packages.list(ADMIN, Page(size=1, token=token))
        found += [(one.kind, one.name) for one in page]
        if not token:
            break
    assert found == [(AGENT, "b"), (CONFIG, "a"), (CONFIG, "b"), (FIRMWARE, "b")]
    assert [one.name for one in hub.packages.list(ADMIN, Page(size=9), [CONFIG])[0]] == ["a", "b"]
    assert [one.name for one in hub.packages.list(STRANGER, Page(size=9))[0]] == ["theirs"]


@pytest.mark.parametrize(
    "bad",
    [
        {"version": ".."},
        {"version": "a/b"},
        {"version": ""},
        {"size_bytes": 0},
        {"size_bytes": 257 << 10},
        {"kind": FIRMWARE, "board": ""},
        {"kind": AGENT, "size_bytes": 257 << 20},
    ],
    ids=str,
)
def test_what_no_device_could_take_is_refused(bad: dict[str, object]) -> None:
    good = {"kind": CONFIG, "board": "", "name": "base", "version": "1", "digest": ids.digest_of(b""), "size_bytes": 9}
    with pytest.raises(Invalid):
        Announced(**{**good, **bad})  # type: ignore[arg-type]


# -- for rollouts -------------------------------------------------------------------------------------------------------


def test_a_device_is_given_the_package_of_its_board_before_the_one_for_all(hub: Site) -> None:
    for_all, own = hub.put(CONFIG, b"for all"), hub.put(CONFIG, b"for this board", board=BOARD)
    assert hub.assignment(CONFIG).digest == own.digest
    assert hub.assignment(CONFIG, board="vehicle-arm64").digest == for_all.digest
    assert hub.assignment(CONFIG).rollout_id == "r1"


def test_where_there_is_none_for_a_board_or_none_at_all_that_is_said(hub: Site) -> None:
    hub.put(FIRMWARE, b"image", board="vehicle-arm64")
    with pytest.raises(NotReady, match="only for vehicle-arm64"):
        hub.assignment(FIRMWARE)
    for wrong in ({"version": "2"}, {"name": "other"}, {"tenant": TenantId("other")}):
        with pytest.raises(NotFound):
            hub.assignment(FIRMWARE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        hub.assignment(AGENT)


def test_an_older_version_is_offered_under_a_new_release_once_it_is_signed(hub: Site) -> None:
    hub.put(AGENT, b"one"), hub.put(AGENT, b"two", version="2")
    assert not hub.offer(AGENT, "1")
    hub.sign()
    assert hub.offer(AGENT, "1")
    by_version = {one.version: one for one in hub.packages.list(ADMIN, Page(size=9))[0]}
    assert (by_version["1"].release, by_version["2"].release) == (3, 2) and by_version["1"].signed
    with pytest.raises(NotFound):
        hub.offer(AGENT, "3")


def test_asking_for_one_kind_leaves_everything_else_that_was_asked_for(hub: Site) -> None:
    hub.device("cam-1")
    hub.put(CONFIG, b"c"), hub.put(AGENT, b"a"), hub.put(AGENT, b"b", version="2")
    version = hub.publish()
    with hub.db.write() as tx:
        _, model = hub.registry.assignment(version, firmware_images.board(BOARD))
        hub.fleet.set_desired(tx, DeviceId("cam-1"), model, "r0")
    hub.ask("cam-1", AGENT, hub.assignment(AGENT))
    hub.ask("cam-1", CONFIG, hub.assignment(CONFIG))
    twin = hub.ask("cam-1", AGENT, hub.assignment(AGENT, version="2"))
    assert [(one.kind, one.version) for one in twin.packages] == [(CONFIG, "1"), (AGENT, "2")]
    assert (twin.generation, twin.model, twin.rollout_id) == (4, model, "r0")
    twin = hub.ask("cam-1", AGENT, None)
    assert [one.kind for one in twin.packages] == [CONFIG] and twin.generation == 5
    with hub.db.read() as tx:
        assert fleets.known(tx, TENANT, DeviceId("cam-1")).desired == twin


# -- for devices --------------------------------------------------------------------------------------------------------


def test_the_director_names_the_desired_packages_beside_the_model(hub: Site) -> None:
    hub.device("cam-1")
    hub.put(CONFIG, b"for all"), hub.put(CONFIG, b"own", board=BOARD), hub.put(FIRMWARE, b"image", board=BOARD)
    hub.sign()
    assert hub.ordered("cam-1").targets == {}
    hub.ask("cam-1", CONFIG, hub.assignment(CONFIG))
    hub.ask("cam-1", FIRMWARE, hub.assignment(FIRMWARE))
    paths = [f"config/default/base/1/{BOARD}", f"firmware/default/base/1/{BOARD}"]
    assert sorted(hub.ordered("cam-1").targets) == paths
    version = hub.publish()
    with hub.db.write() as tx:
        _, model = hub.registry.assignment(version, firmware_images.board(BOARD))
        hub.fleet.set_desired(tx, DeviceId("cam-1"), model, "r0")
    files = sorted(hub.ordered("cam-1").targets)
    assert files[:2] == paths and len(files) == 5 and all(SIGNS in path for path in files[2:])


def test_a_package_that_waits_to_be_signed_is_signed_when_a_device_asks(hub: Site) -> None:
    hub.device("cam-1")
    hub.put(CONFIG, b"new")
    hub.ask("cam-1", CONFIG, hub.assignment(CONFIG))
    assert list(hub.ordered("cam-1").targets) == ["config/default/base/1/any"]
    assert hub.packages.list(ADMIN, Page(size=1))[0][0].signed


def test_one_thing_without_targets_does_not_hold_up_another(hub: Site) -> None:
    """A desired twin that was restored from a backup, say: the device refuses what is not named, and goes on with the rest."""
    hub.device("cam-1")
    hub.put(CONFIG, b"there")
    gone = replace(hub.assignment(CONFIG), kind=AGENT, name="gone")
    hub.ask("cam-1", AGENT, gone)
    with pytest.raises(NotReady, match="agent gone 1"):
        hub.ordered("cam-1")
    hub.ask("cam-1", CONFIG, hub.assignment(CONFIG))
    assert list(hub.ordered("cam-1").targets) == ["config/default/base/1/any"]


def test_a_device_reads_the_packages_it_should_have_or_has_and_users_those_of_their_tenant(hub: Site) -> None:
    device = hub.device("cam-1")
    who = Principal(role=Role.DEVICE, name=device.id, tenant=TENANT)
    package = hub.put(CONFIG, b"settings")
    assert hub.registry.readable_by(ADMIN, package.digest)
    assert not hub.registry.readable_by(STRANGER, package.digest)
    assert not hub.registry.readable_by(who, package.digest)
    twin = hub.ask("cam-1", CONFIG, hub.assignment(CONFIG))
    assert hub.registry.readable_by(who, package.digest)
    hub.device("cam-2")
    assert not hub.registry.readable_by(replace(who, name="cam-2"), package.digest)
    hub.ask("cam-1", CONFIG, None)
    assert not hub.registry.readable_by(who, package.digest)
    said = ReportedTwin(
        generation=twin.generation,
        boot_id="b1",
        agent_version="1",
        board=BOARD,
        at=hub.clock.now(),
        health=Health(started_at=hub.clock.now()),
        packages=twin.packages,
    )
    device.say(said)
    assert hub.registry.readable_by(who, package.digest), "it has it still: what it repairs itself from"
    secret = hub.artifacts.put(b"no package at all")
    with hub.db.write() as tx:
        known = fleets.known(tx, TENANT, DeviceId("cam-1"))
        forged = replace(hub.assignment(CONFIG), digest=secret)
        fleet_store.put_desired(tx, DeviceId("cam-1"), replace(known.desired, packages=(forged,)))
    assert not hub.registry.readable_by(who, secret), "a blob of another kind is not read under this name"

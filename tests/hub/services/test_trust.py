"""The image repository as a stock TUF client sees it, and the director as a device does, over years and through accidents."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Metadata, Targets

from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady, Unavailable
from cloud_hub.core.model import Principal, Role, RolloutState
from cloud_hub.core.targets import DIRECTOR, IMAGE, Subject, Target
from cloud_hub.services import releases, trust
from cloud_hub.services.trust import TrustService
from cloud_hub.store import targets
from cloud_hub.store import trust as store
from cloud_hub.store.database import Database
from cloud_hub.trust.tuf import director
from cloud_hub.trust.tuf.keys import ONLINE_ROLES
from protos.contract import ids
from protos.contract.ids import TenantId
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import ADMIN, SIGNS, TENANT, Hub
from tests.hub.trust.test_tuf_signing import target
from tests.hub.trust_parts import KEEPER, Client, Holders

NONCE = bytes(range(32))
MANIFEST = "models/default/signs/1/onnx-int8/manifest.pb"


class Site(Hub):
    """A hub whose holders are at hand, and a stock client of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.holders = Holders(self.trust)
        self.clients = 0

    def init(self) -> None:
        self.holders.init(self.clock.now())

    def client(self) -> Client:
        roots = self.trust.roots()
        assert roots is not None
        self.clients += 1
        return Client(self.trust, self.folder / f"client-{self.clients}", roots[0])

    def another(self) -> TrustService:
        """As another process would have it."""
        return TrustService(self.db, self.folder / "trust" / "keys", self.clock)

    def add(self, *new: Target) -> None:
        with self.db.write() as tx:
            targets.add(tx, new, self.clock.now())

    def version(self, role: str) -> int:
        with self.db.read() as tx:
            head = store.head(tx, IMAGE, role)
        return head.version if head else 0

    def who(self, device: str, tenant: str = "default") -> Principal:
        return Principal(role=Role.DEVICE, name=device, tenant=TenantId(tenant))

    def ordered(self, device: str) -> Targets:
        metadata: Metadata[Targets] = Metadata.from_bytes(self.trust.director(self.who(device), NONCE))
        return metadata.signed


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Site]:
    hub = Site(tmp_path, database_url=database_url)
    hub.init()
    yield hub
    hub.db.close()


def _releases(hub: Site, version: int) -> set[int]:
    with hub.db.read() as tx:
        found = targets.of_version(tx, TENANT, targets.Subject.MODEL, SIGNS, str(version))
    return {one.release for one, _ in found}


def _released(hub: Site, version: int) -> bool:
    with hub.db.read() as tx:
        return releases.released(tx, TENANT, SIGNS, version)


# -- what is published --------------------------------------------------------------------------------------------------


def test_a_stock_client_finds_every_file_of_a_published_version(hub: Site) -> None:
    version = hub.publish()
    updater, now = hub.client(), hub.clock.now()
    for variant in version.variants:
        folder = f"models/default/signs/1/{variant.target}"
        file = "model.onnx" if variant.target.startswith("onnx") else "model.tflite"
        for name, digest in (
            ("manifest.pb", variant.manifest_digest),
            (file, variant.artifact_digest),
            ("golden.pb", variant.golden_digest),
        ):
            info = updater.refreshed(now).get_targetinfo(f"{folder}/{name}")
            assert info is not None
            data = hub.artifacts.read(digest)
            info.verify_length_and_hashes(data)
            assert info.custom["release"] == 1 and info.custom["boards"] == []
    assert updater.release("models/default/signs/2/onnx-int8/manifest.pb", now) is None


def test_a_version_is_queued_with_its_publication_and_signed_by_the_hubs_tick(hub: Site) -> None:
    number = hub.registry.reserve(SIGNS)
    hub.registry.publish(hub.unpublished(number))  # as a training job does, which holds no key
    assert not _released(hub, 1) and hub.trust.status().waiting == 6
    assert hub.client().release(MANIFEST, hub.clock.now()) is None
    hub.trust.tick(hub.clock.now())
    assert _released(hub, 1) and (hub.trust.status().targets, hub.trust.status().waiting) == (6, 0)
    assert hub.client().release(MANIFEST, hub.clock.now()) == 1


def test_a_publication_that_fails_queues_nothing(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    number = hub.registry.reserve(SIGNS)
    monkeypatch.setattr(targets, "add", _broken)
    with pytest.raises(OSError):
        hub.registry.publish(hub.unpublished(number))
    assert hub.registry.models(ADMIN) == [] and hub.trust.status().waiting == 0


def test_ten_thousand_targets_are_a_small_download_and_one_more_touches_one_bin(hub: Site) -> None:
    hub.add(*(target(number) for number in range(10_000)))
    hub.trust.tick(hub.clock.now())
    assert hub.trust.status().targets == 10_000
    client, now = hub.client(), hub.clock.now()
    assert client.release(target(9_999).path, now) == 1
    assert sum(size for _, size in client.fetcher.asked) < 24_000
    before = {role: hub.version(role) for role in (target(10_000).bin, target(1).bin, "snapshot", "timestamp", "targets")}
    hub.add(target(10_000))
    hub.trust.tick(now)
    changed = {role for role, version in before.items() if hub.version(role) != version}
    assert changed == {target(10_000).bin, "snapshot", "timestamp"}
    assert client.release(target(10_000).path, now) == 1
    assert [name.partition(".")[2] or name for name, _ in client.fetcher.asked] == [
        "json",
        "snapshot.json",
        f"{target(10_000).bin}.json",
    ]


# -- releases -----------------------------------------------------------------------------------------------------------


def test_each_version_is_a_release_and_going_back_is_a_new_one(hub: Site) -> None:
    hub.publish()
    hub.publish()
    assert (_releases(hub, 1), _releases(hub, 2)) == ({1}, {2})
    with hub.db.write() as tx:
        assert releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now())
        assert releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now()), "again: it is the newest already"
    assert _releases(hub, 1) == {3} and not _released(hub, 1) and _released(hub, 2)
    hub.trust.tick(hub.clock.now())
    assert _released(hub, 1) and hub.client().release(MANIFEST, hub.clock.now()) == 3


def test_a_release_that_changes_while_it_is_being_signed_waits_on(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL a device's report may send others back beside the signer's own transaction."""
    hub.publish()
    hub.publish()
    sign, started = targets.signed, threading.Event()

    def meanwhile(tx: Any, signed: Any) -> None:
        started.set()
        with hub.db.append() if hub.db.parallel else contextlib.nullcontext(tx) as other:
            releases.promote(other, TENANT, SIGNS, 2, hub.clock.now())
        sign(tx, signed)

    with hub.db.write() as tx:
        releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now())
    monkeypatch.setattr(targets, "signed", meanwhile)
    with hub.db.write() as tx:
        hub.trust._signing.round(tx, hub.clock.now())
    assert started.is_set() and _released(hub, 1) and not _released(hub, 2)


def test_a_rollout_is_refused_before_there_is_a_root(tmp_path: Path, database_url: str) -> None:
    hub = Site(tmp_path, database_url=database_url)
    hub.device("cam-0")
    hub.registry.publish(hub.unpublished(hub.registry.reserve(SIGNS)))
    with pytest.raises(NotReady, match="hubctl trust init"):
        hub.rollouts.create(ADMIN, SIGNS, 1, {})
    hub.init()
    assert _released(hub, 1), "what was published before the first root is signed with it"
    assert hub.rollouts.create(ADMIN, SIGNS, 1, {}).state is RolloutState.RUNNING
    hub.db.close()


def test_devices_are_asked_once_what_they_are_to_run_is_signed(hub: Site) -> None:
    device = hub.device("cam-0")
    hub.registry.publish(hub.unpublished(hub.registry.reserve(SIGNS)))
    rollout = hub.rollouts.create(ADMIN, SIGNS, 1, {})
    hub.rollouts.tick(hub.clock.now())
    assert device.receives() is None and hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.RUNNING
    hub.trust.tick(hub.clock.now())
    hub.rollouts.tick(hub.clock.now())
    assert device.receives() is not None


def test_a_device_that_is_sent_back_finds_the_old_version_under_a_higher_number(hub: Site) -> None:
    device = hub.device("cam-0")
    hub.publish()
    for version in (1, 2):
        if version == 2:
            hub.publish()
        rollout = hub.rollouts.create(ADMIN, SIGNS, version, {})
        hub.tick()
        device.commits()
    assert {one.custom["release"] for one in hub.ordered("cam-0").targets.values()} == {2}
    hub.rollouts.rollback(ADMIN, rollout.id)
    ordered = hub.ordered("cam-0")  # signed when the device asks, not only by the next tick
    assert {path.split("/")[3] for path in ordered.targets} == {"1"}
    assert {one.custom["release"] for one in ordered.targets.values()} == {3}
    client = hub.client()
    assert all(client.release(path, hub.clock.now()) == 3 for path in ordered.targets)


def test_a_failed_rollout_sends_back_under_a_higher_number_too(hub: Site) -> None:
    one, two = hub.device("cam-0"), hub.device("cam-1")
    hub.publish()
    hub.rollouts.create(ADMIN, SIGNS, 1, {})
    for device in (one, two):
        device.commits()
    hub.publish()
    rollout = hub.rollouts.create(ADMIN, SIGNS, 2, {})
    hub.tick()
    one.commits()
    two.report(UpdateState.FAILED, "no")
    assert hub.rollouts.get(ADMIN, rollout.id).state is RolloutState.FAILED
    assert {target.custom["release"] for target in hub.ordered("cam-0").targets.values()} == {3}


def test_a_version_from_before_there_were_targets_is_queued_when_it_is_rolled_out(hub: Site) -> None:
    device = hub.device("cam-0")
    hub.publish()
    with hub.db.write() as tx:
        tx.execute(targets.tuf_targets.delete())
        tx.execute(targets.tuf_releases.delete())
    hub.rollouts.create(ADMIN, SIGNS, 1, {})
    hub.tick()
    assert device.receives() is not None and _released(hub, 1)


# -- the director -------------------------------------------------------------------------------------------------------


def test_a_device_is_told_what_it_is_to_run_and_nothing_else(hub: Site) -> None:
    hub.device("cam-0")
    assert hub.ordered("cam-0").targets == {}
    hub.publish()
    hub.publish(name="lanes")
    hub.rollouts.create(ADMIN, SIGNS, 1, {})
    ordered = hub.ordered("cam-0")
    assert set(ordered.targets) == {
        f"models/default/signs/1/onnx-int8/{file}" for file in ("manifest.pb", "model.onnx", "golden.pb")
    }
    assert ordered.unrecognized_fields[director.FIELD] == {
        "device": "cam-0",
        "tenant": "default",
        "board": "camera-x86",
        "generation": 1,
        "nonce": NONCE.hex(),
        "now_ms": int(hub.clock.now().timestamp() * 1000),
    }
    client = hub.client().refreshed(hub.clock.now())
    for path, said in ordered.targets.items():
        found = client.get_targetinfo(path) if client.get_targetinfo(path) else None
        assert found is not None and found.to_dict() == said.to_dict(), "both repositories say the same"


def test_a_director_is_for_devices_of_its_tenant_only(hub: Site) -> None:
    hub.device("cam-0")
    for who in (hub.who("cam-0", "other"), hub.who("cam-9")):
        with pytest.raises(NotFound):
            hub.trust.director(who, NONCE)


def test_the_director_is_signed_with_the_key_that_its_root_names(hub: Site) -> None:
    hub.device("cam-0")
    service, data = hub.another(), []
    for rotated in (False, True):
        if rotated:
            hub.holders.rotate(hub.clock.now(), (DIRECTOR, "targets"))
        roots = hub.trust.roots()
        assert roots is not None
        root: Any = Metadata.from_bytes(roots[1])
        signed: Metadata[Targets] = Metadata.from_bytes(service.director(hub.who("cam-0"), NONCE))
        root.signed.verify_delegate("targets", signed.signed_bytes, signed.signatures)
        data.append(next(iter(signed.signatures)))
    assert data[0] != data[1]


def test_what_cannot_be_signed_is_told_to_the_device_as_for_later(hub: Site) -> None:
    hub.device("cam-0")
    hub.publish()
    hub.rollouts.create(ADMIN, SIGNS, 1, {})
    hub.publish()
    with hub.db.write() as tx:
        releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now())
    _lose_key(hub, "snapshot")
    service = hub.another()
    with pytest.raises(Unavailable, match="snapshot"):
        service.director(hub.who("cam-0"), NONCE)


def test_without_a_root_nothing_is_signed_for_a_device(tmp_path: Path, database_url: str) -> None:
    hub = Site(tmp_path, database_url=database_url)
    hub.device("cam-0")
    with pytest.raises(NotReady, match="hubctl trust init"):
        hub.trust.director(hub.who("cam-0"), NONCE)
    assert hub.trust.roots() is None
    assert "hubctl trust init" in hub.trust.status().problem and hub.trust.status().roles == ()
    hub.trust.tick(hub.clock.now())
    assert hub.trust.expiries() == {} and hub.trust.figures() == {}
    hub.db.close()


# -- roots and keys -----------------------------------------------------------------------------------------------------


def test_a_client_follows_three_rotations_of_the_root_with_one_holder_replaced_in_each(hub: Site) -> None:
    hub.publish()
    client, late = hub.client(), hub.client()
    for turn in range(3):
        hub.clock.advance(3600)
        hub.holders.rotate(hub.clock.now(), replace=[turn])
        assert client.release(MANIFEST, hub.clock.now()) == 1
    assert client.refreshed(hub.clock.now())._trusted_set.root.version == 4
    assert late.release(MANIFEST, hub.clock.now()) == 1, "one that slept through all of them"


def test_after_new_roots_releases_go_on_above_all_that_a_lost_database_gave_out(hub: Site) -> None:
    hub.publish()
    for _ in range(20):
        with hub.db.write() as tx:
            given_out = targets.next_release(tx, TENANT, Subject.MODEL, SIGNS)
    with hub.db.write() as tx:  # the database of last week is put back
        tx.execute(targets.tuf_releases.update().values(release=1))
    hub.clock.advance(60)
    hub.holders.rotate(hub.clock.now())
    with hub.db.write() as tx:
        assert releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now())
    assert min(_releases(hub, 1)) > given_out


@pytest.mark.parametrize("role", [role for role in ONLINE_ROLES if role[0] == IMAGE])
def test_a_client_follows_the_rotation_of_an_online_key(hub: Site, role: tuple[str, str]) -> None:
    hub.publish()
    client = hub.client()
    assert client.release(MANIFEST, hub.clock.now()) == 1
    before = {(one.repository, one.role): one.key_ids for one in hub.trust.status().roles}
    after = {(one.repository, one.role): one.key_ids for one in hub.holders.rotate(hub.clock.now(), role).roles}
    assert {name for name in before if before[name] != after[name]} == {role}
    assert not (hub.folder / "trust" / "keys" / f"{before[role][0]}.pem").exists(), "a retired key is dropped"
    assert client.release(MANIFEST, hub.clock.now()) == 1
    hub.publish()
    newest = client.release("models/default/signs/2/onnx-int8/golden.pb", hub.clock.now())
    assert newest is not None and newest > 1
    assert hub.client().release(MANIFEST, hub.clock.now()) == 1


def test_all_online_keys_can_be_replaced_at_once(hub: Site) -> None:
    hub.publish()
    client = hub.client()
    hub.holders.rotate(hub.clock.now(), *ONLINE_ROLES)
    assert client.release(MANIFEST, hub.clock.now()) == 1
    assert len(list((hub.folder / "trust" / "keys").glob("*.pem"))) == len(ONLINE_ROLES)


def test_prepared_keys_wait_for_a_root_and_are_not_made_twice(hub: Site) -> None:
    role = (IMAGE, "timestamp")
    used = next(one.key_ids[0] for one in hub.trust.status().roles if (one.repository, one.role) == role)
    first = {(key.repository, key.role): key.id for key in hub.trust.prepare_keys(KEEPER, [role])}
    again = {(key.repository, key.role): key.id for key in hub.another().prepare_keys(KEEPER, [role])}
    assert first == again and first[role] != used
    hub.clock.advance(86_000)
    hub.another().tick(hub.clock.now())
    assert hub.client().refreshed(hub.clock.now()), "the current key signs on"
    assert hub.holders.rotate(hub.clock.now(), role)
    assert hub.client().refreshed(hub.clock.now())


def test_only_online_roles_have_keys_to_prepare(hub: Site) -> None:
    with pytest.raises(Invalid, match="online role"):
        hub.trust.prepare_keys(KEEPER, [(IMAGE, "root")])


def test_a_root_that_is_refused_changes_nothing(hub: Site) -> None:
    hub.publish()
    before, roots = hub.trust.status(), hub.trust.roots()
    image, other = hub.holders.drafts(hub.clock.now(), *ONLINE_ROLES)
    image.sign(hub.holders.signers)
    other.sign(hub.holders.signers[:1])
    attempts: list[tuple[type[Exception], bytes, bytes]] = [
        (Invalid, b"", b""),
        (Invalid, image.root.to_bytes(), other.root.to_bytes()),  # the first is good: they come together or not at all
        (Invalid, b"garbage", b""),
        (Invalid, b" " * 100_000, b""),
        (Invalid, other.root.to_bytes(), b""),
        (Conflict, (roots or (b"", b""))[0], b""),
    ]
    for kind, one, two in attempts:
        with pytest.raises(kind):
            hub.trust.put_root(KEEPER, one, two)
        assert (hub.trust.status(), hub.trust.roots()) == (before, roots)
    assert hub.client().release(MANIFEST, hub.clock.now()) == 1


def test_the_first_roots_come_together(tmp_path: Path, database_url: str) -> None:
    hub = Site(tmp_path, database_url=database_url)
    with pytest.raises(NotReady, match="director root is missing"):
        hub.trust.put_root(KEEPER, b"{}", b"")
    hub.db.close()


def test_one_repository_can_be_given_its_next_root_alone(hub: Site) -> None:
    image, _ = hub.holders.drafts(hub.clock.now())
    image.sign(hub.holders.signers)
    status = hub.trust.put_root(KEEPER, image.root.to_bytes(), b"")
    assert [one.version for one in status.roles if one.role == "root"] == [2, 1]


def test_a_key_that_is_lost_stops_the_signing_says_so_and_a_new_one_heals_it(hub: Site) -> None:
    hub.publish()
    client = hub.client()
    _lose_key(hub, "timestamp")
    lost = hub.another()
    hub.clock.advance(13 * 3600)
    lost.tick(hub.clock.now())
    assert "timestamp" in lost.status().problem and "rotate --online" in lost.status().problem
    assert 0.4 < lost.figures()["hub.metadata_left"] < 0.5
    Holders(lost, hub.holders.signers).rotate(hub.clock.now(), *ONLINE_ROLES)
    assert lost.status().problem == ""
    assert client.release(MANIFEST, hub.clock.now()) == 1


# -- time ---------------------------------------------------------------------------------------------------------------


def test_metadata_never_expires_in_two_years_if_the_holders_sign_once_a_year(tmp_path: Path) -> None:
    hub = Site(tmp_path)
    _careless(hub)  # a thousand commits, and no power cut
    hub.init()
    hub.publish()
    client = hub.client()
    for turn in range(2 * 365):
        hub.clock.advance(86_400 - 3600)
        assert min(hub.trust.expiries().values()) > hub.clock.now(), "a tick is late by almost half a day each time"
        hub.trust.tick(hub.clock.now())
        if turn % 300 == 299:
            hub.holders.rotate(hub.clock.now())
        if turn % 30 == 0:
            assert client.release(MANIFEST, hub.clock.now()) == 1
    for seconds in (30 * 86_400, 2 * 3600):  # and a hub that was off for a month
        hub.clock.advance(seconds)
        hub.trust.tick(hub.clock.now())
    fresh = hub.client()
    assert fresh.release(MANIFEST, hub.clock.now()) == 1
    bins = {hub.version(f"bin-{number:02x}") for number in range(256)}
    assert bins <= set(range(12, 25)), "each was signed about every 45 days"
    with hub.db.read() as tx:
        assert tx.execute(select(func.count()).select_from(store.tuf_metadata)).scalar_one() < 256 + 40, (
            "what nobody asks for is forgotten"
        )
    hub.db.close()


def test_a_hub_that_was_off_for_months_signs_everything_again_at_its_start(hub: Site) -> None:
    hub.publish()
    client = hub.client()
    assert client.release(MANIFEST, hub.clock.now()) == 1
    hub.clock.advance(200 * 86_400)
    with pytest.raises(ExpiredMetadataError):
        client.refreshed(hub.clock.now())
    hub.another().tick(hub.clock.now())
    assert client.release(MANIFEST, hub.clock.now()) == 1
    assert min(hub.trust.expiries().values()) > hub.clock.now()


def test_an_expired_root_is_a_problem_that_is_told_and_foretold(hub: Site) -> None:
    assert round(hub.trust.figures()["hub.root_days"]) == 365
    hub.clock.advance(330 * 86_400)
    assert round(hub.trust.figures()["hub.root_days"]) == 35
    hub.clock.advance(36 * 86_400)
    hub.trust.tick(hub.clock.now())
    assert "expired" in hub.trust.status().problem
    with pytest.raises(ExpiredMetadataError):
        hub.client().refreshed(hub.clock.now())
    hub.holders.rotate(hub.clock.now())
    assert hub.trust.status().problem == "" and hub.client().refreshed(hub.clock.now())


def test_a_client_in_the_middle_of_a_refresh_is_served_the_versions_it_began_with(hub: Site) -> None:
    hub.publish()
    snapshot, bin = f"{hub.version('snapshot')}.snapshot.json", f"{hub.version(_bin())}.{_bin()}.json"
    old = [hub.trust.metadata(IMAGE, name) for name in (snapshot, bin, "1.root.json")]
    with hub.db.write() as tx:
        releases.promote(tx, TENANT, SIGNS, 1, hub.clock.now())
    hub.publish()
    hub.clock.advance(trust.KEEP.total_seconds() - 1)
    hub.trust.tick(hub.clock.now())
    hub.another().tick(hub.clock.now())
    assert [hub.trust.metadata(IMAGE, name) for name in (snapshot, bin, "1.root.json")] == old
    hub.clock.advance(2)
    hub.another().tick(hub.clock.now())
    with pytest.raises(NotFound):
        hub.trust.metadata(IMAGE, snapshot)
    hub.holders.rotate(hub.clock.now())
    hub.clock.advance(30 * 86_400)
    hub.another().tick(hub.clock.now())
    assert hub.trust.metadata(IMAGE, "1.root.json") == old[2], "roots are kept for ever"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "timestamp",
        "1.timestamp.json",
        "root.json",
        "snapshot.json",
        "0.root.json",
        "99999999999999999999.root.json",
        "../1.root.json",
        "1.ROOT.json",
        "1.bin-zz.json",
        "1.root.json\n",
        "2.root.json",
        "1.nothing.json",
        "x" * 5000,
    ],
)
def test_a_name_that_is_not_served_is_not_found(hub: Site, name: str) -> None:
    for repository in (IMAGE, DIRECTOR, "other"):
        with pytest.raises(NotFound):
            hub.trust.metadata(repository, name)


# -- accidents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "name"), [(store, "put"), (targets, "signed"), (store, "versions"), (targets, "in_bins")])
@pytest.mark.parametrize("after", [False, True])
def test_a_round_that_breaks_leaves_nothing_behind(
    hub: Site, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: bool
) -> None:
    hub.publish()
    number = hub.registry.reserve(SIGNS)
    hub.registry.publish(hub.unpublished(number))
    before = hub.trust.metadata(IMAGE, "timestamp.json")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _breaking(getattr(module, name), after))
        with pytest.raises(OSError):
            hub.trust.tick(hub.clock.now())
    assert hub.trust.metadata(IMAGE, "timestamp.json") == before and not _released(hub, 2)
    client = hub.client()
    assert client.release(MANIFEST, hub.clock.now()) == 1
    hub.another().tick(hub.clock.now())
    assert client.release("models/default/signs/2/onnx-int8/manifest.pb", hub.clock.now()) == 2


def test_a_power_cut_while_a_root_is_put_leaves_the_old_one_whole(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish()
    drafts = hub.holders.drafts(hub.clock.now(), *ONLINE_ROLES)
    for draft in drafts:
        draft.sign(hub.holders.signers)
    given = [draft.root.to_bytes() for draft in drafts]
    with monkeypatch.context() as patch:
        patch.setattr(targets, "signed", _broken)
        with pytest.raises(OSError):
            hub.trust.put_root(KEEPER, *given)
    again = hub.another()
    again.tick(hub.clock.now())
    assert hub.client().release(MANIFEST, hub.clock.now()) == 1
    with monkeypatch.context() as patch:  # and once more, when all of it is stored and the old keys are still there
        patch.setattr(again, "_tidy", _broken)
        with pytest.raises(OSError):
            again.put_root(KEEPER, *given)
    assert len(list((hub.folder / "trust" / "keys").glob("*.pem"))) == 2 * len(ONLINE_ROLES)
    hub.another().tick(hub.clock.now())
    assert len(list((hub.folder / "trust" / "keys").glob("*.pem"))) == len(ONLINE_ROLES)
    assert hub.client().release(MANIFEST, hub.clock.now()) == 1


def test_two_processes_never_sign_one_version_twice(hub: Site) -> None:
    """What a client sees at any moment agrees with itself, whoever signed it."""
    services = [hub.trust, hub.another()]
    done, failures = threading.Event(), []

    def sign(service: TrustService) -> None:
        try:
            while not done.is_set():
                service.tick(hub.clock.now())
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=sign, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    client = hub.client()
    try:
        for number in range(30):
            hub.add(target(number))
            if number % 5 == 0:
                client.refreshed(hub.clock.now())
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    hub.trust.tick(hub.clock.now())
    assert all(client.release(target(number).path, hub.clock.now()) == 1 for number in range(30))
    with hub.db.read() as tx:
        data = [store.find(tx, IMAGE, "snapshot", version) for version in range(1, hub.version("snapshot") + 1)]
    assert all(data), "there is every version"
    assert [json.loads(one or b"")["signed"]["version"] for one in data] == list(range(1, len(data) + 1))


# -- parts --------------------------------------------------------------------------------------------------------------


def _bin() -> str:
    return targets.Target(**{**_fields(), "path": MANIFEST}).bin


def _fields() -> dict[str, Any]:
    one = target(1)
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def _careless(hub: Site) -> None:
    """Its commits no longer wait for the disk."""
    engine = hub.db._backend.engine
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF").close())
    engine.dispose()


def _lose_key(hub: Site, role: str) -> None:
    key = next(one.key_ids[0] for one in hub.trust.status().roles if (one.repository, one.role) == (IMAGE, role))
    (hub.folder / "trust" / "keys" / f"{key}.pem").unlink()


def _broken(*args: Any, **fields: Any) -> Any:
    raise OSError("broken on purpose")


def _breaking(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def run(*args: Any, **fields: Any) -> Any:
        if after:
            function(*args, **fields)
        raise OSError("broken on purpose")

    return run


def test_two_tenants_count_their_releases_apart(db: Database) -> None:
    with db.write() as tx:
        count = [targets.next_release(tx, TenantId(tenant), targets.Subject.MODEL, SIGNS) for tenant in ("a", "a", "b")]
    assert count == [1, 2, 1] and ids.model_name(SIGNS)

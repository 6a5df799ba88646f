"""What a real agent makes of trust that changes: fast-forward and its cure, new keys, a damaged cache, twins replayed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.core import errors
from protos.contract import codec, topics
from protos.contract.twin import DesiredTwin
from tests.conformance.agent import Agent
from tests.conformance.conftest import Results
from tests.conformance.ground import UPDATE, Ground, Watch, prepared
from tests.conformance.hub import Hub
from tests.conformance.repository import forged
from tests.conformance.scene import Scene

FAR = 10**9  # a version


@pytest.fixture(scope="module")
def ground(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = prepared(hub, tmp_path_factory.mktemp("changing"), "changing")
    yield made
    made.agent.close()


# -- fast-forward -----------------------------------------------------------------------------------------------------


def _far_timestamp(scene: Scene) -> None:
    scene.forge("timestamp", scene.online("timestamp"), change=lambda signed: setattr(signed, "version", FAR))


def _far_bin(scene: Scene) -> None:
    role = scene.bin(scene.wanted.manifest)
    _, data = scene.newest(role)
    scene.list({role: FAR})
    scene.serve(f"{FAR}.{role}.json", forged(data, scene.online("bins"), change=lambda signed: setattr(signed, "version", FAR)))


@pytest.mark.parametrize(
    ("stolen", "begin"),
    [
        (("timestamp",), _far_timestamp),
        (("timestamp", "snapshot"), lambda scene: scene.list({}, version=FAR)),
        (("timestamp", "snapshot", "bins"), _far_bin),
    ],
    ids=["timestamp", "snapshot", "bin"],
)
def test_a_fast_forward_stops_updates_until_the_root_names_other_keys(
    ground: Ground, results: Results, stolen: tuple[str, ...], begin: Callable[[Scene], None]
) -> None:
    scene = ground.scene()
    begin(scene)  # signed as it should be: nothing tells it from the truth
    ground.commits(ground.hub.desire(ground.name, scene.desired), scene.wanted)
    ground.honest()
    watch = Watch(ground)
    honest = ground.outrun().assignment
    ground.refused(ground.hub.desire(ground.name, honest), errors.RollbackRefused)
    said = watch.refusal(errors.RollbackRefused)
    inferences = watch.nothing_changed(scene.wanted.assignment)
    assert not watch.asked_for()
    ground.repository.images.rotate(*stolen)
    ground.update()
    results.add(
        f"fast-forward of {stolen[-1]}", f"{', '.join(stolen)} stolen: version {FAR}, until they are rotated", said, inferences
    )


# -- new keys ---------------------------------------------------------------------------------------------------------


def test_roots_and_online_keys_change_under_a_running_agent_and_the_old_ones_are_worth_nothing(ground: Ground) -> None:
    images, director = ground.repository.images, ground.repository.director
    old_roots, old_online, old_director = images.roots, dict(images.online), director.signer
    for _ in range(2):  # two roots at once: the agent goes from one to the other
        images.rotate("root")
        director.rotate("root")
    ground.update()
    images.rotate("timestamp", "snapshot", "targets", "bins")
    director.rotate("director")
    ground.update()

    def old_root(scene: Scene) -> None:
        scene.root(*old_roots)

    def old_timestamp(scene: Scene) -> None:
        scene.forge("timestamp", old_online["timestamp"])

    def old_bin(scene: Scene) -> None:
        scene.forge(scene.bin(scene.wanted.manifest), old_online["bins"])

    def old_word(scene: Scene) -> None:
        scene.direct(lambda ask, targets: forged(director.answer(ask, targets), old_director))

    for begin in (old_root, old_timestamp, old_bin, old_word):
        scene = ground.scene()
        begin(scene)
        ground.refused(ground.hub.desire(ground.name, scene.desired), errors.BadSignature)
        ground.honest()
    ground.update()


def test_an_older_root_served_again_changes_nothing(ground: Ground) -> None:
    images = ground.repository.images
    scene = ground.scene()
    scene.serve(f"{images.version + 1}.root.json", images.files[f"{images.version}.root.json"])
    ground.refused(ground.hub.desire(ground.name, scene.desired), errors.MixedUp)
    ground.honest()
    ground.update()


# -- what lies on the disk --------------------------------------------------------------------------------------------


def _zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_zeroed, _truncated, Path.unlink], ids=["zeroed", "truncated", "removed"])
def test_a_damaged_cache_opens_no_way_back(ground: Ground, results: Results, damage: Callable[[Path], None]) -> None:
    ground.agent.kill()
    cache = [file for file in (ground.agent.data_dir / "trust").rglob("*.json") if file.is_file() and not file.is_symlink()]
    assert len(cache) > 4
    for file in cache:
        damage(file)
    scene = ground.scene()
    scene.serve("timestamp.json", scene.past["timestamp.json"])
    watch = Watch(ground)
    ground.agent.start()
    ground.refused(ground.hub.desire(ground.name, scene.desired), errors.RollbackRefused)
    said = watch.refusal(errors.RollbackRefused)
    inferences = watch.nothing_changed(scene.running.assignment)
    assert not watch.asked_for()
    ground.honest()
    ground.update()
    name = damage.__name__.strip("_").replace("unlink", "removed")
    results.add(
        f"rollback with a {name} cache",
        "all cached metadata gone while the agent was off; then an old timestamp",
        said,
        inferences,
    )


# -- the twin ---------------------------------------------------------------------------------------------------------


def test_an_old_desired_twin_sent_again_is_not_acted_upon(ground: Ground, results: Results) -> None:
    before = ground.device.twin
    assert before is not None
    watch = Watch(ground)
    replayed = DesiredTwin(generation=before.generation - 1, model=ground.ran[-2].assignment, rollout_id="r1")
    ground.hub.send(ground.name, topics.DESIRED, codec.encode_desired(replayed))
    inferences = watch.nothing_changed(ground.ran[-1].assignment)
    after = ground.device.twin
    assert after is not None and (after.generation, after.update) == (before.generation, before.update)
    assert not watch.asked_for()
    ground.update()
    results.add(
        "replay of a desired twin",
        "the twin of one generation before, again",
        "nothing: it is older than what runs",
        inferences,
    )


def test_a_desired_twin_that_the_director_has_not_signed_is_refused(ground: Ground, results: Results) -> None:
    watch = Watch(ground)
    ground.refused(ground.hub.pretend(ground.name, ground.ran[-2].assignment), errors.Replayed)
    said = watch.refusal(errors.Replayed)
    inferences = watch.nothing_changed(ground.ran[-1].assignment)
    assert not watch.asked_for()
    ground.update()
    results.add("broker taken over", "a newer twin names an older model, the director knows nothing of it", said, inferences)


def test_a_device_without_roots_takes_no_update_and_says_so(hub: Hub, agent: Agent) -> None:
    agent.configure(update=UPDATE)
    agent.equip()
    identity = hub.identity("rootless", agent.data_dir)
    identity.image_root_path.unlink()
    agent.start()
    ground = Ground(hub, agent, hub.repository, "rootless")
    release, _ = ground.release()
    hub.desire("rootless", release.assignment)  # generation 1 is what it runs
    twin = ground.ended(hub.desire("rootless", release.assignment))
    assert twin.update is not None and twin.update.reason.startswith("NoTrust: ")
    assert twin.model is not None and twin.model != release.assignment

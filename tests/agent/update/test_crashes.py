"""Power cuts and kill -9 at every moment of an update, in child processes that really die."""

import multiprocessing
import os
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.core.errors import LinkDown
from edge_agent.update.journal import Journal
from edge_agent.update.slots import Slots
from protos.contract.manifest import Blob, Chunks
from protos.contract.update import UpdateState as S
from tests.agent.clocks import ManualClock
from tests.agent.update.parts import CONFIG, TENANT, Device, FakeHub, Release, release
from tests.conformance.repository import Repository

KILLS = 40
PATIENT = replace(CONFIG, max_attempts=10_000)  # it is killed far more often than a bad model would manage
RELEASES = [release(version, size=400_000) for version in (1, 2, 3)]
CLOCK = ManualClock()
CLOCK.advance(1e6)  # as a device's
REPOSITORY = Repository(TENANT, CLOCK.now)  # its keys are those of the process that all children are forked from
FORK = multiprocessing.get_context("forkserver")  # a clean process to fork from: this one may have a library's threads
FORK.set_forkserver_preload([__name__])


class ChunkedHub(FakeHub):
    """Writes as a real download does: in pieces, to a partial file that a later try goes on with."""

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        data = self.blobs[blob.digest]
        partial = path.with_name(path.name + ".part")
        with partial.open("ab") as file:
            while (done := file.tell()) < len(data):
                file.write(data[done : done + 50_000])
                file.flush()
        if partial.read_bytes() != data:
            partial.unlink()
            raise LinkDown("partial file of something else")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)


for each in RELEASES:
    each.publish(REPOSITORY)


def release_anew(generation: int) -> None:
    """Every child begins with the same repository; here it is as far on as the generations before have brought it."""
    images = REPOSITORY.images
    images._snapshot.version = images._timestamp.version = 100 * generation
    for it in RELEASES:
        for target in REPOSITORY.releases[it.assignment].targets:
            images.bins[images.bin_of(target.path)].version = 100 * generation
    REPOSITORY._released["street"] = 100 * generation
    for it in RELEASES:
        REPOSITORY.promote(it.assignment)


def update_to(folder: Path, it: Release, generation: int, ready: Callable[[], None] = lambda: None) -> None:
    """What the agent does from its start until ``it`` is committed. Only for children, which have the keys."""
    release_anew(generation)
    device = Device(folder, PATIENT, REPOSITORY)
    device.hub = ChunkedHub(device.repository, device.desired)
    device.serve(*RELEASES)
    ready()
    device.engine.offer(it.desired(generation))
    device.settle()


def finish(folder: Path, it: Release, generation: int) -> None:
    child = FORK.Process(target=update_to, args=(folder, it, generation))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def check(folder: Path, allowed: list[Release | None]) -> Release | None:
    """What ``current`` names is whole and is one of ``allowed``, all of its files of one version."""
    slots = Slots(folder / "models")
    current = slots.current()
    if current is None:
        assert None in allowed
        return None
    manifest = slots.check(current)
    found = RELEASES[manifest.version - 1]
    assert found in allowed
    assert (current.model.read_bytes(), current.golden.read_bytes()) == (found.model, found.golden)
    return found


def floors(folder: Path) -> dict[str, int]:
    """Everything that must never go down."""
    with sqlite3.connect(folder / "updates.sqlite") as db:
        found = dict(db.execute("SELECT repository || ' ' || role, version FROM version_floors"))
        found |= dict(db.execute("SELECT series, release FROM release_floors"))
        return found | dict(db.execute("SELECT 'time', at_ms FROM time_floor"))


def none_lower(after: dict[str, int], before: dict[str, int]) -> bool:
    return all(after.get(name, 0) >= value for name, value in before.items())


def state(folder: Path, generation: int) -> S | None:
    with sqlite3.connect(folder / "updates.sqlite") as db:
        row = db.execute("SELECT state FROM updates WHERE generation = ?", (generation,)).fetchone()
    return S(row[0]) if row else None


def test_kill_9_at_random_moments_never_mixes_versions_and_ends_committed(tmp_path: Path) -> None:
    dice = random.Random(9)
    before: Release | None = None
    generation, kills = 1, 0
    while kills < KILLS:
        wanted = RELEASES[generation % 3]
        started = FORK.Event()
        child = FORK.Process(target=update_to, args=(tmp_path, wanted, generation, started.set))
        child.start()
        assert started.wait(20)
        time.sleep(dice.uniform(0, 0.1))  # the moment of the kill is what is random here
        child.kill()
        child.join()
        kills += 1
        check(tmp_path, [before, wanted])
        if state(tmp_path, generation) is S.COMMITTED:
            assert check(tmp_path, [wanted]) is wanted
            before, generation = wanted, generation + 1
    finish(tmp_path, RELEASES[generation % 3], generation)
    assert check(tmp_path, [RELEASES[generation % 3]]) is not None


def die_at(point: int, folder: Path, it: Release, generation: int) -> None:
    """Runs the update, and is gone at the ``point``-th thing that is made durable."""
    left = point

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return original(*args, **kwargs)

        return wrapper

    os.fsync = counted(os.fsync)  # type: ignore[assignment]
    Path.replace = counted(Path.replace)  # type: ignore[method-assign,assignment]
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign,assignment]
    Journal._change = counted(Journal._change)  # type: ignore[method-assign,assignment]
    update_to(folder, it, generation)
    os._exit(0)


@pytest.mark.parametrize("deaths", [1, 2])
def test_death_at_each_durable_step_is_recovered_from(tmp_path: Path, deaths: int) -> None:
    point, finished = 0, False
    before: Release | None = None
    generation = 0
    held: dict[str, int] = {}
    while not finished:
        point += 1
        generation += 1
        wanted = RELEASES[generation % 3]
        codes = []
        for _ in range(deaths):
            child = FORK.Process(target=die_at, args=(point, tmp_path, wanted, generation))
            child.start()
            child.join(20)
            codes.append(child.exitcode)
            check(tmp_path, [before, wanted])
            assert not held or none_lower(floors(tmp_path), held)
        finished = set(codes) == {0}
        finish(tmp_path, wanted, generation)
        assert state(tmp_path, generation) is S.COMMITTED
        before = check(tmp_path, [wanted])
        now = floors(tmp_path)
        assert none_lower(now, held)
        assert now["models/default/street"] > held.get("models/default/street", 0)
        held = now
    assert point > 40  # the cache of metadata alone is ten files

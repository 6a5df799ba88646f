"""A device whose clock is wrong: the component that decides about trust, in this process, with an injected clock."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.errors import Absent, Frozen
from edge_agent.core.ports import Repository as Which
from edge_agent.update.journal import Journal
from edge_agent.update.surroundings import Anchor, Approved
from edge_agent.update.trust import Trust
from protos.contract import ids
from protos.contract.manifest import Blob
from protos.contract.sources import BlobSource
from tests.agent import models
from tests.conformance.conftest import Results
from tests.conformance.hub import BOARD, TENANT
from tests.conformance.repository import Ask, Repository, utc_now
from tests.conformance.trust import Answers

DEVICE = "slow-clock"
DAY = timedelta(days=1)


class WrongClock(SystemClock):
    """Of the device, or of the hub."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return utc_now() + self.ahead


class Wire:
    """The hub's Trust service without a network; see ``edge_agent.core.ports.Hub``. It serves whole files only."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def metadata(self, repository: Which, name: str, max_bytes: int) -> bytes:
        served = self._answers.metadata(int(repository), name)
        if served is None:
            raise Absent(name)
        assert isinstance(served, bytes) and len(served) <= max_bytes
        return served

    def director(self, nonce: bytes) -> bytes:
        return self._answers.director(Ask(device=DEVICE, tenant=TENANT, board=BOARD, nonce=nonce))

    def locate(self, digest: object, have: object, max_decode_bytes: int) -> list[BlobSource]:
        raise AssertionError(f"{digest} is not asked for by who decides")

    def download(self, blob: Blob, path: Path, *, chunks: object = None, url: str = "") -> None:
        raise AssertionError(f"{blob} is not asked for by who decides")

    def upload(self, capture: object) -> None:
        raise AssertionError(f"{capture} is not sent by who decides")

    def close(self) -> None: ...


class Device:
    """Clock, floors and cache of one device, and the repository pair it knows."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.hub_clock = WrongClock(-DAY), WrongClock(timedelta(0))
        self.repository = Repository(TENANT, self.hub_clock.now)
        self.answers = Answers(self.repository)
        journal = Journal(folder / "updates.sqlite", (), self.clock)
        self._trust = Trust(folder / "trust", journal.floors, self.clock)
        self._anchor = Anchor(
            device_id=ids.device_id(DEVICE),
            tenant=TENANT,
            board=BOARD,
            image_root=self.repository.images.root,
            director_root=self.repository.director.root,
        )

    def is_offered(self) -> Approved:
        """The next release, by what the hub serves now."""
        self.answers.generation += 1
        files = models.files(version=self.answers.generation)
        self.answers.release = release = self.repository.release(files)
        return self._trust.check(Wire(self.answers), self._anchor, release.assignment, self.answers.generation)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_an_honest_release_is_taken_by_a_device_one_day_behind(device: Device) -> None:
    assert device.is_offered().release.number == 1


def test_metadata_that_expired_is_refused_by_a_device_one_day_behind(device: Device, results: Results) -> None:
    """By its own clock the timestamp would be good for twelve hours yet: the director's word for the time counts."""
    device.hub_clock.ahead = -1.5 * DAY
    device.repository.images.publish()
    frozen = device.repository.images.files["timestamp.json"]
    device.hub_clock.ahead = timedelta(0)
    device.answers.images["timestamp.json"] = frozen
    with pytest.raises(Frozen) as refused:
        device.is_offered()
    device.answers.honest()
    assert device.is_offered().release.number == 2
    results.add(
        "freeze of a device one day behind",
        "in process: a timestamp that expired 12 hours ago, but not by the device's clock; the director is honest",
        f"Frozen: {refused.value}",
        None,
    )


def test_time_does_not_go_back_for_a_device_one_day_behind_even_with_the_directors_key(
    device: Device, results: Results
) -> None:
    device.is_offered()  # honest: from now on the device knows how late it is at least
    device.hub_clock.ahead = -1.5 * DAY  # whoever holds the director's key says what he likes about the time
    device.repository.images.publish()
    with pytest.raises(Frozen) as refused:
        device.is_offered()
    device.hub_clock.ahead = timedelta(0)
    assert device.is_offered().release.number == 3
    results.add(
        "freeze of a device one day behind, director key stolen",
        "in process: the same, and the director says it was 36 hours ago",
        f"Frozen: {refused.value}",
        None,
    )


def test_a_director_a_year_ahead_leaves_no_floor_behind(device: Device) -> None:
    device.hub_clock.ahead = 366 * DAY
    honest = dict(device.repository.images.files)
    device.answers.images = {name: data for name, data in honest.items() if name == "timestamp.json"}
    with pytest.raises(Frozen):
        device.is_offered()
    device.hub_clock.ahead = timedelta(0)
    device.answers.honest()
    device.repository.images.renew()
    assert device.is_offered().release.number == 2

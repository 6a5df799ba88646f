"""Watching over a hub that comes and goes."""

from collections.abc import Iterator

import grpc
import pytest

from cloud_hub.app.hubctl import watch as module
from cloud_hub.app.hubctl.watch import watch


class Gone(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


class Hub:
    """Plays one script per call: replies, then maybe an error."""

    def __init__(self, *scripts: list[int | grpc.StatusCode]) -> None:
        self._scripts = iter(scripts)

    def __call__(self) -> Iterator[int]:
        for step in next(self._scripts):
            if isinstance(step, grpc.StatusCode):
                raise Gone(step)
            yield step


@pytest.fixture(autouse=True)
def time_that_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_a_hub_that_was_there_is_asked_again() -> None:
    hub = Hub([1, 2, grpc.StatusCode.UNAVAILABLE], [grpc.StatusCode.UNAVAILABLE], [3, grpc.StatusCode.DEADLINE_EXCEEDED], [4])
    assert list(watch(hub)) == [1, 2, 3, 4]


def test_a_hub_that_never_answered_is_not_waited_for() -> None:
    with pytest.raises(Gone):
        list(watch(Hub([grpc.StatusCode.UNAVAILABLE], [1])))


def test_a_hub_that_stays_away_is_given_up() -> None:
    away: list[list[int | grpc.StatusCode]] = [[grpc.StatusCode.UNAVAILABLE]] * 1000
    with pytest.raises(Gone):
        list(watch(Hub([1, grpc.StatusCode.UNAVAILABLE], *away)))


def test_a_refusal_is_final() -> None:
    with pytest.raises(Gone):
        list(watch(Hub([1, grpc.StatusCode.NOT_FOUND], [2])))

from pathlib import Path

import numpy as np
import pytest

from edge_agent.core.errors import ConfigError
from protos.contract import codec
from protos.contract.ids import digest_of
from protos.contract.telemetry import Lane, Mark
from scripts.fleet.conditions import Behaviour, Conditions, read_behaviours
from scripts.fleet.telemetry import STALLED_S, Told
from tests.hub.fleet_parts import START

MODEL = digest_of(b"a model")


def test_chance_depends_on_the_seed_and_on_what_it_is_about_only() -> None:
    one, same, other = Conditions(seed=1), Conditions(seed=1), Conditions(seed=2)
    one.dice("cam-2", "loss").random()
    assert one.dice("cam-1", "loss").random() == same.dice("cam-1", "loss").random()
    assert len({dice.dice(who, "loss").random() for dice in (one, other) for who in ("cam-1", "cam-2")}) == 4


def test_what_versions_do_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "behaviours.yaml"
    path.write_text("2: {errors: 0.2, latency_ms: 40}\n3:\n")
    conditions = Conditions(behaviours=read_behaviours(path))
    assert conditions.of(2) == Behaviour(errors=0.2, latency_ms=40.0)
    assert conditions.of(3) == conditions.of(1) == Behaviour()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2: {error: 0.2}", "did you mean 'errors'"),
        ("2: {errors: 2}", "'errors' must be in 0..1"),
        ("v2: {errors: 0.2}", "must map versions"),
        ("[", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "behaviours.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_behaviours(path)


def make(told: Told, count: int, does: Behaviour = Behaviour()) -> bytes:  # noqa: B008  # frozen
    return told.readings(count, MODEL, 4, 0.5, does, START, 10.0)[1]


def test_readings_are_what_the_version_makes_them() -> None:
    told = Told(np.random.default_rng(1))
    good = codec.decode_batch(make(told, 2000)).inferences
    bad = codec.decode_batch(make(told, 2000, Behaviour(errors=0.25, latency_ms=80.0, confidence=0.5))).inferences
    assert len(good) == 2000 and 1400 < len(bad) < 1600 and told.errors == 2000 - len(bad)
    assert (round(float(np.median(good.latency_ms))), round(float(np.median(bad.latency_ms)), -1)) == (10, 80)
    assert float(good.confidence.mean()) > 0.8 and abs(float(bad.confidence.mean()) - 0.5) < 0.05
    assert good.flags.mean() < 0.01 and bad.flags.mean() > 0.5  # uncertain ones
    assert told.produced == len(good) + len(bad)


def test_only_a_watermark_of_its_own_makes_it_forget_and_the_rest_goes_again_as_it_was() -> None:
    told = Told(np.random.default_rng(1))
    first, second = make(told, 10), make(told, 5)
    event = told.event("update.committed", "street:1", START)
    assert told.again(0.0) == [event, (Lane.NORMAL, first), (Lane.NORMAL, second)]
    told.forget((Mark(epoch=told.epoch, lane=Lane.CRITICAL, committed_through=0),), 1.0)
    told.forget((Mark(epoch="foreign", lane=Lane.NORMAL, committed_through=99),), 1.0)
    told.forget((Mark(epoch=told.epoch, lane=Lane.BULK, committed_through=99),), 1.0)
    told.forget((Mark(epoch=told.epoch, lane=Lane.NORMAL, committed_through=13),), 1.0)
    assert told.again(1.0) == [(Lane.NORMAL, second)]
    assert not told.stalled(1.0 + STALLED_S) and told.stalled(1.1 + STALLED_S)
    told.forget((Mark(epoch=told.epoch, lane=Lane.NORMAL, committed_through=14),), 50.0)
    assert not told.waiting and not told.stalled(100.0)

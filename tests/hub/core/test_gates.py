from typing import Any

import pytest
import yaml

from cloud_hub.core.errors import Invalid
from cloud_hub.core.gates import Gate, Group, Metric, Outcome, Reading, Readings, judge, parse, plain, waiting

SECTION = """
- {metric: install_success, min: 0.9, min_samples: 3}
- {metric: uncertain_rate, max_rise: 0.1}
- {metric: latency_p95_ms, max_ratio: 1.5, versus: before}
"""


def _reading(value: float, *, give: float = 0.01, samples: float = 1000) -> Reading:
    return Reading(value=value, low=value - give, high=value + give, samples=samples, devices=3)


def _outcome(gate: Gate, treated: Reading | None, compared: Reading | None = None) -> Outcome:
    metric = Metric(gate.metric)
    groups: dict[Group, Readings] = {Group(gate.versus): {metric: compared} if compared else {}} if gate.versus else {}
    return judge((gate,), {metric: treated} if treated else {}, groups).outcome


def test_a_section_is_read_and_comes_back_from_the_store_as_it_was() -> None:
    gates = parse(yaml.safe_load(SECTION))
    assert [str(gate) for gate in gates] == [
        "install_success min 0.9",
        "uncertain_rate max_rise 0.1 versus control",
        "latency_p95_ms max_ratio 1.5 versus before",
    ]
    assert parse(plain(gates)) == gates
    assert parse(None) == ()


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("none", "must be a list"),
        ([1], "gate 1 must be a mapping"),
        ([{"metric": "beauty", "max": 1}], "beauty"),
        ([{"max": 1}], "metric must be one of"),
        ([{"metric": "accuracy"}], "exactly one of max"),
        ([{"metric": "accuracy", "max": 1, "min": 0}], "exactly one of max"),
        ([{"metric": "accuracy", "mni": 1}], "did you mean 'min'"),
        ([{"metric": "accuracy", "min": "x"}], "must be float"),
        ([{"metric": "accuracy", "min": float("nan")}], "must be finite"),
        ([{"metric": "error_rate", "max_rise": -0.1}], "not negative"),
        ([{"metric": "error_rate", "max": 1, "versus": "before"}], "versus goes with a relative bound"),
        ([{"metric": "error_rate", "max_rise": 0.1, "versus": "tuesday"}], "is one of before, control"),
        ([{"metric": "install_success", "max_fall": 0.1}], "nothing to be compared with"),
        ([{"metric": "accuracy", "min": 0.9, "min_samples": 0}], "min_samples must be above 0"),
        ([{"metric": "accuracy", "min": 0.9}] * 2, "twice"),
        ([{"metric": "accuracy", "min": i / 100} for i in range(33)], "more than 32"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(section: Any, named: str) -> None:
    with pytest.raises(Invalid, match=named):
        parse(section)


@pytest.mark.parametrize(
    ("rule", "bound", "good", "unsure", "bad"),
    [("max", 0.1, 0.1, 0.105, 0.12), ("min", 0.9, 0.9, 0.895, 0.88)],
)
def test_an_absolute_gate_breaches_only_when_the_whole_interval_is_beyond_it(
    rule: str, bound: float, good: float, unsure: float, bad: float
) -> None:
    gate = Gate(metric="error_rate", **{rule: bound})  # type: ignore[arg-type]
    assert _outcome(gate, _reading(good)) is Outcome.PASS
    assert _outcome(gate, _reading(unsure)) is Outcome.WAIT
    assert _outcome(gate, _reading(bad)) is Outcome.BREACH


@pytest.mark.parametrize(
    ("rule", "bound", "good", "unsure", "bad"),
    [("max_rise", 0.1, 0.3, 0.31, 0.32), ("max_fall", 0.1, 0.1, 0.09, 0.08), ("max_ratio", 1.5, 0.3, 0.31, 0.33)],
)
def test_a_relative_gate_takes_the_doubt_of_both_groups_into_account(
    rule: str, bound: float, good: float, unsure: float, bad: float
) -> None:
    gate = Gate(metric="uncertain_rate", **{rule: bound})  # type: ignore[arg-type]
    compared = _reading(0.2)
    assert _outcome(gate, _reading(good), compared) is Outcome.PASS
    assert _outcome(gate, _reading(unsure), compared) is Outcome.WAIT
    assert _outcome(gate, _reading(bad), compared) is Outcome.BREACH
    assert _outcome(gate, _reading(bad), _reading(0.2, give=0.1)) is Outcome.WAIT, "nobody knows what the others do"


def test_too_few_samples_on_either_side_say_nothing_however_bad_they_look() -> None:
    gate = Gate(metric="uncertain_rate", max_rise=0.1)
    assert _outcome(gate, None, _reading(0.2)) is Outcome.WAIT
    assert _outcome(gate, _reading(0.9, samples=199), _reading(0.2)) is Outcome.WAIT
    assert _outcome(gate, _reading(0.9), _reading(0.2, samples=199)) is Outcome.WAIT
    assert _outcome(gate, _reading(0.9), None) is Outcome.WAIT
    assert _outcome(gate, _reading(0.9), _reading(0.2)) is Outcome.BREACH


def test_a_gate_whose_group_has_no_device_passes_and_says_so() -> None:
    verdict = judge((Gate(metric="uncertain_rate", max_rise=0.1),), {Metric.UNCERTAIN_RATE: _reading(0.9)}, {})
    assert verdict.outcome is Outcome.PASS
    assert "no device to compare with" in verdict.readings[0].reason


def test_one_breach_decides_and_gives_the_reason() -> None:
    gates = parse(
        [{"metric": "error_rate", "max": 0.1}, {"metric": "accuracy", "min": 0.9}, {"metric": "crash_rate", "max": 1}]
    )
    treated = {Metric.ERROR_RATE: _reading(0.5), Metric.ACCURACY: _reading(0.95)}
    verdict = judge(gates, treated, {})
    assert [one.outcome for one in verdict.readings] == [Outcome.BREACH, Outcome.PASS, Outcome.WAIT]
    assert verdict.outcome is Outcome.BREACH
    assert verdict.reason == "error_rate max 0.1: 0.5, of 1000 samples of 3 devices"


def test_without_a_breach_one_that_waits_holds_the_others_up() -> None:
    gates = parse([{"metric": "error_rate", "max": 0.1}, {"metric": "accuracy", "min": 0.9}])
    verdict = judge(gates, {Metric.ERROR_RATE: _reading(0.05)}, {})
    assert (verdict.outcome, verdict.reason) == (Outcome.WAIT, "accuracy min 0.9: 0 samples of 30")
    assert waiting(gates, "too early").reason == "error_rate max 0.1: too early; accuracy min 0.9: too early"

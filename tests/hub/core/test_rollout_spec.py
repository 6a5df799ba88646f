"""Plans of rollouts, as users write them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cloud_hub.core import rollout_spec
from cloud_hub.core.errors import Invalid
from cloud_hub.core.gates import Gate
from cloud_hub.core.rollout_plan import Component, Failure, OnBreach, RolloutPlan, Success, Wave, of_model
from protos.contract.twin import MaintenanceWindow

WHOLE = """
model: signs
version: 7
selector: {site: north, model: "signs:6"}
waves:
  - count: 1
  - {percent: 10, approval: true}
  - {selector: {line: b}, soak_s: 600}
  - {rest: true, approval: true}
rate_per_minute: 50
start: 2026-03-01T02:00:00Z
not_before: 2026-03-01T05:00:00+01:00
windows:
  - {from: 22:00, to: "04:00", days: [sat, sun], local: true}
  - {from: "00:00", to: "24:00"}
soak_s: 30
success: {share: 0.95, deadline_s: 86400}
failure: {count: 3, share: 0.05, min_executed: 20}
gates:
  - {metric: uncertain_rate, max_rise: 0.2}
on_breach: rollback_wave
"""


def test_everything_a_plan_says_is_read() -> None:
    plan = rollout_spec.parse(WHOLE)
    assert (plan.component, plan.name, plan.version, plan.what) == (Component.MODEL, "signs", "7", "signs:7")
    assert plan.selector == {"site": "north", "model": "signs:6"}
    assert plan.waves == (
        Wave(count=1),
        Wave(percent=10, approval=True),
        Wave(selector={"line": "b"}, soak_s=600),
        Wave(approval=True),
    )
    assert [wave.title for wave in plan.waves] == ["1 device", "10 %", "line=b", "the rest"]
    assert [plan.soak_of(number) for number in range(4)] == [30, 30, 600, 30]
    assert plan.start == datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert plan.not_before == datetime(2026, 3, 1, 4, tzinfo=UTC)
    assert plan.windows == (
        MaintenanceWindow(start_minute=22 * 60, end_minute=4 * 60, days=frozenset({5, 6}), local=True),
        MaintenanceWindow(start_minute=0, end_minute=24 * 60),
    )
    assert plan.success == Success(share=0.95, deadline_s=86400)
    assert plan.failure == Failure(count=3, share=0.05, min_executed=20)
    assert plan.gates == (Gate(metric="uncertain_rate", max_rise=0.2),)
    assert (plan.on_breach, plan.rate_per_minute) == (OnBreach.ROLLBACK_WAVE, 50)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "model: signs\nversion: 1\n",
        "model: signs\nversion: challenger\nstart: manual\n",
        "config: lobby\nversion: 1.2-rc1\nwaves: [{percent: 0.5}]\n",
        "firmware: base\nversion: '7'\nsuccess: {deadline_s: 60}\nfailure: {share: 0.5}\n",
    ],
)
def test_what_is_stored_is_the_same_plan(text: str) -> None:
    plan = rollout_spec.parse(text)
    assert rollout_spec.load(rollout_spec.dump(plan)) == plan
    assert rollout_spec.parse(rollout_spec.dump(plan)) == plan, "JSON is YAML"


def test_whom_the_waves_leave_out_follows_in_one_more() -> None:
    assert rollout_spec.parse("model: a\nversion: 1\nwaves: [{count: 2}]").waves == (Wave(count=2), Wave())
    assert rollout_spec.parse("model: a\nversion: 1").waves == (Wave(),)


def test_the_short_form_is_a_plan() -> None:
    plan = of_model("signs", 3, {"site": "a"}, canary=2, soak_s=5, max_failures=1)
    same = rollout_spec.parse(
        "model: signs\nversion: 3\nselector: {site: a}\nwaves: [{count: 2}]\nsoak_s: 5\nfailure: {count: 1}"
    )
    assert plan == same
    assert of_model("signs", 3, {}).waves == (Wave(),)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("model: null", "model, config, agent, firmware"),
        ("config: other", "model, config, agent, firmware"),
        ("version: null", "version"),
        ("version: 0", "version"),
        ("version: 99999999999999999999", "version"),
        ("version: 1.10", "quote it"),
        ("model: Bad Name", "Bad Name"),
        ("colour: red", "colour"),
        ("selektor: {a: b}", "did you mean 'selector'"),
        ("wave: [{count: 1}]", "did you mean 'waves'"),
        ("gate: [{metric: accuracy, min: 0.5}]", "did you mean 'gates'"),
        ("on_break: pause", "did you mean 'on_breach'"),
        ("selector: {UPPER: b}", "UPPER"),
        ("waves: 3", "waves"),
        ("waves: [3]", r"waves\[0\]"),
        ("waves: [{count: 1, percent: 5}]", "only one of them"),
        ("waves: [{count: 0}]", r"waves\[0\].*count"),
        ("waves: [{percent: 101}]", "percent"),
        ("waves: [{percent: .nan}]", "percent"),
        ("waves: [{}, {count: 1}]", "only the last"),
        ("waves: [{rest: false}]", r"waves\[0\].rest"),
        ("waves: [{conut: 1}]", "did you mean 'count'"),
        ("rate_per_minute: -1", "rate_per_minute"),
        ("soak_s: 99999999", "soak_s"),
        ("start: someday", "start"),
        ("start: 0001-01-01T00:00:00+14:00", "start"),
        ("not_before: 9999-12-31T23:59:59Z", "not_before"),
        ("windows: [{from: '25:00', to: '04:00'}]", r"windows\[0\].from"),
        ("windows: [{from: '24:01', to: '04:00'}]", r"windows\[0\].from"),
        ("windows: [{from: '22:00'}]", r"windows\[0\].to"),
        ("windows: [{from: '22:00', to: '23:00', days: [someday]}]", r"windows\[0\].days"),
        ("windows: [{from: '22:00', to: '23:00', zone: utc}]", "zone"),
        ("windows: [{from: '22:00', to: '23:00', local: maybe}]", "local"),
        ("success: {share: 0}", "success.share"),
        ("success: {deadline_s: -1}", "success.deadline_s"),
        ("failure: {share: 1.5}", "failure.share"),
        ("failure: {min_executed: 0}", "failure.min_executed"),
        ("gates: [{metric: luck, max: 1}]", "luck"),
        ("on_breach: panic", "on_breach"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_by_the_name_of_the_key(changed: str, named: str) -> None:
    key = changed.partition(":")[0]
    kept = [line for line in ("model: signs", "version: 7") if not line.startswith(key)]
    with pytest.raises(Invalid, match=named):
        rollout_spec.parse("\n".join([*kept, changed]))


@pytest.mark.parametrize("text", ["", "- a", "{", "[" * 4000, "a: &a [1]\nb: *a", "x" * 70_000])
def test_what_is_no_plan_at_all_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        rollout_spec.parse(text)


def test_a_package_needs_the_version_of_one() -> None:
    with pytest.raises(Invalid, match="version"):
        rollout_spec.parse("config: lobby\nversion: 'a b'")


def test_values_of_wrong_types_are_refused_not_raised_as_bugs() -> None:
    values: list[Any] = [True, 1, "x", [], {}, 1.5]
    keys = ("selector", "waves", "rate_per_minute", "start", "windows", "soak_s", "success", "failure", "gates", "on_breach")
    for key in keys:
        for value in values:
            try:
                plan = rollout_spec.of_values({"model": "signs", "version": 1, key: value})
            except Invalid:
                continue
            assert isinstance(plan, RolloutPlan)

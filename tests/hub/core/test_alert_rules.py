import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.core.alert_defaults import BUILT_IN
from cloud_hub.core.alert_rules import SOURCES, AlertRule, dump, parse, render
from cloud_hub.core.errors import Invalid


@pytest.mark.parametrize("rule", BUILT_IN.values(), ids=BUILT_IN)
def test_a_built_in_rule_is_its_own_yaml(rule: AlertRule) -> None:
    assert parse(dump(rule), {}) == (rule,)


def test_a_rule_is_read_from_yaml_and_takes_the_defaults_of_its_source() -> None:
    (hot, rolled) = parse(
        """
        rules:
          - {name: hot-gate, source: device.temperature_c, above: 70, clear: 65, for_s: 60, selector: {site: gate}}
          - {name: rolled-back, event: update.*}
        """,
        BUILT_IN,
    )
    assert (hot.threshold, hot.clear, hot.for_s, hot.selector) == (70.0, 65.0, 60.0, {"site": "gate"})
    assert (rolled.source, rolled.above, rolled.span_s) == ("event", 0.0, 3600.0)
    assert rolled.of_event("update.rolled_back") and not rolled.of_event("model.held_back")


def test_a_rule_named_like_a_built_in_one_changes_only_what_it_says() -> None:
    (hot,) = parse("{name: hot, above: 70, clear: 60}", BUILT_IN)
    assert (hot.source, hot.above, hot.clear, hot.for_s, hot.enabled) == ("device.temperature_c", 70.0, 60.0, 60.0, True)
    (off,) = parse("{name: hot, enabled: false}", BUILT_IN)
    assert not off.enabled and off.above == 80.0
    (other,) = parse("{name: hot, event: camera.overheated}", BUILT_IN)  # says its source: nothing is taken over
    assert (other.above, other.for_s) == (0.0, 0.0)
    with pytest.raises(Invalid, match="rule 'hot'.*'source' is missing"):
        parse("{name: hot, enabled: false}", {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{name: x, source: device.tempratur_c, above: 1}", "rule 'x': 'source'.*did you mean 'device.temperature_c'"),
        ("{name: x, source: drift, abov: 1}", "rule 'x': unknown key 'abov'; did you mean 'above'"),
        ("{name: x, source: drift, severity: warn}", "rule 'x': severity.*did you mean 'warning'"),
        ("{name: x, source: drift, summary: 'on {devise}'}", "rule 'x': 'summary' names {devise}; did you mean 'device'"),
        ("{name: x, source: device.temperature_c}", "'above' or 'below' is needed"),
        ("{name: x, source: device.temperature_c, above: 1, below: 2}", "'above' or 'below' is needed, one of the two"),
        ("{name: x, source: device.temperature_c, above: 80, clear: 85}", "'clear' 85 lies on the firing side of 'above' 80"),
        ("{name: x, source: device.disk_free_ratio, below: 0.1, clear: 0.05}", "'clear' 0.05 lies on the firing side"),
        ("{name: x, source: device.temperature_c, above: .nan}", "'above' must be a finite number"),
        ("{name: x, source: device.temperature_c, above: hot}", "'above' must be float, got 'hot'"),
        ("{name: x, source: device.temperature_c, above: 1, over_s: 60}", "'over_s' means nothing here"),
        ("{name: x, source: drift, for_s: -1}", "'for_s' must be in 0.."),
        ("{name: x, source: drift, event: a.b}", "'source' must be left out beside 'event'"),
        ("{name: x, source: drift, count_stopped: true}", "'count_stopped' belongs to device.offline only"),
        ("{name: x, source: drift, selector: {Site: gate}}", "rule 'x': label key"),
        ("{name: x, stream: s, value: mean}", "'above' or 'below' is needed"),
        ("{name: X, source: drift}", "'name' must be"),
        ("{source: drift}", "one rule with a 'name'"),
        ("{rules: [{name: x, source: drift}, {name: x, source: drift}]}", "rule 'x' stands there twice"),
        ("{rules: [1]}", "must be a mapping, got int"),
        ("{rules: []}", "a list of them under 'rules'"),
        ("[1, 2", "not YAML"),
        ("&a [*a]", "aliases"),
        ("name: x\n1: 2\nsource: drift", "unknown key '1'"),
        ("x" * 300_000, "larger than"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said_with_its_name_and_key(text: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        parse(text, BUILT_IN)


@given(st.text(max_size=200))
def test_whatever_text_comes_it_is_rules_or_invalid(text: str) -> None:
    try:
        parse(text, BUILT_IN)
    except Invalid:
        return


def test_every_source_can_be_fired_by_a_rule() -> None:
    for source in SOURCES:
        extra = {"event": "event: a.*", "stream": "stream: s\nvalue: mean"}.get(source, f"source: {source}")
        (rule,) = parse(f"name: x\n{extra}\nabove: 1", {})
        assert rule.fires(1.5) and not rule.fires(1.0) and rule.clears(1.0)


def test_a_summary_is_filled_in_and_nothing_else_is_looked_up() -> None:
    (rule,) = parse("{name: hot, summary: '{device}: {value} over {threshold}, {key}'}", BUILT_IN)
    assert render(rule, device="cam-1", key="{value}", value=81.234567) == "cam-1: 81.23 over 80, {value}"
    assert render(BUILT_IN["quarantine"], device="", key="", value=12345.0).endswith(
        "12345 messages from the hub cannot be used"
    )

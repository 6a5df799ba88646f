import pytest

from edge_agent.streams.rows import READING_FIELDS
from edge_agent.streams.spec import (
    MAX_AGGREGATES,
    MAX_STREAMS,
    Aggregate,
    Condition,
    InvalidSpec,
    Kind,
    Send,
    StreamSpec,
    WindowSpec,
    load_specs,
)

WHOLE = """
streams:
  unsure:
    window: {kind: hopping, size_s: 60, hop_s: 10, lateness_s: 2.5}
    by: [label, model]
    where: ["latency_ms < 100", label_name != 'empty', captured == true]
    aggregates:
      readings: count
      mean: mean(confidence)
      p95: p95(latency_ms)
      spread: histogram(confidence, 0, 1, 10)
    condition: [mean < 0.6, readings >= 20]
    selector: {site: north}
    send: holding
"""


def one(body: str) -> StreamSpec:
    (spec,) = load_specs("streams: {s: {" + body + "}}", READING_FIELDS)
    return spec


WINDOW = "window: {kind: tumbling, size_s: 10}"
PLAIN = WINDOW + ", aggregates: {n: count}"


def test_a_file_says_windows_fields_aggregates_and_conditions() -> None:
    (spec,) = load_specs(WHOLE, READING_FIELDS)
    assert spec == StreamSpec(
        name="unsure",
        window=WindowSpec(kind=Kind.HOPPING, size_s=60.0, hop_s=10.0, lateness_s=2.5),
        aggregates={
            "readings": Aggregate(function="count"),
            "mean": Aggregate(function="mean", field="confidence"),
            "p95": Aggregate(function="p95", field="latency_ms"),
            "spread": Aggregate(function="histogram", field="confidence", low=0.0, high=1.0, bins=10),
        },
        by=("label", "model"),
        where=(
            Condition(left="latency_ms", op="<", right=100.0),
            Condition(left="label_name", op="!=", right="empty"),
            Condition(left="captured", op="==", right=1.0),
        ),
        condition=(Condition(left="mean", op="<", right=0.6), Condition(left="readings", op=">=", right=20.0)),
        selector={"site": "north"},
        send=Send.HOLDING,
    )


@pytest.mark.parametrize("text", ["", "streams:", "streams: {}", "# nothing"])
def test_a_file_without_streams_is_no_stream(text: str) -> None:
    assert load_specs(text) == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("windw: {}, aggregates: {n: count}", "stream 's' has an unknown key 'windw'; did you mean 'window'?"),
        ("window: {kind: tumbling, sise_s: 1}, aggregates: {n: count}", "unknown key 'sise_s'; did you mean 'size_s'?"),
        ("window: {kind: tumblin, size_s: 1}, aggregates: {n: count}", "got 'tumblin'; did you mean 'tumbling'?"),
        ("aggregates: {n: count}", "'window' must be a mapping, got NoneType"),
        ("window: {kind: tumbling}, aggregates: {n: count}", "a tumbling window needs 'window.size_s' above 0"),
        ("window: {kind: tumbling, size_s: 0}, aggregates: {n: count}", "a tumbling window needs 'window.size_s' above 0"),
        ("window: {kind: session, size_s: 5}, aggregates: {n: count}", "a session window needs 'window.gap_s' above 0"),
        ("window: {kind: tumbling, size_s: 1, gap_s: 1}, aggregates: {n: count}", "has no 'window.gap_s'"),
        ("window: {kind: tumbling, size_s: 1e9}, aggregates: {n: count}", "'window.size_s' must be 0..604800 seconds"),
        ("window: {kind: tumbling, size_s: .nan}, aggregates: {n: count}", "'window.size_s' must be 0..604800 seconds"),
        ("window: {kind: tumbling, size_s: true}, aggregates: {n: count}", "'window.size_s' must be 0..604800 seconds"),
        ("window: {kind: tumbling, size_s: 0.0015}, aggregates: {n: count}", "must be whole milliseconds, got 0.0015 s"),
        ("window: {kind: hopping, size_s: 1, hop_s: 2}, aggregates: {n: count}", "'window.hop_s' must not be longer"),
        ("window: {kind: hopping, size_s: 60, hop_s: 0.007}, aggregates: {n: count}", "more than 1000 slices"),
        (WINDOW, "'aggregates' must map names to functions"),
        (WINDOW + ", aggregates: {m: meen(confidence)}", "'aggregates.m' names no function: 'meen'; did you mean 'mean'?"),
        (WINDOW + ", aggregates: {m: mean(confidense)}", "no field of a reading: 'confidense'; did you mean 'confidence'?"),
        (WINDOW + ", aggregates: {m: mean}", "'aggregates.m' must be written as mean(field), got 'mean'"),
        (WINDOW + ", aggregates: {m: count(label)}", "'aggregates.m' must be written as count, got"),
        (WINDOW + ", aggregates: {m: mean(label_name)}", "needs a field of kind flag or integer or number"),
        (WINDOW + ", aggregates: {m: counts(confidence)}", "needs a field of kind integer, and 'confidence' is of kind number"),
        (WINDOW + ", aggregates: {m: share(confidence)}", "needs a field of kind flag"),
        (WINDOW + ", aggregates: {m: 'histogram(confidence, 1, 0, 10)'}", "low < high and 1..256 bins"),
        (WINDOW + ", aggregates: {m: p100(confidence)}", "names no function: 'p100'"),
        (WINDOW + ", aggregates: {'': count}", "'aggregates.' must be a name and a function"),
        (PLAIN + ", by: confidence", "'by': by needs a field of kind flag or integer or text"),
        (PLAIN + ", by: [label, label]", "'by' must be at most 4 different fields"),
        (PLAIN + ", where: 'label ~ 3'", "'where' must be written as 'name < number'"),
        (PLAIN + ", where: 'label_name < abc'", "can compare a text with == and != only"),
        (PLAIN + ", where: 'label == cat'", "needs a field of kind text, and 'label' is of kind integer"),
        (PLAIN + ", condition: 'm > 3'", "'condition' must be on an aggregate with one value, got 'm'"),
        (PLAIN + ", condition: 'n == many'", "'condition' must compare with a number"),
        (PLAIN + ", send: holding", "'send: holding' needs a 'condition'"),
        (PLAIN + ", send: nothing", "'send' must be one of all, holding, none, got 'nothing'"),
        (PLAIN + ", selector: [a]", "'selector' must map labels to values"),
    ],
)
def test_a_mistake_is_named_with_its_stream_its_key_and_what_was_meant(body: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        one(body)
    assert "stream 's'" in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("text", ["- a", "streams: 3", "strems: {}", "streams: {s: 3}", "streams: {'a b': {}}", "a: [", "\0"])
def test_a_file_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        load_specs(text)


def test_a_file_is_bounded() -> None:
    streams = ", ".join(f"s{i}: {{{PLAIN}}}" for i in range(MAX_STREAMS + 1))
    with pytest.raises(InvalidSpec, match=f"more than {MAX_STREAMS}"):
        load_specs(f"streams: {{{streams}}}")
    aggregates = ", ".join(f"a{i}: count" for i in range(MAX_AGGREGATES + 1))
    with pytest.raises(InvalidSpec, match=f"more than {MAX_AGGREGATES}"):
        one(WINDOW + f", aggregates: {{{aggregates}}}")


def test_the_fingerprint_tells_whether_states_still_have_a_meaning() -> None:
    base = one(PLAIN + ", where: 'label < 3'")
    same = one(
        "window: {kind: tumbling, size_s: 10, lateness_s: 1}, aggregates: {m: count}, where: label < 3.0, condition: m > 2"
    )
    assert base.fingerprint == same.fingerprint
    others = [
        one(PLAIN),
        one(PLAIN + ", where: 'label < 4'"),
        one(PLAIN + ", where: 'label < 3', by: label"),
        one("window: {kind: tumbling, size_s: 11}, aggregates: {n: count}, where: 'label < 3'"),
        one("window: {kind: sliding, size_s: 10}, aggregates: {n: count}, where: 'label < 3'"),
        one(WINDOW + ", aggregates: {n: count, m: mean(confidence)}, where: 'label < 3'"),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1

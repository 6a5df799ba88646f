"""What the values themselves refuse."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract import ids, topics
from protos.contract.boards import Board
from protos.contract.errors import InvalidId, InvalidTopic, InvalidValue
from protos.contract.outputs import MAX_LABELS, Values
from protos.contract.telemetry import (
    MAX_SEQUENCE,
    MAX_TEXT,
    Batch,
    Event,
    Gap,
    Inference,
    InferenceTable,
    Lane,
    Mark,
    first_gap_free,
    from_ms,
    to_ms,
)
from protos.contract.twin import DesiredTwin, Health, ModelAssignment, Status
from protos.contract.update import FINAL, TRANSITIONS, UpdateState, may_follow
from protos.v1 import telemetry_pb2, twin_pb2
from tests.protos import values

NOW = datetime(2025, 1, 1, tzinfo=UTC)
MODEL = ids.digest_of(b"")


def inference(sequence: int) -> Inference:
    return Inference(sequence=sequence, captured_at=NOW, model=MODEL, label=1, confidence=0.5, latency_ms=1.0)


def event(sequence: int) -> Event:
    return Event(sequence=sequence, at=NOW, kind="k")


def gap(first: int, last: int) -> Gap:
    return Gap(first_sequence=first, last_sequence=last, reason="full", at=NOW)


def batch(first: int, last: int, *records: Inference | Event | Gap) -> Batch:
    return Batch(
        epoch="e1",
        lane=Lane.NORMAL,
        first_sequence=first,
        last_sequence=last,
        inferences=InferenceTable.of([r for r in records if isinstance(r, Inference)]),
        events=tuple(r for r in records if isinstance(r, Event)),
        gaps=tuple(r for r in records if isinstance(r, Gap)),
    )


def test_a_batch_accounts_for_every_sequence_once() -> None:
    mixed = batch(5, 12, inference(5), inference(6), event(7), gap(8, 10), inference(11), event(12))
    assert (mixed.records, mixed.dropped) == (5, 3)
    assert mixed.head[2:6] == (5, 12, 5, 3)


@pytest.mark.parametrize(
    ("first", "last", "records"),
    [
        (0, 0, []),
        (0, 2, [inference(0), inference(2)]),  # a hole
        (0, 1, [inference(0), inference(1), event(1)]),  # twice
        (0, 2, [gap(0, 1), inference(1), event(2)]),  # overlap
        (0, 1, [inference(0), inference(1), inference(2)]),  # beyond the end
        (1, 2, [inference(0), inference(1), inference(2)]),  # before the start
        (0, 5, [gap(0, 4)]),  # too short
        (0, 3, [gap(0, 5)]),  # too long
        (3, 2, [gap(2, 3)]),  # backwards
        (0, 1, [gap(0, 0), gap(0, 0), event(1)]),
    ],
)
def test_any_other_accounting_is_refused(first: int, last: int, records: list[Inference | Event | Gap]) -> None:
    with pytest.raises(InvalidValue):
        batch(first, last, *records)


@given(values.batches(), st.integers(-3, 3), st.integers(-3, 3))
def test_a_batch_with_moved_ends_is_refused(value: Batch, start: int, end: int) -> None:
    if (start, end) != (0, 0):
        with pytest.raises(InvalidValue):
            replace(value, first_sequence=value.first_sequence + start, last_sequence=value.last_sequence + end)


@pytest.mark.parametrize(
    "broken",
    [
        {"confidence": -0.1}, {"confidence": float("nan")}, {"latency_ms": float("inf")}, {"latency_ms": -1.0},
        {"latency_ms": float("nan")}, {"label": 1 << 16}, {"sequence": -1}, {"sequence": MAX_SEQUENCE + 1},
        {"value": float("nan")}, {"value": float("-inf")}, {"value": 3.5e38},
        {"frame_key": 1 << 64}, {"captured_at": datetime(1969, 1, 1, tzinfo=UTC)}, {"captured_at": datetime(2025, 1, 1)},
    ],
)  # fmt: skip
def test_an_inference_out_of_bounds_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        replace(inference(0), **broken)


def test_what_an_inference_refuses_its_table_refuses() -> None:
    table = InferenceTable.of([inference(0), inference(1)])
    for broken in (
        {"sequence": np.array([1, 1], "<u8")},
        {"confidence": np.array([0, np.nan], "<f4")},
        {"latency_ms": np.array([0, 1e10], "<f4")},
        {"captured_at_ms": np.array([0, -1], "<i8")},
        {"flags": np.array([0, 4], "u1")},
        {"model": np.array([0, 1], "u1")},
        {"value": np.array([0, np.inf], "<f4")},
        {"value": np.array([0], "<f4")},
        {"label": np.array([0], "<u2")},
    ):
        with pytest.raises(InvalidValue):
            replace(table, **broken)


def test_a_table_gives_back_its_rows() -> None:
    rows = [inference(3), replace(inference(7), captured=True, frame_key=2**64 - 1), replace(inference(9), uncertain=True)]
    rows.append(replace(inference(11), value=-2.5))
    assert list(InferenceTable.of(rows).rows()) == rows


def test_more_models_than_one_byte_can_name_are_refused() -> None:
    rows = [replace(inference(i), model=ids.digest_of(bytes([i % 256, i // 256]))) for i in range(257)]
    with pytest.raises(InvalidValue, match="257 models"):
        InferenceTable.of(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Event(sequence=0, at=NOW, kind=""),
        lambda: Event(sequence=0, at=NOW, kind="k" * 65),
        lambda: Event(sequence=0, at=NOW, kind="k", detail="d" * (MAX_TEXT + 1)),
        lambda: Event(sequence=0, at=NOW, kind="k", detail="\udc80"),
        lambda: Event(sequence=0, at=NOW, kind="k\0"),
        lambda: Event(sequence=0, at=NOW, kind="k", detail="a\0b"),
        lambda: Gap(first_sequence=0, last_sequence=0, reason="\0", at=NOW),
        lambda: Gap(first_sequence=1, last_sequence=0, reason="", at=NOW),
        lambda: Gap(first_sequence=0, last_sequence=0, reason="r" * (MAX_TEXT + 1), at=NOW),
        lambda: Mark(epoch="e", lane=Lane.BULK, committed_through=-1),
        lambda: Mark(epoch="", lane=Lane.BULK, committed_through=0),
        lambda: Mark(epoch="e" * 65, lane=Lane.BULK, committed_through=0),
        lambda: Mark(epoch="é", lane=Lane.BULK, committed_through=0),
        lambda: Mark(epoch="a/b", lane=Lane.BULK, committed_through=0),
        lambda: Values(names=("v",), mean=(0.0,), std=(1.0,), edges=tuple(map(float, range(MAX_LABELS)))),
        lambda: DesiredTwin(generation=-1),
        lambda: DesiredTwin(generation=1 << 63),
        lambda: DesiredTwin(generation=1, renew_before=NOW.replace(tzinfo=None)),
        lambda: DesiredTwin(generation=1, renew_before=datetime(1970, 1, 1, tzinfo=UTC)),
        lambda: Health(started_at=NOW, latency_p50_ms=float("nan")),
        lambda: Health(started_at=NOW, rss_bytes=-1),
        lambda: ModelAssignment(name=ids.model_name("m"), version=0, manifest_digest=MODEL, manifest_size_bytes=1),
        lambda: ModelAssignment(name=ids.model_name("m"), version=1 << 31, manifest_digest=MODEL, manifest_size_bytes=1),
        lambda: ModelAssignment(name=ids.model_name("m"), version=1, manifest_digest=MODEL, manifest_size_bytes=1 << 20),
        lambda: Board(
            name="b", description="", architecture="x", kind="camera", runtimes=("torch",), memory_mb=1, storage_mb=1,
            max_model_bytes=1,
        ),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused(make: object) -> None:
    with pytest.raises(InvalidValue):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["b" * 2000, "a\0b", "\udc80"])
def test_a_name_that_no_store_should_have_to_keep_is_refused(name: str) -> None:
    from protos.contract.twin import Presence

    with pytest.raises(InvalidValue):
        Status(presence=Presence.ONLINE, boot_id=name, agent_version="0", at=NOW)


@given(values.times)
def test_milliseconds_and_times_are_the_same(at: datetime) -> None:
    assert from_ms(to_ms(at)) == at


@pytest.mark.parametrize("ms", [-1, 253_402_300_800_000, 1 << 63])
def test_times_out_of_the_calendar_are_refused(ms: int) -> None:
    with pytest.raises(InvalidValue):
        from_ms(ms)


@given(st.sets(st.integers(0, 40)))
def test_the_watermark_stops_at_the_first_hole(present: set[int]) -> None:
    reached = first_gap_free(((n, n) for n in sorted(present)), after=-1)
    assert set(range(reached + 1)) <= present
    assert reached + 1 not in present


def test_ranges_that_overlap_or_repeat_count_once() -> None:
    assert first_gap_free([(0, 4), (0, 4), (3, 9), (10, 10), (12, 20)], after=-1) == 10
    assert first_gap_free([(0, 4)], after=7) == 7


# -- ids and topics -----------------------------------------------------------------------------------------------------


@given(values.labels_ids, values.labels_ids, st.sampled_from(Lane))
def test_every_topic_is_parsed_back(tenant: str, device: str, lane: Lane) -> None:
    t, d = ids.tenant_id(tenant), ids.device_id(device)
    assert topics.parse_up(topics.telemetry(t, d, lane)) == topics.UpTopic(t, d, topics.TELEMETRY, lane)
    for kind in (topics.STATUS, topics.REPORTED):
        assert topics.parse_up(topics.of(t, d, kind)) == topics.UpTopic(t, d, kind)


@given(st.text(max_size=60) | st.lists(st.sampled_from(["tl", "v1", "a", "up", "down", "status", "", "+", "#"])).map("/".join))
def test_any_other_topic_is_refused(topic: str) -> None:
    try:
        parsed = topics.parse_up(topic)
    except InvalidTopic:
        return
    assert topics.of(parsed.tenant, parsed.device, parsed.kind) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "tl/v1/t/d/down/desired", "tl/v1/t/d/up/status/x", "tl/v1/t/d/up/telemetry", "tl/v1/t/d/up/telemetry/NORMAL",
        "tl/v1/t/d/up/telemetry/urgent", "tl/v1/T/d/up/status", "tl/v1/t/d\n/up/status", "tl/v2/t/d/up/status",
        "/tl/v1/t/d/up/status", "tl/v1/t/../up/status", "",
    ],
)  # fmt: skip
def test_a_topic_no_device_may_publish_is_refused(topic: str) -> None:
    with pytest.raises(InvalidTopic):
        topics.parse_up(topic)


@given(st.text(max_size=70))
def test_an_id_is_narrow_whatever_is_asked(text: str) -> None:
    try:
        name = ids.device_id(text)
    except InvalidId:
        return
    assert name == text and 1 <= len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and name[0] != "-" and name[-1] != "-"


@pytest.mark.parametrize("text", ["", "a" * 64, "-a", "a-", "A", "a_b", "a.b", "a/b", "a\n", "user:x", "ä", ".."])
def test_what_is_no_id_is_refused(text: str) -> None:
    for make in (ids.device_id, ids.tenant_id, ids.model_name):
        with pytest.raises(InvalidId):
            make(text)


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 64, MODEL + "\n"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        ids.digest(text)


# -- the life of an update ----------------------------------------------------------------------------------------------


def test_every_state_has_its_row_and_final_ones_have_no_way_out() -> None:
    assert set(TRANSITIONS) == set(UpdateState)
    assert {UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SUPERSEDED} == FINAL
    assert not any(may_follow(state, following) for state in FINAL for following in UpdateState)


def test_every_state_is_reached_from_an_offer_and_reaches_an_end() -> None:
    assert reachable(UpdateState.OFFERED) == set(UpdateState)
    assert all(reachable(state) & FINAL for state in UpdateState)


def test_an_update_never_goes_back() -> None:
    assert not any(state in reachable(following) for state in UpdateState for following in TRANSITIONS[state])


def test_what_was_activated_either_stays_or_is_rolled_back() -> None:
    assert TRANSITIONS[UpdateState.TRIAL] == {UpdateState.COMMITTED, UpdateState.ROLLED_BACK}


def reachable(start: UpdateState) -> set[UpdateState]:
    seen, ahead = {start}, [start]
    while ahead:
        new = TRANSITIONS[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def test_enums_carry_the_numbers_of_the_wire() -> None:
    assert {f"UPDATE_STATE_{s.name}": s.value for s in UpdateState} | {"UPDATE_STATE_UNSPECIFIED": 0} == dict(
        twin_pb2.UpdateState.items()
    )
    assert {f"LANE_{lane.name}": lane.value for lane in Lane} | {"LANE_UNSPECIFIED": 0} == dict(telemetry_pb2.Lane.items())

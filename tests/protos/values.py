"""Any value of the contract."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from protos.contract import ids
from protos.contract.inputs import (
    MAX_FEATURES,
    MAX_GRAM,
    MAX_SIDE,
    MAX_STEPS,
    CategoryColumn,
    Column,
    ImageInput,
    Input,
    Layout,
    NumericColumn,
    RowInput,
    TextInput,
    WindowInput,
)
from protos.contract.manifest import (
    MAX_ARTIFACT_BYTES,
    MAX_GOLDEN_BYTES,
    MAX_VERSION,
    Blob,
    Format,
    GoldenRef,
    GoldenSet,
    Manifest,
    Precision,
)
from protos.contract.outputs import (
    NOTHING,
    Classification,
    Detection,
    Output,
    Ranking,
    Reconstruction,
    Values,
)
from protos.contract.samples import Window as SampleWindow
from protos.contract.telemetry import (
    MAX_LATENCY_MS,
    MAX_SEQUENCE,
    MAX_TEXT,
    Batch,
    Event,
    Gap,
    Inference,
    InferenceTable,
    Lane,
    Mark,
    Window,
)
from protos.contract.twin import (
    MAX_MANIFEST_BYTES,
    MAX_PACKAGE_BYTES,
    Challenger,
    DesiredTwin,
    Fit,
    Health,
    Held,
    MaintenanceWindow,
    ModelAssignment,
    PackageAssignment,
    PackageKind,
    PackageStatus,
    Presence,
    ReportedTwin,
    ShadowReport,
    Status,
    UpdateStatus,
)
from protos.contract.update import UpdateState

START = datetime(1970, 1, 1, tzinfo=UTC)

counts = st.integers(0, MAX_SEQUENCE)
versions = st.integers(1, MAX_VERSION)
labels_ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
digests = st.binary(max_size=8).map(ids.digest_of)
epochs = st.text("abcdef0123456789", min_size=1, max_size=16)
times = st.integers(0, 253_402_300_799_999).map(lambda ms: START + timedelta(milliseconds=ms))
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
long_texts = texts | st.just("ü" * MAX_TEXT)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """That 32 bits hold exactly."""
    return st.floats(low, high, width=32, allow_subnormal=False)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Inferences, events, windows and gaps in any order, accounting for every sequence once."""
    kinds = draw(st.lists(st.sampled_from("iegw"), min_size=1, max_size=30))
    models = draw(st.lists(digests, min_size=1, max_size=3))
    sequence = first = draw(st.integers(0, 10**6) | st.just(MAX_SEQUENCE - 1000))
    inferences: list[Inference] = []
    events: list[Event] = []
    gaps: list[Gap] = []
    windows: list[Window] = []
    for kind in kinds:
        at = draw(times)
        if kind == "i":
            inferences.append(_inference(draw, sequence, at, models))
        elif kind == "e":
            events.append(Event(sequence=sequence, at=at, kind=draw(texts.filter(bool)), detail=draw(long_texts)))
        elif kind == "w":
            windows.append(_window(draw, sequence))
        else:
            last = sequence + draw(st.integers(0, 20))
            gaps.append(Gap(first_sequence=sequence, last_sequence=last, reason=draw(texts), at=at))
            sequence = last
        sequence += 1
    return Batch(
        epoch=draw(epochs),
        lane=draw(st.sampled_from(Lane)),
        first_sequence=first,
        last_sequence=sequence - 1,
        inferences=InferenceTable.of(inferences),
        events=tuple(events),
        gaps=tuple(gaps),
        windows=tuple(windows),
    )


def _window(draw: st.DrawFn, sequence: int) -> Window:
    start, end = sorted(draw(st.lists(times, min_size=2, max_size=2, unique=True)))
    values = draw(st.dictionaries(texts.filter(bool), st.floats(allow_nan=False, allow_infinity=False), max_size=4))
    return Window(
        sequence=sequence,
        stream=draw(texts.filter(bool)),
        key=draw(texts),
        start=start,
        end=end,
        readings=draw(counts),
        complete=draw(st.booleans()),
        values=tuple(sorted(values.items())),
    )


def _inference(draw: st.DrawFn, sequence: int, at: datetime, models: list[ids.Digest]) -> Inference:
    return Inference(
        sequence=sequence,
        captured_at=at,
        model=draw(st.sampled_from(models)),
        label=draw(st.integers(0, 0xFFFF)),
        confidence=draw(floats(0, 1)),
        latency_ms=draw(floats(0, MAX_LATENCY_MS)),
        captured=draw(st.booleans()),
        uncertain=draw(st.booleans()),
        frame_key=draw(st.integers(0, 2**64 - 1)),
        value=draw(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)),
    )


marks = st.lists(st.builds(Mark, epoch=epochs, lane=st.sampled_from(Lane), committed_through=counts), max_size=20).map(tuple)
statuses = st.builds(Status, presence=st.sampled_from(Presence), boot_id=texts, agent_version=texts, at=times)
assignments = st.builds(
    ModelAssignment,
    name=labels_ids.map(ids.model_name),
    version=versions,
    manifest_digest=digests,
    manifest_size_bytes=st.integers(1, MAX_MANIFEST_BYTES),
)
packages = st.builds(
    PackageAssignment,
    kind=st.sampled_from(PackageKind),
    name=labels_ids,
    version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}", fullmatch=True),
    digest=digests,
    size_bytes=st.integers(1, MAX_PACKAGE_BYTES),
    rollout_id=texts,
)
package_sets = st.lists(packages, max_size=3, unique_by=lambda package: package.kind).map(tuple)
shares = st.floats(0, 1, exclude_min=True)
windows = st.builds(
    MaintenanceWindow,
    start_minute=st.integers(0, 1439),
    end_minute=st.integers(0, 1440),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    local=st.booleans(),
)
desired_twins = st.builds(
    DesiredTwin,
    generation=counts,
    model=st.none() | assignments,
    rollout_id=texts,
    renew_before=st.none() | times.filter(lambda at: at > START),
    packages=package_sets,
    challenger=st.none() | st.builds(Challenger, model=assignments, share=shares, max_share_of_time=shares),
    windows=st.lists(windows, max_size=3).map(tuple),
    not_before=st.none() | times.filter(lambda at: at > START),
)
figures = st.floats(0, 1e300)
fits = st.builds(Fit, p50_ms=figures, p95_ms=figures, peak_bytes=counts, error=figures, agreement=figures)
package_updates = st.builds(
    PackageStatus,
    generation=counts,
    state=st.sampled_from(UpdateState),
    package=packages,
    at=times,
    attempts=st.integers(0, 2**32 - 1),
    reason=long_texts,
)


@st.composite
def shadow_reports(draw: st.DrawFn) -> ShadowReport:
    frames = draw(counts)
    return ShadowReport(
        model=draw(assignments),
        since=draw(times),
        frames=frames,
        agreed=draw(st.integers(0, frames)),
        skipped=draw(counts),
        errors=draw(counts),
        champion_confidence=draw(figures),
        challenger_confidence=draw(figures),
        champion_p95_ms=draw(figures),
        challenger_p50_ms=draw(figures),
        challenger_p95_ms=draw(figures),
        captured=draw(counts),
        problem=draw(long_texts),
        fit=draw(st.none() | fits),
    )


updates = st.builds(
    UpdateStatus,
    generation=counts,
    state=st.sampled_from(UpdateState),
    model=assignments,
    at=times,
    rollout_id=texts,
    attempts=st.integers(0, 2**32 - 1),
    reason=long_texts,
    fit=st.none() | fits,
)
healths = st.builds(
    Health,
    started_at=times,
    rss_bytes=counts,
    disk_free_bytes=counts,
    spool_records=counts,
    spool_bytes=counts,
    dropped_records=counts,
    inferences=counts,
    inference_errors=counts,
    captures_pending=counts,
    latency_p50_ms=st.floats(0, 1e300),
    latency_p95_ms=st.floats(0, 1e300),
    disk_total_bytes=counts,
    spool_limit_bytes=counts,
    temperature_c=st.none() | st.floats(-100, 1000),
)


@st.composite
def held_ranges(draw: st.DrawFn) -> Held:
    oldest, following = sorted((draw(counts), draw(counts)))
    return Held(epoch=draw(epochs), lane=draw(st.sampled_from(Lane)), oldest=oldest, next=following)


reported_twins = st.builds(
    ReportedTwin,
    generation=counts,
    boot_id=texts,
    agent_version=texts,
    board=texts,
    at=times,
    health=healths,
    runtimes=st.lists(texts, max_size=3).map(tuple),
    model=st.none() | assignments,
    update=st.none() | updates,
    held=st.lists(held_ranges(), max_size=len(Lane)).map(tuple),
    packages=package_sets,
    package_updates=st.lists(package_updates, max_size=3, unique_by=lambda update: update.package.kind).map(tuple),
    shadow=st.none() | shadow_reports(),
)


def names(most: int = 6) -> st.SearchStrategy[tuple[str, ...]]:
    """Different and not empty."""
    return st.lists(texts.filter(bool), min_size=1, max_size=most, unique=True).map(tuple)


means, deviations = floats(-1024, 1024), floats(0.0078125, 1024)


def several(values: st.SearchStrategy[float], count: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(values, min_size=count, max_size=count).map(tuple)


@st.composite
def image_inputs(draw: st.DrawFn) -> ImageInput:
    channels = draw(st.sampled_from([1, 3]))
    return ImageInput(
        width=draw(st.integers(1, MAX_SIDE)),
        height=draw(st.integers(1, MAX_SIDE)),
        channels=channels,
        layout=draw(st.sampled_from(Layout)),
        mean=draw(several(floats(-2, 2), channels)),
        std=draw(several(floats(0.0078125, 2), channels)),
    )


@st.composite
def window_inputs(draw: st.DrawFn, most_steps: int = MAX_STEPS) -> WindowInput:
    channels = draw(names())
    return WindowInput(
        channels=channels,
        steps=draw(st.integers(1, most_steps)),
        mean=draw(several(means, len(channels))),
        std=draw(several(deviations, len(channels))),
    )


@st.composite
def row_inputs(draw: st.DrawFn) -> RowInput:
    def column(name: str) -> Column:
        if draw(st.booleans()):
            return CategoryColumn(name=name, values=draw(names()))
        return NumericColumn(name=name, mean=draw(means), std=draw(deviations), indicator=draw(st.booleans()))

    return RowInput(columns=tuple(map(column, draw(names()))))


@st.composite
def text_inputs(draw: st.DrawFn, most_buckets: int = MAX_FEATURES) -> TextInput:
    grams = st.tuples(st.integers(1, MAX_GRAM), st.integers(1, MAX_GRAM)).map(sorted).map(tuple)
    chars = draw(st.just((0, 0)) | grams)
    words = draw(st.integers(0 if chars[1] else 1, MAX_GRAM))
    return TextInput(buckets=draw(st.integers(16, most_buckets)), words=words, chars=chars)


inputs = image_inputs() | window_inputs() | row_inputs() | text_inputs()
certainties, temperatures = floats(0, 1), floats(0.0078125, 512)
labels = st.lists(texts, min_size=2, max_size=12, unique=True).map(tuple)
classifications = st.builds(Classification, labels=labels, min_confidence=certainties, temperature=temperatures)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    items = draw(labels)
    return Ranking(
        labels=items,
        top=draw(st.integers(1, len(items))),
        min_confidence=draw(certainties),
        temperature=draw(temperatures),
    )


@st.composite
def values_outputs(draw: st.DrawFn) -> Values:
    called = draw(names())
    edges = draw(st.lists(floats(-1e6, 1e6), min_size=1, max_size=9, unique=True))
    return Values(
        names=called,
        mean=draw(several(means, len(called))),
        std=draw(several(deviations, len(called))),
        edges=tuple(sorted(edges)),
        headline=draw(st.integers(0, len(called) - 1)),
    )


detections = st.builds(
    Detection,
    classes=names().filter(lambda classes: NOTHING not in classes),
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    stride=st.integers(1, 256),
    min_score=floats(0.0078125, 0.9921875),
    max_overlap=floats(0.0078125, 1),
    max_boxes=st.integers(1, 1000),
    min_confidence=certainties,
    temperature=temperatures,
)


@st.composite
def ends(draw: st.DrawFn) -> tuple[Input, Output]:
    """That fit each other."""
    taken = draw(inputs.filter(lambda each: math.prod(each.shape) <= MAX_FEATURES))
    reconstructions = st.builds(
        Reconstruction,
        values=st.just(math.prod(taken.shape)),
        threshold=floats(0.0078125, 1e6),
        min_confidence=certainties,
    )
    return taken, draw(classifications | rankings() | values_outputs() | detections | reconstructions)


def blobs(largest: int) -> st.SearchStrategy[Blob]:
    return st.builds(Blob, digest=digests, size_bytes=st.integers(1, largest))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    taken, given = draw(ends())
    return Manifest(
        name=draw(labels_ids.map(ids.model_name)),
        version=draw(versions),
        task=draw(texts),
        artifact=draw(blobs(MAX_ARTIFACT_BYTES)),
        format=draw(st.sampled_from(Format)),
        precision=draw(st.sampled_from(Precision)),
        input=taken,
        output=given,
        golden=draw(st.builds(GoldenRef, blob=blobs(MAX_GOLDEN_BYTES), tolerance=floats(0.0009765625, 1024))),
        boards=draw(st.lists(labels_ids, max_size=3).map(tuple)),
    )


@st.composite
def golden_sets(draw: st.DrawFn) -> GoldenSet:
    count, size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    outputs = draw(st.binary(min_size=count * size * 4, max_size=count * size * 4))
    if draw(st.booleans()):
        samples = draw(st.lists(st.binary(max_size=40), min_size=count, max_size=count).map(tuple))
        return GoldenSet(count=count, size=size, outputs=outputs, samples=samples)
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pixels = count * height * width * 3
    frames = draw(st.binary(min_size=pixels, max_size=pixels))
    return GoldenSet(count=count, size=size, outputs=outputs, height=height, width=width, frames=frames)


# -- samples ------------------------------------------------------------------------------------------------------------

readings = st.floats(width=32, allow_infinity=False)  # NaN: missing


@st.composite
def sample_windows(draw: st.DrawFn, channels: tuple[str, ...] | None = None, least_steps: int = 1) -> SampleWindow:
    called = channels or draw(names(4))
    steps = draw(st.integers(least_steps, least_steps + 6))
    flat = draw(st.lists(readings, min_size=steps * len(called), max_size=steps * len(called)))
    return SampleWindow(channels=called, values=np.array(flat, np.float32).reshape(steps, len(called)))


numbers = st.floats(-9e29, 9e29)
cells = st.none() | numbers | st.booleans() | st.integers(-(10**29), 10**29) | texts | st.lists(texts, max_size=3).map(tuple)
rows = st.dictionaries(texts, cells, min_size=1, max_size=6)

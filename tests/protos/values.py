"""Any value of the contract."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from protos.contract import ids
from protos.contract.manifest import (
    MAX_ARTIFACT_BYTES,
    MAX_GOLDEN_BYTES,
    MAX_SIDE,
    MAX_VERSION,
    Blob,
    ClassificationSpec,
    Format,
    GoldenRef,
    GoldenSet,
    Layout,
    Manifest,
    Precision,
    PreprocessSpec,
)
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


@st.composite
def preprocesses(draw: st.DrawFn) -> PreprocessSpec:
    channels = draw(st.sampled_from([1, 3]))
    return PreprocessSpec(
        width=draw(st.integers(1, MAX_SIDE)),
        height=draw(st.integers(1, MAX_SIDE)),
        channels=channels,
        layout=draw(st.sampled_from(Layout)),
        mean=tuple(draw(floats(-2, 2)) for _ in range(channels)),
        std=tuple(draw(floats(0.0078125, 2)) for _ in range(channels)),
    )


def blobs(largest: int) -> st.SearchStrategy[Blob]:
    return st.builds(Blob, digest=digests, size_bytes=st.integers(1, largest))


manifests = st.builds(
    Manifest,
    name=labels_ids.map(ids.model_name),
    version=versions,
    task=texts,
    artifact=blobs(MAX_ARTIFACT_BYTES),
    format=st.sampled_from(Format),
    precision=st.sampled_from(Precision),
    preprocess=preprocesses(),
    classification=st.builds(
        ClassificationSpec,
        labels=st.lists(texts, min_size=2, max_size=12, unique=True).map(tuple),
        min_confidence=floats(0, 1),
        temperature=floats(0.0078125, 512),
    ),
    golden=st.builds(GoldenRef, blob=blobs(MAX_GOLDEN_BYTES), tolerance=floats(0.0009765625, 1024)),
    boards=st.lists(labels_ids, max_size=3).map(tuple),
)


@st.composite
def golden_sets(draw: st.DrawFn) -> GoldenSet:
    count, height, width, classes = (draw(st.integers(low, 4)) for low in (1, 1, 1, 2))
    pixels, logits = count * height * width * 3, count * classes * 4
    return GoldenSet(
        count=count,
        height=height,
        width=width,
        classes=classes,
        frames=draw(st.binary(min_size=pixels, max_size=pixels)),
        outputs=draw(st.binary(min_size=logits, max_size=logits)),
    )

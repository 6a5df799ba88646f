"""Data sets between the wire and the hub's own values."""

from cloud_hub.core.datasets import Change, Changes, DatasetVersion, LabelEvent, LabelOrigin
from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Dataset, Sample
from cloud_hub.core.tasks import Annotation
from cloud_hub.rpc.requests import device_from_pb
from cloud_hub.rpc.times import opt_from_ms, opt_to_ms
from cloud_hub.services.captures import CapturedSample
from cloud_hub.services.datasets import NewSample
from cloud_hub.services.labelling import Joined, NewLabel, Truth
from protos.contract import ids
from protos.contract.inputs import SampleKind
from protos.contract.telemetry import to_ms
from protos.v1 import datasets_pb2 as pb

_ANNOTATIONS = {
    Annotation.CLASS: pb.ANNOTATION_CLASS,
    Annotation.BOXES: pb.ANNOTATION_BOXES,
    Annotation.VALUES: pb.ANNOTATION_VALUES,
    Annotation.NONE: pb.ANNOTATION_NONE,
}
_ORIGINS = {
    LabelOrigin.HUMAN: pb.LABEL_ORIGIN_HUMAN,
    LabelOrigin.IMPORT: pb.LABEL_ORIGIN_IMPORT,
    LabelOrigin.TRUTH: pb.LABEL_ORIGIN_TRUTH,
    LabelOrigin.TEACHER: pb.LABEL_ORIGIN_TEACHER,
}


def kind_from_pb(kind: int) -> SampleKind:
    """An image where nothing is said. Raises Invalid."""
    try:
        return SampleKind(kind or SampleKind.IMAGE)
    except ValueError as error:
        raise Invalid(
            f"unknown kind of samples {kind}: this hub knows {', '.join(k.name.lower() for k in SampleKind)}"
        ) from error


def annotation_from_pb(annotation: int) -> Annotation:
    """A class where nothing is said. Raises Invalid."""
    for ours, theirs in _ANNOTATIONS.items():
        if (annotation or pb.ANNOTATION_CLASS) == theirs:
            return ours
    raise Invalid(f"unknown annotation {annotation}: this hub knows {', '.join(a.name.lower() for a in _ANNOTATIONS)}")


def any_origin_from_pb(origin: int) -> LabelOrigin | None:
    """None where nothing is said. Raises Invalid."""
    return origin_from_pb(origin, LabelOrigin.HUMAN) if origin != pb.LABEL_ORIGIN_UNSPECIFIED else None


def origin_from_pb(origin: int, default: LabelOrigin) -> LabelOrigin:
    """Raises Invalid."""
    if origin == pb.LABEL_ORIGIN_UNSPECIFIED:
        return default
    for ours, theirs in _ORIGINS.items():
        if origin == theirs:
            return ours
    raise Invalid(f"unknown origin of labels {origin}: this hub knows {', '.join(LabelOrigin)}")


def new_sample_from_pb(request: pb.ImportSample) -> NewSample:
    return NewSample(
        dataset=request.dataset,
        content=request.content,
        label=request.label or None,
        source=request.source,
        split=request.split,
        name=request.name,
        captured_at=opt_from_ms(request.captured_at_ms),
    )


def captured_from_pb(request: pb.UploadSampleRequest) -> CapturedSample:
    return CapturedSample(
        digest=ids.digest(request.digest),
        content=request.content,
        captured_at=opt_from_ms(request.captured_at_ms),
        source=request.source,
        name=request.name,
        reason=request.reason,
        model_manifest=ids.digest(request.model_manifest),
        predicted=request.predicted,
        confidence=request.confidence,
        kind=kind_from_pb(request.kind),
    )


def labels_from_pb(request: pb.LabelSamplesRequest) -> tuple[list[NewLabel], LabelOrigin]:
    origin = origin_from_pb(request.origin, LabelOrigin.HUMAN)
    teacher = origin is LabelOrigin.TEACHER
    labels = [
        NewLabel(sample=new.sample_id, label=new.label, confidence=new.confidence if teacher else 1.0) for new in request.labels
    ]
    return labels, origin


def truths_from_pb(request: pb.JoinLabelsRequest) -> tuple[list[Truth], LabelOrigin]:
    truths = [
        Truth(
            label=truth.label,
            sample=truth.sample_id,
            digest=truth.digest,
            name=truth.name,
            device=device_from_pb(truth.device_id),
            at=opt_from_ms(truth.at_ms),
        )
        for truth in request.truths
    ]
    return truths, origin_from_pb(request.origin, LabelOrigin.TRUTH)


def joined_to_pb(done: Joined, most: int) -> pb.JoinLabelsReply:
    return pb.JoinLabelsReply(
        labelled=done.labelled,
        unchanged=done.unchanged,
        unmatched_count=len(done.unmatched),
        unmatched=[pb.ImportReply.Refused(name=each.name, reason=each.reason) for each in done.unmatched[:most]],
    )


def dataset_to_pb(dataset: Dataset) -> pb.Dataset:
    return pb.Dataset(
        name=dataset.name,
        labels=dataset.labels,
        samples=dataset.samples,
        labelled=dataset.labelled,
        created_at_ms=to_ms(dataset.created_at),
        kind=int(dataset.kind),  # type: ignore[arg-type]  # an enum of the same numbers
        annotation=_ANNOTATIONS[dataset.annotation],
        columns=dataset.columns,
    )


def sample_to_pb(sample: Sample) -> pb.Sample:
    return pb.Sample(
        id=sample.id,
        dataset=sample.dataset,
        digest=sample.digest,
        label=sample.label or "",
        source=sample.source,
        split=sample.split,
        name=sample.name,
        device_id=sample.device or "",
        reason=sample.reason,
        predicted=sample.predicted,
        confidence=sample.confidence,
        captured_at_ms=opt_to_ms(sample.captured_at),
        created_at_ms=to_ms(sample.created_at),
        origin=_ORIGINS[sample.origin] if sample.origin is not None else pb.LABEL_ORIGIN_UNSPECIFIED,
        labelled_by=sample.labelled_by,
        label_confidence=sample.label_confidence,
        labelled_at_ms=opt_to_ms(sample.labelled_at),
    )


def event_to_pb(event: LabelEvent) -> pb.LabelEvent:
    return pb.LabelEvent(
        label=event.label,
        origin=_ORIGINS[event.origin],
        labelled_by=event.labelled_by,
        confidence=event.confidence,
        at_ms=to_ms(event.at),
    )


def version_to_pb(version: DatasetVersion) -> pb.DatasetVersion:
    return pb.DatasetVersion(
        dataset=version.dataset,
        number=version.number,
        digest=version.digest,
        parent=version.parent,
        samples=version.samples,
        added=version.added,
        removed=version.removed,
        relabelled=version.relabelled,
        moved=version.moved,
        created_by=version.created_by,
        reason=version.reason,
        created_at_ms=to_ms(version.created_at),
    )


def changes_to_pb(changes: Changes) -> pb.DatasetChanges:
    return pb.DatasetChanges(
        added=changes.added,
        removed=changes.removed,
        relabelled=changes.relabelled,
        moved=changes.moved,
        examples=map(_change_to_pb, changes.examples),
    )


def _change_to_pb(change: Change) -> pb.DatasetChanges.Change:
    return pb.DatasetChanges.Change(
        what=change.what, sample_id=change.sample.id, name=change.sample.name, before=change.before, after=change.after
    )

"""Datasets: samples, their labels, and what a data set held when."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial

from cloud_hub.core.errors import Invalid
from cloud_hub.rpc import dataset_values as values
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.datasets import DatasetService, ImportReport, NewSample
from cloud_hub.services.datasheets import DatasheetService
from protos.v1 import datasets_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Datasets"]
MAX_REFUSED = 500  # told one by one; an import that goes wrong altogether must not outgrow a message
_GROUP_SAMPLES, _GROUP_BYTES = 64, 8 << 20  # one transaction of an import
_PIECE_BYTES = 256 * 1024
_MAX_TOLERANCE_MS = 1 << 40  # more than the service allows: it refuses what is cut to this
_LABELLED = {
    pb.ListSamplesRequest.LABELLED_UNSPECIFIED: None,
    pb.ListSamplesRequest.LABELLED_YES: True,
    pb.ListSamplesRequest.LABELLED_NO: False,
}


class DatasetsServicer:
    def __init__(self, datasets: DatasetService, datasheets: DatasheetService, threads: Threads) -> None:
        self._datasets = datasets
        self._captures = datasets.captures
        self._labelling = datasets.labelling
        self._versions = datasets.versions
        self._datasheets = datasheets
        self._threads = threads

    async def CreateDataset(self, request: pb.CreateDatasetRequest, call: Call) -> pb.Dataset:
        what = (values.kind_from_pb(request.kind), values.annotation_from_pb(request.annotation))
        dataset = await self._threads.call(self._datasets.create, call.who, request.name, tuple(request.labels), *what)
        return values.dataset_to_pb(dataset)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, call: Call) -> pb.ListDatasetsReply:
        datasets = await self._threads.call(self._datasets.list, call.who)
        return pb.ListDatasetsReply(datasets=map(values.dataset_to_pb, datasets))

    async def ImportSamples(self, requests: AsyncIterator[pb.ImportSample], call: Call) -> pb.ImportReply:
        reply = pb.ImportReply()
        async for group in _groups(requests):
            add_report(reply, await self._threads.call(self._datasets.import_samples, call.who, group))
        return reply

    async def UploadSample(self, request: pb.UploadSampleRequest, call: Call) -> pb.UploadSampleReply:
        captured = values.captured_from_pb(request)
        sample_id, duplicate = await self._threads.call(self._captures.upload, call.who, captured)
        return pb.UploadSampleReply(sample_id=sample_id, duplicate=duplicate)

    async def ListSamples(self, request: pb.ListSamplesRequest, call: Call) -> pb.ListSamplesReply:
        labelled, device = _LABELLED.get(request.labelled), device_from_pb(request.device_id)
        page = page_from_pb(request.page_size, request.page_token)
        list_samples = partial(
            self._datasets.list_samples, origin=values.any_origin_from_pb(request.origin), label=request.label
        )
        samples, following = await self._threads.call(list_samples, call.who, request.dataset, labelled, device, page)
        return pb.ListSamplesReply(samples=map(values.sample_to_pb, samples), next_page_token=following)

    async def GetSample(self, request: pb.GetSampleRequest, call: Call) -> pb.SampleContent:
        sample, content = await self._threads.call(self._datasets.get_sample, call.who, request.id)
        events = await self._threads.call(self._labelling.history, call.who, request.id)
        told = values.sample_to_pb(sample)
        return pb.SampleContent(sample=told, content=content, history=map(values.event_to_pb, events))

    async def LabelSamples(self, request: pb.LabelSamplesRequest, call: Call) -> pb.LabelSamplesReply:
        labels, origin = values.labels_from_pb(request)
        label = partial(self._labelling.label, teacher=request.teacher, floor=request.confidence_floor)
        done = await self._threads.call(label, call.who, labels, origin)
        return pb.LabelSamplesReply(labelled=done.labelled, below_floor=done.below, kept=done.kept)

    async def JoinLabels(self, request: pb.JoinLabelsRequest, call: Call) -> pb.JoinLabelsReply:
        truths, origin = values.truths_from_pb(request)
        tolerance = timedelta(milliseconds=max(-1, min(request.tolerance_ms, _MAX_TOLERANCE_MS)))
        done = await self._threads.call(self._labelling.join, call.who, request.dataset, truths, tolerance, origin)
        return values.joined_to_pb(done, MAX_REFUSED)

    async def SnapshotDataset(self, request: pb.SnapshotDatasetRequest, call: Call) -> pb.DatasetVersion:
        version = await self._threads.call(self._versions.snapshot, call.who, request.dataset, request.reason)
        return values.version_to_pb(version)

    async def ListDatasetVersions(self, request: pb.ListDatasetVersionsRequest, call: Call) -> pb.ListDatasetVersionsReply:
        page = page_from_pb(request.page_size, request.page_token)
        versions, following = await self._threads.call(self._versions.list, call.who, request.dataset, page)
        return pb.ListDatasetVersionsReply(versions=map(values.version_to_pb, versions), next_page_token=following)

    async def GetDatasetChanges(self, request: pb.GetDatasetChangesRequest, call: Call) -> pb.DatasetChanges:
        before = getattr(request, "from")  # a word of Python's
        found = await self._threads.call(self._versions.changes, call.who, request.dataset, before, request.to)
        return values.changes_to_pb(found)

    async def GetDatasheet(self, request: pb.GetDatasheetRequest, call: Call) -> AsyncIterator[pb.DatasheetPiece]:
        make = partial(self._datasheets.make, json=request.json)
        data = await self._threads.call(make, call.who, request.dataset, request.version)
        for piece in _pieces(data):
            yield pb.DatasheetPiece(data=piece)


async def _groups(requests: AsyncIterator[pb.ImportSample]) -> AsyncIterator[list[NewSample]]:
    """Groups small enough for memory and for one transaction."""
    group: list[NewSample] = []
    size = 0
    async for request in requests:
        group.append(values.new_sample_from_pb(request))
        size += len(request.content)
        if len(group) >= _GROUP_SAMPLES or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


def add_report(reply: pb.ImportReply, report: ImportReport) -> None:
    """Raises Invalid where most is refused: whoever imports that has the wrong file."""
    reply.added += report.added
    reply.duplicates += report.duplicates
    reply.refused_count += len(report.refused)
    for name, reason in report.refused[: MAX_REFUSED - len(reply.refused)]:
        reply.refused.add(name=name, reason=reason)
    if reply.refused_count > MAX_REFUSED and reply.refused_count > reply.added + reply.duplicates:
        first = reply.refused[0]
        raise Invalid(f"more than {MAX_REFUSED} samples are refused, the first is {first.name}: {first.reason}")

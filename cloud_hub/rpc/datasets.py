"""Datasets: samples and their labels."""

from collections.abc import AsyncIterator
from functools import partial

from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Dataset, Sample
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import device_from_pb, page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_from_ms, opt_to_ms
from cloud_hub.services.datasets import CapturedSample, DatasetService, ImportReport, NewSample
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import datasets_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Datasets"]
MAX_REFUSED = 500  # told one by one; an import that goes wrong altogether must not outgrow a message
_GROUP_SAMPLES, _GROUP_BYTES = 64, 8 << 20  # one transaction of an import
_LABELLED = {
    pb.ListSamplesRequest.LABELLED_UNSPECIFIED: None,
    pb.ListSamplesRequest.LABELLED_YES: True,
    pb.ListSamplesRequest.LABELLED_NO: False,
}


class DatasetsServicer:
    def __init__(self, datasets: DatasetService, threads: Threads) -> None:
        self._datasets = datasets
        self._threads = threads

    async def CreateDataset(self, request: pb.CreateDatasetRequest, call: Call) -> pb.Dataset:
        dataset = await self._threads.call(self._datasets.create, call.who, request.name, tuple(request.labels))
        return dataset_to_pb(dataset)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, call: Call) -> pb.ListDatasetsReply:
        return pb.ListDatasetsReply(datasets=map(dataset_to_pb, await self._threads.call(self._datasets.list, call.who)))

    async def ImportSamples(self, requests: AsyncIterator[pb.ImportSample], call: Call) -> pb.ImportReply:
        reply = pb.ImportReply()
        async for group in _groups(requests):
            add_report(reply, await self._threads.call(self._datasets.import_samples, call.who, group))
        return reply

    async def UploadSample(self, request: pb.UploadSampleRequest, call: Call) -> pb.UploadSampleReply:
        sample_id, duplicate = await self._threads.call(self._datasets.upload, call.who, captured_from_pb(request))
        return pb.UploadSampleReply(sample_id=sample_id, duplicate=duplicate)

    async def ListSamples(self, request: pb.ListSamplesRequest, call: Call) -> pb.ListSamplesReply:
        labelled, device = _LABELLED.get(request.labelled), device_from_pb(request.device_id)
        page = page_from_pb(request.page_size, request.page_token)
        find = partial(self._datasets.list_samples, call.who, request.dataset, labelled, device, page)
        samples, following = await self._threads.call(find)
        return pb.ListSamplesReply(samples=map(sample_to_pb, samples), next_page_token=following)

    async def GetSample(self, request: pb.GetSampleRequest, call: Call) -> pb.SampleContent:
        sample, image = await self._threads.call(self._datasets.get_sample, call.who, request.id)
        return pb.SampleContent(sample=sample_to_pb(sample), image=image)

    async def LabelSamples(self, request: pb.LabelSamplesRequest, call: Call) -> pb.LabelSamplesReply:
        labels = [(label.sample_id, label.label) for label in request.labels]
        return pb.LabelSamplesReply(labelled=await self._threads.call(self._datasets.label, call.who, labels))


async def _groups(requests: AsyncIterator[pb.ImportSample]) -> AsyncIterator[list[NewSample]]:
    """Groups small enough for memory and for one transaction."""
    group: list[NewSample] = []
    size = 0
    async for request in requests:
        group.append(new_sample_from_pb(request))
        size += len(request.image)
        if len(group) >= _GROUP_SAMPLES or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def add_report(reply: pb.ImportReply, report: ImportReport) -> None:
    reply.added += report.added
    reply.duplicates += report.duplicates
    for name, reason in report.refused:
        reply.refused.add(name=name, reason=reason)
        if len(reply.refused) > MAX_REFUSED:
            raise Invalid(f"more than {MAX_REFUSED} images are refused, the first is {name}: {reason}")


def new_sample_from_pb(request: pb.ImportSample) -> NewSample:
    return NewSample(
        dataset=request.dataset,
        image=request.image,
        label=request.label or None,
        source=request.source,
        split=request.split,
        name=request.name,
    )


def captured_from_pb(request: pb.UploadSampleRequest) -> CapturedSample:
    return CapturedSample(
        digest=ids.digest(request.digest),
        image=request.image,
        captured_at=opt_from_ms(request.captured_at_ms),
        source=request.source,
        name=request.name,
        reason=request.reason,
        model_manifest=ids.digest(request.model_manifest),
        predicted=request.predicted,
        confidence=request.confidence,
    )


def dataset_to_pb(dataset: Dataset) -> pb.Dataset:
    return pb.Dataset(
        name=dataset.name,
        labels=dataset.labels,
        samples=dataset.samples,
        labelled=dataset.labelled,
        created_at_ms=to_ms(dataset.created_at),
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
    )

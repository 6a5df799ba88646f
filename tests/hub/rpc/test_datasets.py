"""Samples over the wire: imports in a stream, captures from devices."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from PIL import Image

from edge_agent.core.model import Content, Observation, Prediction
from edge_agent.decide.capture import make_capture
from edge_agent.infer.inputs import decode_content, encode_content
from edge_agent.sync.hub import _upload_request
from protos.contract import ids
from protos.contract.codec.message import enum
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window
from protos.v1 import datasets_pb2 as pb
from protos.v1 import datasets_pb2_grpc
from tests.hub.rpc.running import ADMIN, RunningHub


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def admin(hub: RunningHub) -> Iterator[datasets_pb2_grpc.DatasetsStub]:
    with hub.channel(hub.user) as channel:
        yield datasets_pb2_grpc.DatasetsStub(channel)


def test_an_import_is_taken_in_groups_as_it_comes(
    hub: RunningHub, admin: datasets_pb2_grpc.DatasetsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = hub.services.datasets.import_samples

    def counted(who: object, items: list[object]) -> object:
        groups.append(len(items))
        return real(who, items)  # type: ignore[arg-type]

    monkeypatch.setattr(hub.services.datasets, "import_samples", counted)
    admin.CreateDataset(pb.CreateDatasetRequest(name="streamed", labels=["cat", "dog"]))
    samples = (pb.ImportSample(dataset="streamed", content=png(i), label="cat", name=f"{i}.png") for i in range(100))
    reply = admin.ImportSamples(samples)
    assert (reply.added, reply.duplicates, len(reply.refused)) == (100, 0, 0)
    assert sum(groups) == 100 and max(groups) <= 64


def test_an_import_in_which_nearly_all_is_wrong_ends_early(admin: datasets_pb2_grpc.DatasetsStub) -> None:
    admin.CreateDataset(pb.CreateDatasetRequest(name="hopeless", labels=["cat", "dog"]))
    with pytest.raises(grpc.RpcError) as refused:
        admin.ImportSamples(pb.ImportSample(dataset="hopeless", content=b"no", name=f"{i}.png") for i in range(2000))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 500 samples are refused, the first is" in refused.value.details()


KEPT: dict[str, Content] = {
    "row": {"age": 41.0, "job": "clerk", "tags": ("a", "b")},
    "window": Window(channels=("rpm", "speed"), values=np.arange(24, dtype=np.float32).reshape(12, 2)),
    "text": "you have won \u20ac 100",
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_a_device_keeps_of_any_kind_is_what_the_data_set_holds(
    hub: RunningHub, admin: datasets_pb2_grpc.DatasetsStub, kind: str
) -> None:
    """From the agent's own encoder through its own request to what a job reads."""
    content, sampled = KEPT[kind], SampleKind[kind.upper()]
    identity, version = hub.device(f"keeps-{kind}"), hub.publish(f"keeps-{kind}")
    admin.CreateDataset(pb.CreateDatasetRequest(name=f"kept-{kind}", labels=["ham", "spam"], kind=enum(sampled)))
    hub.services.training.put_spec(ADMIN, f"name: keeps-{kind}\ndata: {{dataset: kept-{kind}}}\n")
    seen = Observation(content=content, captured_at=datetime(2026, 1, 1, tzinfo=UTC), source="s", name="file#3\n")
    model = version.variants[0].manifest_digest
    capture = make_capture(seen, Prediction(label=1, confidence=0.5, latency_ms=1.0), "control", model, ("ham", "spam"))
    with hub.channel(identity) as channel:
        told = datasets_pb2_grpc.DatasetsStub(channel).UploadSample(_upload_request(capture))
    kept = admin.GetSample(pb.GetSampleRequest(id=told.sample_id))
    assert (kept.sample.dataset, kept.sample.name, kept.sample.predicted) == (f"kept-{kind}", "file#3?", "spam")
    assert kept.content == encode_content(content)
    assert encode_content(decode_content(kept.content, sampled)) == kept.content
    join = pb.JoinLabelsRequest(dataset=f"kept-{kind}", tolerance_ms=1 << 62)
    with pytest.raises(grpc.RpcError) as refused:
        admin.JoinLabels(join)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_device_hands_a_frame_over_once(hub: RunningHub, admin: datasets_pb2_grpc.DatasetsStub) -> None:
    identity, version = hub.device("cam-upload"), hub.publish("seen")
    admin.CreateDataset(pb.CreateDatasetRequest(name="seen-data", labels=["cat", "dog"]))
    hub.services.training.put_spec(ADMIN, "name: seen\ndata: {dataset: seen-data}\n")
    image = png(7)
    request = pb.UploadSampleRequest(
        digest=ids.digest_of(image),
        content=image,
        captured_at_ms=1_700_000_000_000,
        source="north",
        name="7.png",
        reason="uncertain",
        model_manifest=version.variants[0].manifest_digest,
        predicted="dog",
        confidence=0.4,
    )
    with hub.channel(identity) as channel:
        device = datasets_pb2_grpc.DatasetsStub(channel)
        first, again = device.UploadSample(request), device.UploadSample(request)
        assert (first.duplicate, again.duplicate) == (False, True) and first.sample_id == again.sample_id
        request.digest = ids.digest_of(b"another image")
        with pytest.raises(grpc.RpcError) as refused:
            device.UploadSample(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    content = admin.GetSample(pb.GetSampleRequest(id=first.sample_id))
    assert content.content == image
    assert (content.sample.device_id, content.sample.label, content.sample.predicted) == ("cam-upload", "", "dog")
    unlabelled = pb.ListSamplesRequest(dataset="seen-data", labelled=pb.ListSamplesRequest.LABELLED_NO, device_id="cam-upload")
    assert [sample.id for sample in admin.ListSamples(unlabelled).samples] == [first.sample_id]
    admin.LabelSamples(pb.LabelSamplesRequest(labels=[pb.LabelSamplesRequest.Label(sample_id=first.sample_id, label="cat")]))
    assert not admin.ListSamples(unlabelled).samples

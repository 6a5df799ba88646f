"""A network to measure with: the pipeline's own architecture, random weights."""

import io
import os
import tempfile
import warnings
from pathlib import Path

import torch

from cloud_hub.pipeline.tasks.image_classification import NetworkSpec
from cloud_hub.pipeline.tasks.image_classification.network import build
from protos.contract.ids import ModelName, digest_of
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification

CLASSES = 12


def onnx_network(*, side: int, width: int) -> bytes:
    """Float32 ONNX file of an untrained network, ``(1, 3, side, side)`` -> ``(1, 12)``."""
    spec = NetworkSpec(width=width, stages=3, convs=1, epochs=1)
    network = build(spec, channels=3, side=side, classes=CLASSES, seed=0).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: "batch"},),
            opset_version=18,
            verbose=False,
        )
    assert program is not None
    program.save(buffer)
    return buffer.getvalue()


def tflite_network(*, side: int, width: int) -> bytes:
    """The same as TensorFlow Lite, ``(1, side, side, 3)`` -> ``(1, 12)``."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "0")  # read at import
    import litert_torch

    network = build(
        NetworkSpec(width=width, stages=3, convs=1, epochs=1), channels=3, side=side, classes=CLASSES, seed=0
    ).eval()
    turned = litert_torch.to_channel_last_io(network, args=[0]).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        litert_torch.convert(turned, (torch.zeros(1, side, side, 3),)).export(str(path))
        return path.read_bytes()


def manifest_for(
    model: bytes, *, side: int, golden: bytes = b"-", format: Format = Format.ONNX, layout: Layout = Layout.NCHW
) -> Manifest:
    return Manifest(
        name=ModelName("bench"),
        version=1,
        task="image-classification",
        artifact=Blob(digest=digest_of(model), size_bytes=len(model)),
        format=format,
        precision=Precision.FP32,
        input=ImageInput(width=side, height=side, channels=3, layout=layout, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        output=Classification(labels=tuple(f"class-{i}" for i in range(CLASSES))),
        golden=GoldenRef(blob=Blob(digest=digest_of(golden), size_bytes=len(golden)), tolerance=1e-3),
    )

"""A model of any kind goes the whole way: files, jailed canary, golden run, prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.core.errors import BadFrame, BadModel, Unfit
from edge_agent.infer import canary, golden
from edge_agent.infer.inputs import encode_content
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import load
from protos.contract import codec
from protos.contract.errors import InvalidValue
from protos.contract.manifest import Format
from protos.contract.outputs import Detection, Ranking, Reconstruction, Values
from tests.agent.kinds import KINDS, Kind, dense

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@every_kind
def test_it_is_tried_in_the_jail_and_agrees_with_where_it_was_verified(kind: Kind, tmp_path: Path) -> None:
    files = kind.files()
    assert codec.encode_manifest(codec.decode_manifest(files.manifest_bytes)) == files.manifest_bytes
    fit = canary.try_model(*files.write(tmp_path), timeout_s=30.0)
    assert fit.agreement == 1.0 and fit.error < 1.0


@every_kind
def test_its_answers_are_whole(kind: Kind) -> None:
    files = kind.files()
    model = Model(files.manifest, load(Format.ONNX, files.model))
    for content in kind.contents:
        said = model.predict(content)
        assert 0 <= said.label < len(model.labels) and 0 <= said.confidence <= 1
        assert (said.value is not None) == isinstance(kind.output, Values | Reconstruction | Detection)
        assert len(said.ranked) == (kind.output.top if isinstance(kind.output, Ranking) else 0)
        assert len(said.values) == (kind.output.size if isinstance(kind.output, Values) else 0)
        assert said.value == len(said.boxes) or not isinstance(kind.output, Detection)


@every_kind
def test_other_weights_are_told_by_the_golden_set(kind: Kind) -> None:
    files = kind.files()
    other = load(Format.ONNX, dense(kind.input.shape, kind.output.size, seed=8))
    with pytest.raises(Unfit):
        golden.check(other, files.manifest, files.golden)


@every_kind
def test_a_sample_of_another_kind_is_a_bad_frame(kind: Kind) -> None:
    model = Model(kind.files().manifest, load(Format.ONNX, kind.files().model))
    for other in KINDS.values():
        if other.input.kind is not kind.input.kind:
            with pytest.raises(BadFrame, match=f"takes a {kind.input.kind.name.lower()}, not a"):
                model.predict(other.contents[0])


def test_a_golden_set_of_another_kind_or_of_damaged_samples_is_refused() -> None:
    rows, windows = KINDS["rows"].files(), KINDS["anomalies"].files()
    runtime = load(Format.ONNX, rows.model)
    for samples in (windows.golden.samples, (b"{", *rows.golden.samples[1:])):
        with pytest.raises(BadModel, match="golden set: "):
            golden.check(runtime, rows.manifest, replace(rows.golden, samples=samples))
    pictures = KINDS["detections"].files()
    with pytest.raises(BadModel, match="does not hold what the manifest's input takes: row"):
        golden.check(runtime, rows.manifest, replace(pictures.golden, size=2, outputs=bytes(8 * pictures.golden.count)))


def test_a_golden_row_that_the_model_cannot_take_is_refused() -> None:
    files = KINDS["rows"].files()
    samples = (b'{"age": {}}', *files.golden.samples[1:])
    with pytest.raises(BadModel, match="'age' must hold a finite number"):
        golden.check(load(Format.ONNX, files.model), files.manifest, replace(files.golden, samples=samples))


def test_an_autoencoder_of_another_size_than_its_input_is_no_manifest() -> None:
    manifest = KINDS["anomalies"].files().manifest
    with pytest.raises(InvalidValue, match="a reconstruction of 23 values"):
        replace(manifest, output=Reconstruction(values=23, threshold=1.0))


def test_pictures_have_no_encoding_of_their_own() -> None:
    with pytest.raises(InvalidValue):
        encode_content(np.zeros((2, 2, 3), np.uint8))

"""Whatever a model file does, it does it to the canary."""

import random
from pathlib import Path

import pytest

from edge_agent.core.errors import BadModel, Unfit
from edge_agent.infer.canary import try_model
from protos.contract.manifest import Format
from tests.agent.models import bundle, files, onnx_model, tflite_model

TIMEOUT_S = 60.0


@pytest.mark.parametrize(
    ("format", "runtime"),
    [(Format.ONNX, None), (Format.TFLITE, None), (Format.TFLITE, "tflite"), (Format.TFLITE, "tflite-legacy")],
)
def test_an_honest_model_passes_and_is_timed(format: Format, runtime: str | None, tmp_path: Path) -> None:
    result = try_model(*files(format).write(tmp_path), TIMEOUT_S, runtime=runtime)
    assert result.error < 1 and result.agreement == 1
    assert 0 < result.p50_ms <= result.p95_ms
    assert 20 << 20 < result.peak_bytes < 1 << 30, "an interpreter with a runtime, and no more"


def test_several_threads_fit_into_the_limits(tmp_path: Path) -> None:
    assert try_model(*files().write(tmp_path), TIMEOUT_S, threads=8).error < 1


def test_a_runtime_that_crashes_takes_only_the_canary_with_it(tmp_path: Path) -> None:
    """tflite-runtime reads beyond the end of most truncated files."""
    refusals = []
    for length in (261, 310, 359, 506):
        model = files(Format.TFLITE, model=tflite_model()[:length])
        with pytest.raises(BadModel) as refused:
            try_model(*model.write(tmp_path), TIMEOUT_S, runtime="tflite-legacy")
        refusals.append(str(refused.value))
    assert any("died with signal 11 (SIGSEGV)" in refusal for refusal in refusals)


def test_a_file_that_asks_for_all_memory_is_stopped(tmp_path: Path) -> None:
    """This one made an unlimited tflite-runtime take 23 GB."""
    model = files(Format.TFLITE, model=tflite_model()[:653])
    with pytest.raises(BadModel):
        try_model(*model.write(tmp_path), TIMEOUT_S, runtime="tflite-legacy")


@pytest.mark.parametrize(
    ("format", "runtime"), [(Format.ONNX, None), (Format.TFLITE, "tflite"), (Format.TFLITE, "tflite-legacy")]
)
def test_mutated_models_are_refused(format: Format, runtime: str | None, tmp_path: Path) -> None:
    rng = random.Random(7)
    honest = onnx_model() if format is Format.ONNX else tflite_model()
    for _ in range(5):
        mutant = bytearray(honest)
        for _ in range(60):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        with pytest.raises(BadModel):
            try_model(*files(format, model=bytes(mutant)).write(tmp_path), TIMEOUT_S, runtime=runtime)


def test_bytes_that_are_not_the_manifests_are_not_even_loaded(tmp_path: Path) -> None:
    manifest, model, golden = files().write(tmp_path)
    honest = model.read_bytes()
    model.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    with pytest.raises(BadModel, match=r"model.bin is not sha256:"):
        try_model(manifest, model, golden, TIMEOUT_S)
    model.write_bytes(honest)
    golden.write_bytes(golden.read_bytes()[:-1])
    with pytest.raises(BadModel, match=r"golden.pb is not sha256:"):
        try_model(manifest, model, golden, TIMEOUT_S)


def test_a_manifest_that_is_none_or_missing_is_refused(tmp_path: Path) -> None:
    manifest, model, golden = files().write(tmp_path)
    manifest.write_bytes(b"\xff\xff\xff")
    with pytest.raises(BadModel, match="manifest"):
        try_model(manifest, model, golden, TIMEOUT_S)
    manifest.unlink()
    with pytest.raises(BadModel, match=r"manifest.pb: No such file"):
        try_model(manifest, model, golden, TIMEOUT_S)


def test_a_model_whose_answers_are_wrong_is_refused_with_the_reason(tmp_path: Path) -> None:
    wrong = bundle(onnx_model(seed=5), Format.ONNX, files().golden)
    with pytest.raises(Unfit, match="golden outputs are off by") as refused:
        try_model(*wrong.write(tmp_path), TIMEOUT_S)
    assert refused.value.fit.error > 1 and refused.value.fit.peak_bytes > 20 << 20


def test_a_model_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"model.bin: loading and the golden run took longer than 0.01 s"):
        try_model(*files().write(tmp_path), 0.01)


def test_the_canary_sees_none_of_the_agents_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spoiled variable would stop Python itself from starting."""
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("PYTHONIOENCODING", "no-such-encoding")
    assert try_model(*files().write(tmp_path), TIMEOUT_S).error < 1

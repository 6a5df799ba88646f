"""Which file of a version a board gets."""

from dataclasses import replace

import pytest

import firmware_images
from cloud_hub.core.errors import NotReady
from cloud_hub.core.model import Baseline, MeasuredFit, ModelVersion, Variant
from cloud_hub.core.variants import choose, standings
from protos.contract.ids import digest_of, model_name
from tests.hub.fleet_parts import START

X86 = firmware_images.board("camera-x86")  # onnx before tflite


def version(*targets: str, fits: tuple[MeasuredFit, ...] = ()) -> ModelVersion:
    variants = tuple(
        Variant(
            target=target,
            manifest_digest=digest_of(target.encode()),
            manifest_size_bytes=1,
            artifact_digest=digest_of(b"a"),
            artifact_size_bytes=1000,
            golden_digest=digest_of(b"g"),
            score=0.9,
            metric="accuracy",
            latency_p50_ms=1.0,
            output_error=0.01,
        )
        for target in targets
    )
    baseline = Baseline(labels=("a", "b"), label_share=(0.5, 0.5), confidence_share=(1.0,), confidence_mean=1.0, samples=1)
    return ModelVersion(
        name=model_name("signs"), version=3, task="t", variants=variants, baseline=baseline, report={}, job_id="",
        created_at=START, fits=fits,
    )  # fmt: skip


def fit(target: str, p50_ms: float, *, board: str = "camera-x86", error: float = 0.5) -> MeasuredFit:
    return MeasuredFit(
        target=target, board=board, devices=1, p50_ms=p50_ms, p95_ms=2 * p50_ms, peak_bytes=1, error=error, agreement=1.0
    )


def test_what_is_declared_holds_as_long_as_nothing_was_measured() -> None:
    assert choose(version("onnx-fp32", "tflite-int8", "onnx-int8"), X86).target == "onnx-int8"


def test_int8_that_is_slower_than_fp32_on_a_board_is_passed_over_there_and_nowhere_else() -> None:
    measured = version("onnx-int8", "onnx-fp32", fits=(fit("onnx-int8", 8.7), fit("onnx-fp32", 1.6)))
    assert choose(measured, X86).target == "onnx-fp32"
    assert choose(measured, firmware_images.board("vehicle-arm64")).target == "onnx-int8"
    first, *_ = standings(measured, X86)
    assert (first.target, first.passed_over) == ("onnx-int8", "slower there: p50 8.7 ms, onnx-fp32 takes 1.6 ms")
    assert first.measured == fit("onnx-int8", 8.7)


def test_a_measured_variant_is_not_passed_over_for_one_that_nobody_has_measured_or_for_noise() -> None:
    assert choose(version("onnx-int8", "onnx-fp32", fits=(fit("onnx-int8", 900.0),)), X86).target == "onnx-int8"
    close = version("onnx-int8", "onnx-fp32", fits=(fit("onnx-int8", 1.05), fit("onnx-fp32", 1.0)))
    assert choose(close, X86).target == "onnx-int8"


def test_a_variant_whose_outputs_are_off_on_a_board_is_passed_over_however_fast_it_is() -> None:
    measured = version("onnx-int8", "onnx-fp32", fits=(fit("onnx-int8", 0.1, error=7.25), fit("onnx-fp32", 5.0)))
    assert choose(measured, X86).target == "onnx-fp32"
    assert standings(measured, X86)[0].passed_over == "its outputs there are off by 7.25 times what is tolerated"


def test_measurements_never_take_the_last_variant_away() -> None:
    """A device that lies must not keep a version from every other one of its board."""
    assert choose(version("onnx-int8", fits=(fit("onnx-int8", 1.0, error=99.0),)), X86).target == "onnx-int8"
    both = (fit("onnx-int8", 1.0, error=99.0), fit("onnx-fp32", 1.0, error=99.0))
    assert choose(version("onnx-int8", "onnx-fp32", fits=both), X86).target == "onnx-int8"


def test_what_a_board_cannot_run_is_no_alternative_however_fast() -> None:
    fast = version("onnx-int8", "onnx-fp32", fits=(fit("onnx-int8", 9.0), fit("onnx-fp32", 1.0)))
    other = replace(fast, variants=(fast.variants[0], replace(fast.variants[1], boards=("vehicle-arm64",))))
    assert choose(other, X86).target == "onnx-int8"
    with pytest.raises(NotReady, match="onnx-int8: not published"):
        choose(version("tflite-fp32"), X86, ("onnx",))


def test_each_target_says_why_it_is_not_the_one() -> None:
    found = {one.target: one.passed_over for one in standings(version("onnx-int8", "onnx-fp32"), X86)}
    assert found == {
        "onnx-int8": "",
        "tflite-int8": "not published",
        "onnx-fp32": "onnx-int8 comes first",
        "tflite-fp32": "not published",
    }

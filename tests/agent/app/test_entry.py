"""What starting costs, and what the command line says."""

import errno
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edge_agent.app import cli
from edge_agent.core import config, layers

HEAVY = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "grpc", "paho", "cv2", "torch", "sqlalchemy", "PIL", "cryptography",
         "numpy", "google"}  # fmt: skip
NOT_BEFORE_THE_FIRST_INFERENCE = {"grpc", "paho", "cryptography", "cv2", "torch", "sqlalchemy", "onnxruntime"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("edge_agent.app.cli", HEAVY), ("edge_agent.app.bootstrap", NOT_BEFORE_THE_FIRST_INFERENCE)],
)
def test_entry_points_import_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(out.stdout.split())


@pytest.fixture(autouse=True)
def undisturbed_process() -> Iterator[None]:
    """``run`` takes over signals and logging, as a process of its own may."""
    root, numbers = logging.getLogger(), (signal.SIGTERM, signal.SIGINT)
    handlers, level, before = root.handlers[:], root.level, [signal.getsignal(number) for number in numbers]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def agent(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert agent("version") == cli.OK
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.yaml").write_text("source: {knid: folder}")
    assert agent("run", "--config", str(tmp_path / "agent.yaml")) == cli.USAGE
    said = capsys.readouterr().err
    assert "'source.knid'" in said and "did you mean 'kind'?" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: {kind: radar}", "source.kind must be"),
        ("log_level: LOUD", "'log_level' must be"),
        ("data_dir: /proc/nowhere", "data_dir /proc/nowhere cannot be used"),
        ("source: {kind: folder}", "source.path must name"),
        ("streams: {raw: some}", "'streams.raw' must be one of all, uncertain, none, got 'some'"),
        ("streams: {specs: /nowhere/streams.yaml}", "'streams.specs': cannot read /nowhere/streams.yaml"),
        (": [", "is not YAML"),
    ],
)
def test_an_unusable_configuration_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "agent.yaml").write_text(f"data_dir: {tmp_path}/data\n{text}" if "data_dir" not in text else text)
    assert agent("run", "--config", str(tmp_path / "agent.yaml")) == cli.USAGE
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_a_full_disk_is_no_wrong_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is not started again after a wrong one."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "agent.yaml").write_text("source: {kind: none}")
    monkeypatch.setattr(Path, "mkdir", full)
    assert agent("run", "--config", str(tmp_path / "agent.yaml"), "--data-dir", str(tmp_path / "d")) == cli.FAILED


def test_a_missing_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent("run", "--config", str(tmp_path / "none.yaml")) == cli.USAGE
    assert "none.yaml" in capsys.readouterr().err


def test_frames_are_not_waited_for_where_none_can_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.yaml").write_text("source: {kind: none}")
    done = agent("run", "--config", str(tmp_path / "agent.yaml"), "--data-dir", str(tmp_path / "d"), "--max-frames", "3")
    assert done == cli.FAILED
    assert "enroll first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("run", "--max-frames", "0"), ("enroll",), ("enroll", "--ticket", "t", "--wait", "-1")]
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        agent(*arguments)
    assert ended.value.code == cli.USAGE


def test_a_file_that_is_no_ticket_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ticket").write_text("{}")
    assert agent("enroll", "--ticket", str(tmp_path / "ticket"), "--data-dir", str(tmp_path)) == cli.USAGE
    assert "ticket" in capsys.readouterr().err


def test_status_without_an_agent_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent("status", "--data-dir", str(tmp_path)) == cli.FAILED
    assert "edge-agent run" in capsys.readouterr().err


def test_status_of_an_agent_that_was_killed_is_not_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    health = {
        "inferences": 7, "inference_errors": 1, "latency_p50_ms": 1.0, "latency_p95_ms": 2.0, "spool_records": 3,
        "spool_bytes": 2048, "dropped_records": 0, "captures_pending": 1, "rss_bytes": 1 << 26, "disk_free_bytes": 1 << 30,
    }  # fmt: skip
    update = {"model": {"name": "street", "version": 2}, "state": "rolled_back", "reason": "too slow"}
    status = {
        "state": "running", "pid": 2**22 + 5, "note": "", "at": "2025-01-01T00:00:00+00:00", "device": "cam-1",
        "broker_connected": False, "model": {"name": "street", "version": 1}, "update": update, "health": health,
        "runtimes": ["onnx"], "agent_version": "1.0",
    }  # fmt: skip
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert agent("status", "--data-dir", str(tmp_path)) == cli.OK
    table = capsys.readouterr().out
    assert "not running" in table and "street:2 rolled_back: too slow" in table and "7 (1 failed)" in table
    for days, problem, words in (
        (88.6, "", "expires 2026-03-01, 89 days left"),
        (-3.0, "revoked", "EXPIRED 2026-03-01; revoked"),
    ):
        certificate = {"expires_at": "2026-03-01", "days_left": days, "problem": problem}
        (tmp_path / "status.json").write_text(json.dumps({**status, "certificate": certificate}))
        assert agent("status", "--data-dir", str(tmp_path)) == cli.OK
        assert words in capsys.readouterr().out
    assert agent("status", "--data-dir", str(tmp_path), "--output", "json") == cli.OK
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_the_example_configuration_can_be_used_and_its_comments_show_the_defaults() -> None:
    example = Path(__file__).resolve().parents[3] / "deploy" / "agent.yaml"
    assert config.load(example, {}).source.kind == "camera"
    shown = re.sub(r"^(\s+)# (\w+: )", r"\1\2", example.read_text(), flags=re.MULTILINE)
    values = yaml.safe_load(shown)
    camera = config.SourceConfig(kind="camera", path="/dev/video0")
    assert layers.build(config.AgentConfig, values) == config.AgentConfig(source=camera)

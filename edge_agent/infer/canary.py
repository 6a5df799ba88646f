"""The first load of a model file happens in a process of its own, because a corrupt one can take its process down.

Parent and child are both here: ``try_model`` starts ``python -m edge_agent.infer.canary`` and reads its one line of JSON.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from edge_agent.core.errors import BadModel
from edge_agent.infer import golden
from edge_agent.infer.golden import GoldenResult
from edge_agent.infer.runtimes import load_verified, read_verified
from protos.contract import codec
from protos.contract.errors import InvalidMessage
from protos.contract.twin import MAX_MANIFEST_BYTES

_MEMORY_BYTES = 512 << 20  # and per byte of model:
_MEMORY_PER_BYTE = 8  # measured: 4 copies at the peak of loading
_RESERVED_BYTES = 1 << 30  # address space that runtimes map and never touch
_ERROR_TAIL = 300  # characters of the child's last words kept in a message
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "TMPDIR")


def try_model(
    manifest_path: Path,
    model_path: Path,
    golden_path: Path,
    timeout_s: float,
    *,
    threads: int = 1,
    runtime: str | None = None,
) -> GoldenResult:
    """Load the model and check its golden set in a child process; this process survives whatever the file does.

    The child checks both files against the digests in the manifest, whose own digest is the caller's to check. It has a minimal
    environment, no standard input, and limits on memory and CPU time; it can write no file.

    Raises:
        BadModel: it died, took longer than ``timeout_s``, or did not do what its manifest says.
    """
    command = [
        sys.executable,
        "-P",
        "-B",
        "-m",
        "edge_agent.infer.canary",
        str(manifest_path),
        str(model_path),
        str(golden_path),
    ]
    command += [str(timeout_s), str(threads), runtime or ""]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env=_environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadModel(f"{model_path.name}: loading and the golden run took longer than {timeout_s:g} s") from error
    if done.returncode < 0:
        raise BadModel(f"{model_path.name}: the runtime died with signal {-done.returncode} ({_signal_name(-done.returncode)})")
    if done.returncode > 0:
        raise BadModel(f"{model_path.name}: the trial process failed with status {done.returncode}: {_tail(done.stderr)}")
    return _result(done.stdout, model_path)


def main(arguments: list[str]) -> NoReturn:
    """The child. Prints a GoldenResult, or ``{"refused": why}``, as JSON."""
    # Runtimes print banners: only the answer may reach the pipe.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        paths = [Path(text) for text in arguments[:3]]
        result = asdict(_try_here(paths, float(arguments[3]), int(arguments[4]), arguments[5] or None))
    except (BadModel, InvalidMessage) as error:
        result = {"refused": str(error)}
    except OSError as error:
        result = {"refused": f"cannot read {error.filename}: {error.strerror}"}
    json.dump(result, answer)
    answer.flush()
    os._exit(0)  # a runtime that was fed hostile bytes must not get to run its destructors


def _try_here(paths: Sequence[Path], timeout_s: float, threads: int, runtime: str | None) -> GoldenResult:
    manifest_path, model_path, golden_path = paths
    with manifest_path.open("rb") as file:
        manifest = codec.decode_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    _limit(timeout_s, threads, manifest.artifact.size_bytes)
    expected = codec.decode_golden(read_verified(manifest.golden.blob, golden_path))
    return golden.check(load_verified(manifest, model_path, threads, runtime), manifest, expected)


def _limit(timeout_s: float, threads: int, model_bytes: int) -> None:
    """Truncated files make tflite-runtime allocate without end: it must be stopped before the device runs out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # should memory still run out, this process goes first
    signal.alarm(int(timeout_s) + 2)  # should the parent die, this process does not outlive it for long
    memory = _MEMORY_BYTES + _MEMORY_PER_BYTE * model_bytes
    cpu_s = int(timeout_s * max(1, threads)) + 1
    _lower(resource.RLIMIT_DATA, memory)
    _lower(resource.RLIMIT_AS, memory + _RESERVED_BYTES)
    _lower(resource.RLIMIT_CPU, cpu_s)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _result(stdout: bytes, model_path: Path) -> GoldenResult:
    try:
        answer = json.loads(stdout)
        if "refused" in answer:
            raise BadModel(str(answer["refused"]))
        return GoldenResult(**answer)
    except (ValueError, TypeError) as error:
        raise BadModel(f"{model_path.name}: the trial process gave no answer: {_tail(stdout)}") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _tail(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()[-_ERROR_TAIL:] or "no output"


if __name__ == "__main__":
    main(sys.argv[1:])

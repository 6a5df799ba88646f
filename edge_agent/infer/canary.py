"""The first load of a model file, and the proof that it does here what it did when it was verified."""

import time
from pathlib import Path

from edge_agent.core.errors import BadModel, Unfit
from edge_agent.infer import golden
from edge_agent.infer.life import Died, Life, Limits
from edge_agent.infer.process import Process
from edge_agent.infer.runtimes import read_verified
from protos.contract import codec
from protos.contract.errors import InvalidMessage
from protos.contract.manifest import GoldenSet, Manifest
from protos.contract.twin import MAX_MANIFEST_BYTES, Fit


def try_model(
    manifest_path: Path,
    model_path: Path,
    golden_path: Path,
    timeout_s: float,
    *,
    threads: int = 1,
    runtime: str | None = None,
) -> Fit:
    """Load the model in a jailed worker and run its golden set there; this process survives whatever the file does.

    What it says of itself is believed as far as it can be seen from here: see ``timing``. Its memory is the kernel's word.

    Both files are checked against the digests in the manifest, whose own digest is the caller's to check. The worker never sees
    what it is expected to answer.

    Raises:
        Unfit: it answers otherwise than it did when it was verified.
        BadModel: it died, took longer than ``timeout_s``, or did not do what its manifest says.
    """
    try:
        manifest = _manifest(manifest_path)
        expected = codec.decode_golden(read_verified(manifest.golden.blob, golden_path))
    except InvalidMessage as error:
        raise BadModel(str(error)) from error
    end = time.monotonic() + timeout_s
    try:
        return _try(manifest, model_path, expected, timeout_s, threads, runtime)
    except Unfit:
        raise
    except (BadModel, Died) as error:
        if time.monotonic() >= end:
            raise BadModel(f"{model_path.name}: loading and the golden run took longer than {timeout_s:g} s") from error
        raise BadModel(str(error) if isinstance(error, BadModel) else f"{model_path.name}: {error}") from error
    except OSError as error:
        raise BadModel(f"{model_path.name}: no room for a worker: {error.strerror}") from error


def _try(manifest: Manifest, model_path: Path, expected: GoldenSet, timeout_s: float, threads: int, runtime: str | None) -> Fit:
    model = read_verified(manifest.artifact, model_path)
    limits = Limits(start_s=timeout_s, all_s=timeout_s)
    life = Life(Process(), manifest, model, threads=threads, runtime=runtime, limits=limits)
    try:
        return golden.check(life, manifest, expected, peak_bytes=life.peak_bytes)
    finally:
        life.close()


def _manifest(path: Path) -> Manifest:
    try:
        with path.open("rb") as file:
            return codec.decode_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}") from error

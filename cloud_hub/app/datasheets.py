"""Makes datasheets, each in a process of its own: ``python -m cloud_hub.app.datasheets --artifacts DIR``, what a version lists
on stdin, the document on stdout. Decoding and drawing thousands of samples must not take the hub's memory or its time."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_hub.core.errors import HubError, Invalid, Unavailable
from cloud_hub.services.dataset_versions import decode_manifest
from cloud_hub.store.artifacts import ArtifactStore

if TYPE_CHECKING:
    from cloud_hub.pipeline.datasheet import Sheet

_TIMEOUT_S = 600.0
_NICE = 10
_EXIT_REFUSED = 4
_COMMAND = (sys.executable, "-m", "cloud_hub.app.datasheets")


class DatasheetProcess:
    """A ``services.datasheets.Maker``."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts

    def __call__(self, manifest: bytes, *, json: bool) -> bytes:
        command = [*_COMMAND, "--artifacts", str(self._artifacts), *(["--json"] if json else [])]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "svg"}
        try:
            done = subprocess.run(command, input=manifest, capture_output=True, timeout=_TIMEOUT_S, env=quiet, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"the datasheet took more than {_TIMEOUT_S:g} s") from error
        if done.returncode == _EXIT_REFUSED:
            raise Invalid(done.stderr.decode("utf-8", "replace").strip()[-500:])
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"the datasheet's process ended with code {done.returncode}: {last}")
        return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="cloud_hub.app.datasheets", description=__doc__)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.nice(_NICE)
    from cloud_hub.pipeline.datasheet import make  # loads numpy and Pillow

    try:
        holding, samples = decode_manifest(sys.stdin.buffer.read())
        sheet = make(holding, samples, ArtifactStore(arguments.artifacts).read)
        document = sheet.json() if arguments.json else _page(sheet)
    except HubError as error:
        print(error, file=sys.stderr)
        sys.exit(_EXIT_REFUSED)
    sys.stdout.buffer.write(document.encode())


def _page(sheet: "Sheet") -> str:
    from cloud_hub.pipeline.sheets.page import draw  # loads matplotlib, which figures alone do not need

    return draw(sheet.facts, sheet.examples)


if __name__ == "__main__":
    main()

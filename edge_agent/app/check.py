"""What a bundle must be able to do before it is ever started: ``python -m edge_agent.app.check [--config FILE]``.

Imports every module of the agent on this board, and reads the device's configuration as the agent would. Opens, writes and
connects nothing. Prints one line of JSON; ends with 0, or with 1 and a reason on standard error. Agents of every version give
this command to newer bundles: its form stays.
"""

import argparse
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import edge_agent
from edge_agent.app.bootstrap import usable
from edge_agent.core import config, phone_home
from edge_agent.core.errors import AgentError

# Not every board has the library behind each of these; the configuration, or a model, asks for them by name.
OPTIONAL = frozenset({"edge_agent.infer.onnx", "edge_agent.infer.tflite", "edge_agent.sense.camera"})


def main(arguments: Sequence[str] | None = None) -> int:
    phone_home.forbid()
    parser = argparse.ArgumentParser(prog="edge_agent.app.check")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--overlay", type=Path, help="a configuration from the hub, over the device's own")
    asked = parser.parse_args(arguments)
    try:
        modules = _import_all()
        settings = config.load(asked.config, overlay=asked.overlay)
        if asked.overlay is not None:
            usable(settings)
    except (ImportError, SyntaxError, AgentError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    origin = os.fspath(Path(edge_agent.__file__))
    print(json.dumps({"version": version("tideline"), "origin": origin, "modules": modules}))
    return 0


def _import_all() -> int:
    """How many modules there are. Raises ImportError."""
    count = 0
    for found in pkgutil.walk_packages(edge_agent.__path__, "edge_agent."):
        try:
            importlib.import_module(found.name)
        except ImportError:
            if found.name not in OPTIONAL:
                raise
        count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())

"""``edge-agent-launcher``: starts the agent that is installed, or the bundle that has taken its place.

    edge-agent-launcher --app /var/lib/edge-agent/app run --config /etc/edge-agent/agent.yaml

It belongs to the image of the board, is never replaced by a bundle, and needs nothing that a bundle brings: what starts an
agent must not be able to break with it. A bundle on trial is started MAX_STARTS times at most; each start is counted on disk
before it is made, so that one which cannot even import, hangs, or takes the machine down has spent it. Then, offline too, the
bundle before it is started again, or what the board came with. A bundle that is no more what was installed is not started.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from edge_agent.core import launch

_USAGE = 2
_WORDS = 3  # --app DIR COMMAND


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Becomes the agent, in the same process: a service manager watches the agent itself. Ends with 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) < _WORDS or words[0] != "--app":
        launch.say("usage: edge-agent-launcher --app DIR COMMAND...")
        sys.exit(_USAGE)
    app = launch.App(Path(words[1]))
    program, env = launch.command(app, launch.choose(app), words[2:], os.environ)
    os.execve(program[0], program, env)


if __name__ == "__main__":
    main()

"""One run of everything, as a program of its own: hub and broker, an enrolled agent, a model out, telemetry in."""

import sys
from pathlib import Path

from tests.agent import models
from tests.e2e.system import System, wait_for


def main(folder: Path) -> None:
    system = System(folder)
    try:
        agent = system.agent("cam-1")
        agent.configure(update={"max_latency_ratio": 1e6})  # a busy machine is no reason to send the model back
        agent.start()
        version = system.publish(lambda number: models.files(version=number))
        system.roll_out(version, "cam-1")
        wait_for(lambda: system.runs("cam-1") == version.version, "the model on the device", 60)
        system.goes_on("cam-1")
        agent.stop()
        system.hub.stop()
    finally:
        system.close()
    sys.stdout.write("whole\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

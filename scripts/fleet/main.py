"""Drive many simulated devices against a running hub: ``scripts/simulate_fleet --devices 200 --admin hubctl.yaml``.

Each device enrols as a real one, holds an MQTT connection over mutual TLS, checks releases with the agent's own TUF client,
downloads over gRPC, and runs the agent's own update engine with its journal and slots. What is simulated: the inference, and
with it the golden run and the trial's vitals; the spool, which is memory; loss and latency of the link.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import grpc

from cloud_hub.app.hubctl.failure import Failure
from edge_agent.core.errors import AgentError
from scripts.fleet.admin import Admin
from scripts.fleet.conditions import Conditions, read_behaviours
from scripts.fleet.fleet import BOARD, THREADS, Fleet

MEMORY = Path("/dev/shm")
FILES = 16  # open in each device: its connection, its journal
EVERY_S = 5.0


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", stream=sys.stderr)
    _allow_files(FILES * options.devices + 500)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fleet-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        conditions = Conditions(
            seed=options.seed,
            loss=options.loss,
            latency_s=options.latency_ms / 1000,
            restart_every_s=options.restart_every,
            readings_per_s=options.readings,
            linger_s=options.linger,
            probation_s=options.probation,
            deltas=options.deltas,
            behaviours=read_behaviours(options.behaviours) if options.behaviours else {},
        )
        asyncio.run(_drive(options, folder, conditions))
    except (AgentError, Failure) as error:
        sys.exit(f"simulate_fleet: {error}")
    except grpc.RpcError as error:
        sys.exit(f"simulate_fleet: the hub refuses: {error.details() if isinstance(error, grpc.Call) else error}")
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _drive(options: argparse.Namespace, folder: Path, conditions: Conditions) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    names = [f"{options.prefix}-{i:05}" for i in range(options.devices)]
    labels = dict(pair.split("=", 1) for pair in options.label)
    fleet, admin = Fleet(folder, conditions, threads=options.threads), Admin(options.admin)
    started = time.monotonic()
    await fleet.enrol(admin, names, board=options.board, labels=labels)
    async with fleet:
        while not stopping.is_set() and (options.seconds is None or time.monotonic() - started < options.seconds):
            _show(fleet, started)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await stopping.wait()
    _show(fleet, started)
    if failed := fleet.failed():
        raise SystemExit(f"simulate_fleet: {len(failed)} devices failed, the first with {failed[0]!r}")


def _show(fleet: Fleet, started: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    own = {"cpu_s": round(usage.ru_utime + usage.ru_stime, 1), "peak_mb": usage.ru_maxrss >> 10}
    line = {"at_s": round(time.monotonic() - started, 1), **fleet.picture().as_json(), **own}
    print(json.dumps(line), flush=True)  # one line of JSON every few seconds is what this program is for


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate_fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--devices", type=int, default=100)
    add("--admin", type=Path, required=True, help="hubctl.yaml of a user who may create devices")
    add("--folder", type=Path, help="keep the devices here, to go on with them later; default: in memory, and thrown away")
    add("--seconds", type=float, help="stop after this long; default: at Ctrl-C")
    add("--prefix", default="sim", help="of the devices' names")
    add("--board", default=BOARD)
    add("--label", action="append", default=[], metavar="KEY=VALUE")
    add("--seed", type=int, default=1, help="everything that chance decides comes from it")
    add("--loss", type=float, default=0.0, help="chance that a message or a call finds the link broken")
    add("--latency-ms", type=float, default=0.0, help="one way")
    add("--restart-every", type=float, default=0.0, metavar="SECONDS", help="mean time between restarts of a device; 0: never")
    add("--readings", type=float, default=1.0, help="of each device in a second")
    add("--linger", type=float, default=10.0, metavar="SECONDS", help="between two batches of them")
    add("--probation", type=float, default=10.0, metavar="SECONDS", help="of a new model")
    add("--deltas", action="store_true", help="take deltas: each is decoded in a process of its own, as on a device")
    add("--behaviours", type=Path, help="YAML: what versions do in the field, as in 2: {errors: 0.2, refused: 0.1}")
    add("--threads", type=int, default=THREADS, help="that check, download and try updates")
    options = parser.parse_args()
    if options.devices < 1 or any("=" not in pair for pair in options.label):
        parser.error("--devices must be at least 1, and --label KEY=VALUE")
    return options


def _allow_files(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


if __name__ == "__main__":
    main()

"""What a device spends to be sure of an update, with a process for each: ours (director and image repository over gRPC and
mutual TLS, floors, synced cache) against the stock ``tuf.ngclient`` (image repository alone, plain HTTP, nothing synced).

Cold: nothing in the cache. Warm: nothing new. One more: a release since the last look. Bytes are those of metadata, before TLS.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.benches._figures import figure
from scripts.benches._tuf import KINDS, Repositories, over_grpc, over_http, release

AIM_COLD_BYTES = 60_000
STEPS = ("cold", "warm", "one more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    targets, rounds = (1_000, 3) if parser.parse_args().quick else (10_000, 7)
    repositories = Repositories(targets)
    now = {"now": targets // len(KINDS)}
    with tempfile.TemporaryDirectory(prefix="bench-tuf-") as name:
        folder = Path(name)
        (folder / "root.json").write_bytes(repositories.roots[1])
        (folder / "director.json").write_bytes(repositories.roots[2])
        with over_grpc(repositories, folder, now), over_http(repositories) as url:
            results = {
                which: _run(which, at, folder, repositories, now, rounds) for which, at in (("ours", "-"), ("stock", url))
            }
    ours, stock = results["ours"], results["stock"]
    for step in STEPS:
        aim = f"cold <= {AIM_COLD_BYTES} bytes" if step == "cold" else ""
        figure("tuf-refresh", f"{step}, {targets} targets", ours[step][0], "bytes", reference=stock[step][0], aim=aim)
        figure("tuf-refresh", f"{step}, {targets} targets", ours[step][1], "ms", reference=stock[step][1])
    figure("tuf-refresh", "loading TUF, once, at the first update", ours["load_ms"], "ms", reference=stock["load_ms"])
    figure(
        "tuf-refresh",
        "memory that loading and a cold look add",
        ours["rss_kib"] / 1024,
        "MiB",
        reference=stock["rss_kib"] / 1024,
    )


def _run(which: str, at: str, folder: Path, repositories: Repositories, now: dict[str, int], rounds: int) -> dict[str, Any]:
    """Medians of the device's figures; (bytes, ms) by step."""
    arguments = [sys.executable, "-m", "scripts.benches._tuf_device", which, at, str(folder)]
    device = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    orders, answers = device.stdin, device.stdout
    assert orders is not None and answers is not None

    def tell(**order: Any) -> Any:
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return json.loads(answers.readline())

    def look(cache: str) -> tuple[int, float]:
        targets = release(now["now"])
        paths, digest = [target.path for target in targets], targets[0].hashes["sha256"]
        return tuple(tell(cache=cache, version=now["now"], paths=paths, digest=digest))

    found: dict[str, Any] = tell(load=True)
    measured: dict[str, list[tuple[int, float]]] = {step: [] for step in STEPS}
    for number in range(rounds):
        cache = f"{which}-{number}"
        measured["cold"].append(look(cache))
        if number == 0:
            found["rss_kib"] = tell(rss=True) - found.pop("rss_kib")
        measured["warm"].append(look(cache))
        now["now"] = repositories.release_one_more()
        measured["one more"].append(look(cache))
    orders.close()
    device.wait(30)
    return found | {
        step: tuple(statistics.median(column) for column in zip(*rows, strict=True)) for step, rows in measured.items()
    }


if __name__ == "__main__":
    main()

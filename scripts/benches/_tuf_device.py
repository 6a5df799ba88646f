"""The device of ``tuf_refresh``, in a process of its own: follows orders on standard input, a line of JSON each.

What it measures is loaded on order, so nothing else may bring it in.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Look = Callable[[dict[str, Any]], int]  # an order -> bytes of metadata that came


def main(which: str, url: str, work: str) -> None:
    sys.modules["boto3"] = None  # type: ignore[assignment]  # a signer takes it where it is installed; on a device it is not
    folder = Path(work)
    load = _ours(folder) if which == "ours" else _stock(folder, url)  # what an agent has loaded anyway
    look: Look | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if "load" in order:
            before = _rss_kib()
            started = time.perf_counter()
            look = load()
            answer: Any = {"load_ms": (time.perf_counter() - started) * 1000, "rss_kib": before}
        elif "rss" in order:
            answer = _rss_kib()
        else:
            started = time.perf_counter()
            assert look is not None
            count = look(order)
            answer = (count, (time.perf_counter() - started) * 1000)
        print(json.dumps(answer), flush=True)


def _ours(folder: Path) -> Callable[[], Look]:
    from edge_agent.core.clock import SystemClock
    from edge_agent.core.ports import Repository
    from edge_agent.sync import identity
    from edge_agent.sync.hub import GrpcHub
    from edge_agent.update.journal import Journal
    from edge_agent.update.surroundings import Anchor
    from protos.contract.ids import digest, model_name
    from protos.contract.twin import ModelAssignment

    me = identity.load(folder)
    anchor = Anchor(
        device_id=me.device_id,
        tenant=me.tenant,
        board=me.board,
        image_root=(folder / "root.json").read_bytes(),
        director_root=(folder / "director.json").read_bytes(),
    )

    class CountingHub(GrpcHub):
        count = 0

        def metadata(self, repository: Repository, name: str, max_bytes: int) -> bytes:
            data = super().metadata(repository, name, max_bytes)
            self.count += len(data)
            return data

        def director(self, nonce: bytes) -> bytes:
            data = super().director(nonce)
            self.count += len(data)
            return data

    def load() -> Look:
        from edge_agent.update.trust import Trust

        journals: dict[Path, Journal] = {}

        def look(order: dict[str, Any]) -> int:
            cache = folder / order["cache"]
            if cache not in journals:
                cache.mkdir()
                journals[cache] = Journal(cache / "updates.sqlite", (), SystemClock())
            journal = journals[cache]
            assignment = ModelAssignment(
                name=model_name("street"),
                version=order["version"],
                manifest_digest=digest("sha256:" + order["digest"]),
                manifest_size_bytes=1000,
            )
            hub = CountingHub(me)
            Trust(cache / "trust", journal.floors, SystemClock()).check(hub, anchor, assignment, order["version"])
            hub.close()
            return hub.count

        return look

    return load


def _stock(folder: Path, url: str) -> Callable[[], Look]:
    def load() -> Look:
        from tuf.ngclient import Updater, UpdaterConfig, Urllib3Fetcher

        class CountingFetcher(Urllib3Fetcher):
            count = 0

            def download_bytes(self, url: str, max_length: int) -> bytes:
                data = super().download_bytes(url, max_length)
                self.count += len(data)
                return data

        def look(order: dict[str, Any]) -> int:
            cache = folder / order["cache"]
            cache.mkdir(exist_ok=True)
            fetcher, root = CountingFetcher(), (folder / "root.json").read_bytes()
            updater = Updater(str(cache), url, fetcher=fetcher, config=UpdaterConfig(), bootstrap=root)
            updater.refresh()
            assert all(updater.get_targetinfo(path) is not None for path in order["paths"])
            return fetcher.count

        return look

    return load


def _rss_kib() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{os.getpid()}/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main(*sys.argv[1:])

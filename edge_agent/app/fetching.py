"""Fetchers that may all be at work: what one was promised of the disk or of memory is not promised to another."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.core.config import UpdateConfig
from edge_agent.core.ports import Hub
from edge_agent.update.fetch import Fetcher
from protos.contract.manifest import Manifest


class Fetchers:
    """All of one agent. They are made before the first of them is at work."""

    def __init__(self, connect: Callable[[], Hub], config: UpdateConfig) -> None:
        self._connect, self._config = connect, config
        self._made: list[Fetcher] = []
        self._decoding = threading.Lock()

    def new(
        self,
        unrunnable: Callable[[Manifest], str],
        *,
        kept_bytes: Callable[[], int] = lambda: 0,
        reserve_bytes: int | None = None,
    ) -> Fetcher:
        """Another one, since each is cut by itself.

        ``kept_bytes`` of the disk are not for it. ``reserve_bytes``: what it leaves free; None: what is configured.
        """

        def free_bytes(folder: Path) -> int:
            others = sum(each.owed_bytes for each in self._made if each is not made)
            return shutil.disk_usage(folder).free - others - kept_bytes()

        made = Fetcher(
            self._connect,
            unrunnable=unrunnable,
            free_bytes=free_bytes,
            reserve_bytes=self._config.disk_reserve_bytes if reserve_bytes is None else reserve_bytes,
            delta_memory_bytes=self._config.delta_memory_bytes,
            decoding=self._decoding,
        )
        self._made.append(made)
        return made

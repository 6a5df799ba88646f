"""DuckDB within limits: memory, threads, disk, time, and how many questions at once.

Each question has a DuckDB of its own, so that one that runs out of memory takes no other with it. It may read below the
archive's root and nothing else, and it spills to a folder of its own.
"""

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cloud_hub.archive.files import Files
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.errors import Exhausted, NotReady, Unavailable

log = logging.getLogger(__name__)

_PART_ROWS = 4096
_AGAIN_S = 0.05  # between interrupts: one that comes just before a statement has no effect


class Engine:
    def __init__(self, files: Files, config: TelemetryConfig, scratch: Path) -> None:
        """Questions spill to folders in ``scratch``, which they remove; a killed process leaves them."""
        self._files = files
        self._config = config
        self._scratch = scratch
        self._free = threading.BoundedSemaphore(config.query_concurrent)

    @property
    def memory_bytes(self) -> int:
        """Of one question."""
        return (self._config.query_memory_mb << 20) // self._config.query_concurrent

    def question(self) -> "Question":
        """Close it. Raises Exhausted where too many are open."""
        if not self._free.acquire(blocking=False):
            raise Exhausted(f"{self._config.query_concurrent} queries run already: try again in a moment")
        return Question(self._open, self._config)

    def source(self, paths: list[str]) -> str:
        """SQL of a table function over these files of the archive, or of a question's own folder; there is at least one.

        A column that files of an older hub do not have is NULL there.
        """
        listed = ", ".join(quoted(path if Path(path).is_absolute() else self._files.root + path) for path in paths)
        return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"

    def _open(self, stack: contextlib.ExitStack) -> tuple[Any, Path]:
        """DuckDB, and a folder of its own. Leaving the stack gives back the place."""
        stack.callback(self._free.release)
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        spill = tempfile.mkdtemp(dir=self._scratch)
        stack.callback(shutil.rmtree, spill, ignore_errors=True)
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{self.memory_bytes}B",
                "threads": self._config.query_threads,
                "temp_directory": spill,
                "max_temp_directory_size": f"{self._config.query_spill_mb << 20}B",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        stack.callback(connection.close)
        if self._files.fsspec is not None:
            connection.register_filesystem(self._files.fsspec)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute(f"SET allowed_directories = [{quoted(self._files.root)}, {quoted(spill + '/')}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection, Path(spill)


class Question:
    """One connection, until ``close``. One thread asks, any may cancel; cancelled or after its time it frees what it holds."""

    def __init__(self, open: Callable[[contextlib.ExitStack], tuple[Any, Path]], config: TelemetryConfig) -> None:
        self._stack = contextlib.ExitStack()
        self._timeout_s = config.query_timeout_s
        self._deadline = time.monotonic() + config.query_timeout_s
        self.disk_bytes = config.query_spill_mb << 20  # that ``folder`` may take
        self._given: dict[str, Any] = {}
        self._cursors: list[Any] = []
        self._lock = threading.Lock()  # whoever works with the connection
        self._cancelled = threading.Event()
        self._closed = threading.Event()
        try:
            self._connection, self.folder = open(self._stack)
        except BaseException:
            self._stack.close()
            raise
        threading.Thread(target=self._watch, name="query-watch", daemon=True).start()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """It is not closed while something is put into its folder."""
        with self._lock:
            self.check()
            yield

    def give(self, name: str, table: pa.Table) -> None:
        """In the SQL of every ``ask`` that follows."""
        self._given[name] = table

    def ask(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The answer, in parts of DuckDB's size. Several may be read in turns.

        Raises:
            Exhausted: it took too long, or needs more memory or disk than a query may have.
            NotReady: a file of the archive is gone.
            Unavailable: the archive cannot be reached now.
        """
        reader = self._run(lambda: self._started(sql))
        while (batch := self._run(lambda: next(reader, None))) is not None:
            yield batch

    def check(self) -> None:
        """Raises Exhausted after its time or once cancelled."""
        if self._cancelled.is_set():
            raise Exhausted("the query was cancelled")
        if time.monotonic() >= self._deadline or self._closed.is_set():
            raise Exhausted(f"the query took longer than {self._timeout_s:g} s: ask for fewer devices or a shorter time")

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        """Twice is harmless."""
        self._cancelled.set()
        with self._lock:
            self._dispose()

    def _run(self, work: Callable[[], Any]) -> Any:
        with self._lock:
            self.check()
            try:
                return work()
            except duckdb.OutOfMemoryException as error:
                log.warning("query out of memory", extra={"reason": str(error)[:200]})
                raise Exhausted(
                    "the query needs more memory than it may have: ask for fewer devices or a shorter time"
                ) from error
            except duckdb.InterruptException as error:
                self.check()
                raise Exhausted("the query was ended") from error
            except duckdb.IOException as error:
                raise NotReady(f"the archive cannot be read: {str(error)[:300]}") from error
            except duckdb.Error as error:
                self.check()  # a stream that ended for want of time shows as another error
                if type(error) is duckdb.Error:  # what the file system raised, told with its traceback
                    reason = str(error).strip().rpartition("\n")[2][:300]
                    raise Unavailable(f"the archive cannot be read now: {reason}") from error
                raise

    def _started(self, sql: str) -> Any:
        cursor = self._connection.cursor()  # a connection has one open answer
        self._cursors.append(cursor)
        for name, data in self._given.items():
            cursor.register(name, data)
        return cursor.sql(sql).to_arrow_reader(_PART_ROWS)

    def _watch(self) -> None:
        self._cancelled.wait(max(0.0, self._deadline - time.monotonic()))
        while not self._closed.is_set():
            for cursor in list(self._cursors):
                with contextlib.suppress(duckdb.Error):
                    cursor.interrupt()
            if self._lock.acquire(timeout=_AGAIN_S):
                try:
                    self._dispose()
                finally:
                    self._lock.release()

    def _dispose(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            for cursor in self._cursors:
                cursor.close()
            self._stack.close()


def quoted(text: str) -> str:
    """As SQL writes it."""
    return "'" + text.replace("'", "''") + "'"

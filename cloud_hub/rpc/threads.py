"""Synchronous use cases behind a bounded pool, so that the event loop never waits for a disk."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_END: Final = object()


class Threads:
    """Runs use cases on ``count`` threads; callers above that wait in line, bounded by the server's concurrent calls."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="use-case")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns or raises. A cancelled caller leaves at once; the function runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def each(self, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """The items of an iterator, each taken only when the last one has been used; it is closed however this ends."""
        reader = _Reader(make)
        try:
            while (item := await self.call(reader.next)) is not _END:
                yield item
        finally:
            with contextlib.suppress(RuntimeError):  # the pool is closed: so is everything that an iterator could hold
                self._executor.submit(reader.close)

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class _Reader(Generic[T]):
    """An iterator that one thread advances while another may want it closed."""

    def __init__(self, make: Callable[[], Iterator[T]]) -> None:
        self._make = make
        self._iterator: Iterator[T] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def next(self) -> Any:  # an item or _END
        with self._lock:
            if self._closed:
                return _END
            if self._iterator is None:
                self._iterator = self._make()
            return next(self._iterator, _END)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()

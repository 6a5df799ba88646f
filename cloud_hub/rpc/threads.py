"""Synchronous use cases behind a bounded pool, so that the event loop never waits for a disk."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

_END: Final = object()


class Threads:
    """Runs use cases on ``count`` threads; callers above that wait in line, bounded by the server's concurrent calls."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="use-case")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns or raises. A cancelled caller leaves at once; the function runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def each(self, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """The items of an iterator, each taken only when the last one has been used; it is closed however this ends.

        One with a ``cancel`` is cancelled first, even in the middle of an item.
        """
        return self.each_as(_same, make)

    async def each_as(self, convert: Callable[[T], U], make: Callable[[], Iterator[T]]) -> AsyncGenerator[U, None]:
        """``each``, with the items converted on the same thread."""
        reader = _Reader(make, convert)
        try:
            while (item := await self.call(reader.next)) is not _END:
                yield item
        finally:
            reader.cancel()
            with contextlib.suppress(RuntimeError):  # the pool is closed: so is everything that an iterator could hold
                self._executor.submit(reader.close)

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class _Reader(Generic[T, U]):
    """An iterator that one thread advances while another may want it closed."""

    def __init__(self, make: Callable[[], Iterator[T]], convert: Callable[[T], U]) -> None:
        self._make = make
        self._convert = convert
        self._iterator: Iterator[T] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def next(self) -> Any:  # an item or _END
        with self._lock:
            if self._closed:
                return _END
            if self._iterator is None:
                self._iterator = self._make()
                if self._closed:  # cancelled meanwhile, when there was nothing to cancel
                    return _END
            item = next(self._iterator, _END)
            return item if item is _END else self._convert(cast(T, item))

    def cancel(self) -> None:
        """It does not wait for an item that is being made: that may be what it is to end."""
        self._closed = True
        cancel = getattr(self._iterator, "cancel", None)
        if cancel is not None:
            cancel()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()


def _same(item: T) -> T:
    return item

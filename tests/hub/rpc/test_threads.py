"""Use cases on threads, iterators with flow control."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from cloud_hub.rpc.threads import Threads

DEADLINE_S = 10.0


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Threads(2)
    yield pool
    pool.close()


def test_an_item_is_made_only_when_the_last_one_was_used(threads: Threads) -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    async def consume() -> None:
        async with aclosing(threads.each(numbers)) as items:
            async for item in items:
                assert made[-1] == item
                if item == 2:
                    return

    asyncio.run(consume())
    assert made == [0, 1, 2]


def test_an_iterator_is_closed_when_its_reader_leaves_in_the_middle_of_an_item(threads: Threads) -> None:
    entered, release, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        try:
            entered.set()
            release.wait(DEADLINE_S)
            yield 1
        finally:
            closed.set()

    async def consume() -> None:
        async with aclosing(threads.each(slow)) as items:
            async for _ in items:
                raise AssertionError("its reader had left")

    async def leave() -> None:
        task = asyncio.create_task(consume())
        await asyncio.to_thread(entered.wait, DEADLINE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    release.set()
    assert closed.wait(DEADLINE_S)


def test_an_error_of_an_iterator_reaches_the_reader(threads: Threads) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    async def consume() -> list[int]:
        return [item async for item in threads.each(broken)]

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(consume())


def test_a_reader_may_leave_after_the_pool_is_closed() -> None:
    async def consume() -> int:
        pool = Threads(1)
        async with aclosing(pool.each(lambda: iter([1, 2, 3]))) as items:
            async for item in items:
                pool.close()
                return item
        return 0

    assert asyncio.run(consume()) == 1


class Cancellable:
    """An item takes until somebody cancels."""

    def __init__(self) -> None:
        self.entered, self.cancelled, self.closed = threading.Event(), threading.Event(), threading.Event()

    def __iter__(self) -> "Cancellable":
        return self

    def __next__(self) -> int:
        self.entered.set()
        if not self.cancelled.wait(DEADLINE_S):
            raise AssertionError("nobody cancelled")
        raise ValueError("cancelled")

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed.set()


def test_a_reader_that_leaves_cancels_the_item_that_is_being_made() -> None:
    pool, items = Threads(1), Cancellable()

    async def consume() -> None:
        async with aclosing(pool.each(lambda: items)) as found:
            async for _ in found:
                raise AssertionError("there is no item")

    async def leave() -> None:
        task = asyncio.create_task(consume())
        await asyncio.to_thread(items.entered.wait, DEADLINE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert items.closed.wait(DEADLINE_S)
    pool.close()


def test_a_reader_that_leaves_while_its_iterator_is_made_gets_no_item() -> None:
    pool, items = Threads(1), Cancellable()
    making, go_on = threading.Event(), threading.Event()

    def make() -> Cancellable:
        making.set()
        go_on.wait(DEADLINE_S)
        return items

    async def consume() -> None:
        async with aclosing(pool.each(make)) as found:
            async for _ in found:
                raise AssertionError("there is no item")

    async def leave() -> None:
        task = asyncio.create_task(consume())
        await asyncio.to_thread(making.wait, DEADLINE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    go_on.set()
    assert items.closed.wait(DEADLINE_S)
    assert not items.entered.is_set()
    pool.close()


def test_items_are_converted_on_the_thread_that_makes_them(threads: Threads) -> None:
    made: list[str] = []

    def convert(number: int) -> tuple[int, str]:
        made.append(threading.current_thread().name)
        return number, str(number)

    async def consume() -> list[tuple[int, str]]:
        return [item async for item in threads.each_as(convert, lambda: iter(range(3)))]

    assert asyncio.run(consume()) == [(0, "0"), (1, "1"), (2, "2")]
    assert all(name.startswith("use-case") for name in made)

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

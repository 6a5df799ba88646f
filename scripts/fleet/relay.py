"""A TCP address that stands for whichever hub leads, as a load balancer does; it counts what it carries."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

_PIECE_BYTES = 64 << 10
_NOBODY = 1  # a port that no hub has


class Relay:
    """Listens on a free loopback port while entered; a connection goes to where ``target`` says when it is made."""

    def __init__(self, target: Callable[[], int]) -> None:
        """``target``: a loopback port; 0: nobody is there."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.carried_bytes = 0  # both ways
        self.connections = 0

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Every connection ends, as when the machine behind the address has gone."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._join(reader, writer)
        except OSError:  # nobody is there
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target() or _NOBODY)
        self._writers.add(onward)
        try:
            await asyncio.gather(self._carry(reader, onward), self._carry(onward_reader, writer))
        finally:
            self._writers.discard(onward)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                self.carried_bytes += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()

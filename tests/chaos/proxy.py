"""A TCP proxy that can delay, stall, cut and corrupt what passes through it."""

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass

CHUNK_BYTES = 16 * 1024


@dataclass(slots=True, kw_only=True)
class Weather:
    """How the line is now; every connection looks at it before each piece that it carries on."""

    delay_s: float = 0.0  # of each piece
    corrupt: float = 0.0  # share of pieces with a flipped bit
    stalled: bool = False  # takes connections, carries nothing
    refusing: bool = False  # closes new connections at once


class Proxy:
    """Listens on a free port of its own and carries everything on to ``target``. The methods may be called from any thread."""

    def __init__(self, target: int, seed: int) -> None:
        self.weather = Weather()
        self.port = 0
        self.corrupted = 0
        self._target = target
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.StreamWriter] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-to-{target}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10.0)

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    def cut(self) -> None:
        """Every connection is gone, without a word."""
        self._loop.call_soon_threadsafe(self._abort)

    def calm(self) -> None:
        self.weather = Weather()

    def _abort(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.refusing:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._connections |= both
        try:
            await asyncio.gather(self._carry(reader, there_writer), self._carry(there_reader, writer))
        finally:
            self._connections -= both
            for end in both:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK_BYTES):
                while self.weather.stalled:
                    await asyncio.sleep(0.05)
                if self.weather.delay_s:
                    await asyncio.sleep(self._random.uniform(0, 2 * self.weather.delay_s))
                if self.weather.corrupt and self._random.random() < self.weather.corrupt:
                    data = self._flipped(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()  # one direction ended: the other has nobody to talk to

    def _flipped(self, data: bytes) -> bytes:
        self.corrupted += 1
        changed = bytearray(data)
        changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

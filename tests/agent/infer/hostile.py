"""A worker that a model file has taken over: it has the real one's descriptors, and no manners. Run as ``Process(module=...)``.

What it does is named by the bytes of the model it is sent.
"""

import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

from edge_agent.infer.channel import MAX_MESSAGE, Kind, Order, Report, attach, decode_request


class Hostile:
    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        data, (self.model, self.shared), _, _ = socket.recv_fds(channel, MAX_MESSAGE, 2)
        self.order = Order.decode(data)
        self.memory = attach(self.shared, self.order.shared_bytes)
        self.request = 0

    def take(self) -> None:
        request = self.channel.recv(MAX_MESSAGE)
        if not request:
            os._exit(0)
        self.request = decode_request(request)


Act = Callable[[Hostile], object]


def serve(*acts: Act) -> Act:
    """Ready as any, and then these at each request."""

    def run(self: Hostile) -> None:
        say(Kind.READY, shape=(1, 3, 12, 12))(self)
        while True:
            self.take()
            for act in acts:
                act(self)

    return run


def put(*values: float) -> Act:
    def act(self: Hostile) -> None:
        end = self.order.input_bytes
        self.memory[end : end + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)

    return act


def say(kind: Kind, *, values: int = 0, shape: tuple[int, ...] = (), text: str = "", turn: int = 0) -> Act:
    def act(self: Hostile) -> None:
        sequence = (self.request + turn) % 2**64
        self.channel.send(Report(kind=kind, values=values, shape=shape, text=text, sequence=sequence).encode())

    return act


def raw(data: bytes) -> Act:
    return lambda self: self.channel.send(data)


def long_reason(self: Hostile) -> None:
    self.channel.send(struct.pack("<IIQ", Kind.FAILED, 0, self.request) + b"\xff" * 5000)


def flood(_: Hostile) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            os.write(2, b'{"level": "INFO", "message": "all is well"}\n' * 200)


def resize(self: Hostile) -> None:
    for size in (0, self.order.shared_bytes * 2):
        with contextlib.suppress(OSError):
            os.ftruncate(self.shared, size)


def rewrite(self: Hostile) -> None:
    with contextlib.suppress(OSError):
        os.pwrite(self.model, b"changed", 0)


def smuggle(self: Hostile) -> None:
    message = Report(kind=Kind.ANSWER, values=4, sequence=self.request).encode()
    socket.send_fds(self.channel, [message], [0, 1, 2])


def fork_and_end(_: Hostile) -> None:
    """A child keeps the channel open."""
    if os.fork() == 0:
        time.sleep(5)
    os._exit(0)


def hang(_: Hostile) -> None:
    time.sleep(600)


def crash(_: Hostile) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def end(_: Hostile) -> None:
    os.write(2, b"no more\n")
    os._exit(7)


NAN, INFINITE = float("nan"), float("inf")
NUMBERS, ANSWER = put(1, 2, 3, 4), say(Kind.ANSWER, values=4)
FORGED = 'x\n{"level": "INFO"}\x1b[2J\u2028'
BEHAVIOURS: dict[str, Act] = {
    "honest": serve(NUMBERS, ANSWER),
    "nan": serve(put(NAN, 0, 0, 0), ANSWER),
    "infinity": serve(put(0, 0, 0, INFINITE), ANSWER),
    "more values": serve(say(Kind.ANSWER, values=5)),
    "no values": serve(say(Kind.ANSWER, values=0)),
    "four billion values": serve(say(Kind.ANSWER, values=2**32 - 1)),
    "an old answer": serve(say(Kind.ANSWER, values=4, turn=-1)),
    "a future answer": serve(say(Kind.ANSWER, values=4, turn=-5)),
    "two answers": serve(NUMBERS, ANSWER, ANSWER),
    "ready again": serve(say(Kind.READY, shape=(1, 3, 12, 12))),
    "refused late": serve(say(Kind.REFUSED, text="no")),
    "an empty packet": serve(raw(b"")),
    "one byte": serve(raw(b"\x03")),
    "no such kind": serve(raw(struct.pack("<IIQ", 99, 4, 1))),
    "a packet of 60 KB": serve(raw(b"\x03" * 60_000)),
    "lines in a reason": serve(say(Kind.FAILED, text=FORGED)),
    "a long reason": serve(long_reason),
    "hang": serve(hang),
    "crash": serve(crash),
    "end": serve(end),
    "close the channel and live": serve(lambda self: self.channel.close(), hang),
    "fork and end": serve(fork_and_end),
    "flood its output": serve(flood, NUMBERS, ANSWER),
    "resize the memory": serve(resize, NUMBERS, ANSWER),
    "rewrite the model": serve(rewrite, NUMBERS, ANSWER),
    "smuggle descriptors": serve(NUMBERS, smuggle),
    "hang while loading": hang,
    "crash while loading": crash,
    "end while loading": end,
    "garbage while loading": raw(b"\x17" * 64),
    "another shape": say(Kind.READY, shape=(1, 3, 9, 9)),
    "no shape": say(Kind.READY),
    "a shape of a thousand sides": raw(struct.pack("<IIQ", Kind.READY, 0, 0) + b"\1\0\0\0" * 200),
    "an answer while loading": ANSWER,
}


if __name__ == "__main__":
    worker = Hostile(socket.socket(fileno=int(sys.argv[1])))
    BEHAVIOURS[os.read(worker.model, worker.order.model_bytes).decode()](worker)
    worker.channel.recv(1)

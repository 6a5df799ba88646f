"""The process that runs a model: ``python -m edge_agent.infer.worker DESCRIPTOR PARENT [spare]``.

It imports what it needs, waits for its one order, lets the runtime do once on a model of ours whatever it does lazily, enters
the jail, and only then looks at the model it was given. It ends with the agent, and when anything is not as it must be.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer import jail
from edge_agent.infer.channel import MAX_MESSAGE, Kind, Order, Report, attach, decode_request
from edge_agent.infer.runtimes import FORMATS, load
from edge_agent.infer.warmup import MODELS

if TYPE_CHECKING:
    from edge_agent.core.ports import Runtime

_PR_SET_PDEATHSIG = 1
# Should memory run out, this process goes before the agent does, yet not before everything else on the device.
_OOM_SCORE, _SPARE_OOM_SCORE = 500, 900
_SPARE_NICE = 10


def main(descriptor: int, parent: int, *, spare: bool = False) -> NoReturn:
    _leash(parent, _SPARE_OOM_SCORE if spare else _OOM_SCORE)
    if spare:
        os.nice(_SPARE_NICE)
    channel = socket.socket(fileno=descriptor)
    data, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 2)
    if not data:
        os._exit(0)  # never needed
    order = Order.decode(data)
    model, shared = descriptors
    memory = attach(shared, order.shared_bytes)
    os.close(shared)
    try:
        _warm_up(order.runtime)
        jail.enter(memory_bytes=order.memory_bytes, cpu_s=order.cpu_s)
        runtime = load(FORMATS[order.runtime], _read(model, order.model_bytes), order.threads, order.runtime)
    except BadModel as error:
        _report(descriptor, Report(kind=Kind.REFUSED, text=str(error)))
        os._exit(0)  # a runtime that was fed hostile bytes must not get to run its destructors
    _report(descriptor, Report(kind=Kind.READY, shape=runtime.input_shape))
    _serve(descriptor, runtime, order, memory)
    os._exit(0)


def _leash(parent: int, oom_score: int) -> None:
    """Nothing outlives the agent; and what is meant for the agent alone does not end the worker under it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # it died before we asked to be told
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # no /proc: the kernel chooses by itself
        Path("/proc/self/oom_score_adj").write_text(str(oom_score))


def _warm_up(runtime: str) -> None:
    """Processor features, locale data, modules of its own: behind the jail a library could not read them any more."""
    model = MODELS[FORMATS[runtime]]
    loaded = load(FORMATS[runtime], model, 1, runtime)
    loaded.run(np.zeros(loaded.input_shape, np.float32))


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.read(descriptor, size)
        if not part:
            raise BadModel("the model's bytes ended early")
        parts.append(part)
        size -= len(part)
    os.close(descriptor)
    return b"".join(parts)


def _serve(descriptor: int, runtime: "Runtime", order: Order, memory: mmap.mmap) -> None:
    tensor = np.frombuffer(memory, np.float32, order.input_bytes // 4).reshape(order.shape)
    answer = np.frombuffer(memory, np.float32, order.classes, order.input_bytes)
    while request := os.read(descriptor, MAX_MESSAGE):
        sequence, started = decode_request(request), time.perf_counter_ns()
        try:
            logits = runtime.run(tensor)
        except InferenceError as error:
            _report(descriptor, Report(kind=Kind.FAILED, sequence=sequence, text=str(error)))
            continue
        took = time.perf_counter_ns() - started
        answer[:] = logits if logits.shape == answer.shape else 0
        _report(descriptor, Report(kind=Kind.ANSWER, sequence=sequence, values=logits.size, nanoseconds=took))


def _report(descriptor: int, report: Report) -> None:
    os.write(descriptor, report.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), spare="spare" in sys.argv[3:])

"""One model in one worker process, from its order to its end."""

import contextlib
import os
import socket
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer.channel import MAX_MESSAGE, Kind, Malformed, Order, Report, attach, encode_request, sealed, share
from edge_agent.infer.process import Process
from edge_agent.infer.runtimes import check_fit, choose
from protos.contract.manifest import Manifest

START_S = 15.0  # to import the runtime and load a model; in the canary its own time holds
HANG_S = 8.0  # an inference that takes longer does not come back; below probation's STALL_S and the agent's STUCK_S
_ENDING_S = 0.5  # for a worker that ends by itself to say how
_MEMORY_BYTES = 512 << 20  # and per byte of model:
_MEMORY_PER_BYTE = 8  # measured: 4 copies at the peak of loading


class Died(InferenceError):
    """The worker is gone; the message says how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one life, in seconds."""

    start_s: float = START_S
    hang_s: float = HANG_S
    all_s: float | None = None  # from the order to the last inference; the worker's processor time is bounded by it too


class Life:
    """A loaded model in a jailed process: ``ports.Runtime``. One thread runs it; ``wait`` and ``close`` are for any.

    What the worker says is checked: a hostile one can answer wrong numbers, and nothing else. Once it has died, hung or
    broken the rules, it is gone, and every ``run`` says why.

    Raises:
        BadModel: the runtime refuses the model, or takes another tensor than the manifest makes.
        Died: it ended, or took too long, before it was ready.
        OSError: no room for its memory.
    """

    def __init__(
        self, process: Process, manifest: Manifest, model: bytes, *, threads: int, runtime: str | None, limits: Limits
    ) -> None:
        self._process, self._limits = process, limits
        self._deadline = time.monotonic() + limits.all_s if limits.all_s is not None else None
        self._shape, self._classes = manifest.input.shape, manifest.output.size
        self._sequence = 0
        self._inner_ms = 0.0
        self._ended = ""
        try:
            order = _order(manifest, threads, runtime, limits)
            self._share(order, model)
            self._begin(manifest)
        except BaseException:
            self.close()
            raise

    @property
    def inner_ms(self) -> float:
        return self._inner_ms

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._model_shape

    @property
    def pid(self) -> int:
        return self._process.pid

    def peak_bytes(self) -> int:
        """The most memory the process has had in RAM so far, by the kernel; 0 where that is not told."""
        return self._process.peak_bytes()

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the port says; InferenceError is a Died where the worker ended, which it does when it hangs."""
        if tensor.shape != self._shape or tensor.dtype != np.float32:
            raise InferenceError(f"the model takes {self._shape} float32, got {tensor.shape} {tensor.dtype}")
        np.copyto(self._input, tensor)
        self._sequence += 1
        report = self._ask(encode_request(self._sequence), self._limits.hang_s, "an inference")
        if report.kind not in (Kind.ANSWER, Kind.FAILED) or report.sequence != self._sequence:
            raise self._end("it answered what nobody asked")
        if report.kind is Kind.FAILED:
            raise InferenceError(report.text)
        if report.values != self._classes:
            raise InferenceError(f"the model gave ({report.values},) values for {self._classes} labels")
        self._inner_ms = report.nanoseconds / 1e6
        answer = self._answer.copy()  # from here on nobody else can change it
        if not np.isfinite(answer).all():
            raise InferenceError("the model's output holds NaN or infinity")
        return answer

    def wait(self) -> str:
        """Until the process has ended; returns why."""
        ended = self._process.wait()
        return self._ended or ended

    def close(self) -> None:
        self._process.close()

    def _share(self, order: Order, model: bytes) -> None:
        """The tensors' memory on both sides, and the order; where the worker is dead, ``_begin`` finds out."""
        memory = share(order.shared_bytes)
        try:
            mapped = attach(memory, order.shared_bytes)
            content = sealed(model)
            try:
                with contextlib.suppress(OSError):
                    socket.send_fds(self._process.socket, [order.encode()], [content, memory])
            finally:
                os.close(content)
        finally:
            os.close(memory)
        self._input = np.frombuffer(mapped, np.float32, order.input_bytes // 4).reshape(order.shape)
        self._answer = np.frombuffer(mapped, np.float32, order.classes, order.input_bytes)

    def _begin(self, manifest: Manifest) -> None:
        report = self._ask(b"", self._limits.start_s, "loading")
        if report.kind is Kind.REFUSED:
            raise BadModel(report.text)
        if report.kind is not Kind.READY:
            raise self._end("it answered what nobody asked")
        self._model_shape = report.shape
        check_fit(self, manifest)

    def _ask(self, request: bytes, limit_s: float, what: str) -> Report:
        """Raises Died."""
        if self._ended:
            raise Died(self._ended)
        if self._deadline is not None:
            limit_s = min(limit_s, max(self._deadline - time.monotonic(), 1e-3))
        channel = self._process.socket
        try:
            channel.settimeout(limit_s)
            if request:
                channel.send(request)
            data = channel.recv(MAX_MESSAGE)
        except TimeoutError as error:
            raise self._end(f"{what} took longer than {limit_s:.3g} s") from error
        except OSError as error:
            raise self._end("") from error
        if not data:
            raise self._end("")
        try:
            return Report.decode(data)
        except Malformed as error:
            raise self._end("it answered what is no answer") from error

    def _end(self, reason: str) -> Died:
        """Where the reason is that it ended, how it ended is the reason."""
        self._ended = reason  # before ``wait`` returns
        ended = self._process.kill(after_s=0.0 if reason else _ENDING_S)
        self._ended = reason or ended
        return Died(self._ended)


def _order(manifest: Manifest, threads: int, runtime: str | None, limits: Limits) -> Order:
    """Raises BadModel."""
    size = manifest.artifact.size_bytes
    return Order(
        runtime=runtime or choose(manifest.format),
        threads=threads,
        model_bytes=size,
        memory_bytes=_MEMORY_BYTES + _MEMORY_PER_BYTE * size,
        cpu_s=0 if limits.all_s is None else int(limits.all_s * max(1, threads)) + 1,
        shape=manifest.input.shape,
        classes=manifest.output.size,
    )

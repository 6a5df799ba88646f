"""What stands between the wire and every method: identity, policy, time limit, errors to status.

An interceptor of grpc.aio sees no auth context, so each handler is wrapped instead.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cloud_hub.core.errors import Denied, Exhausted, Invalid
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.model import Principal, Role
from cloud_hub.rpc import values
from cloud_hub.rpc.auth import Peer, Peers
from cloud_hub.rpc.errors import Unauthenticated, status_of
from cloud_hub.rpc.policy import POLICY, Rule
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What a servicer may know about the call it answers."""

    who: Principal


Context = grpc.aio.ServicerContext[Any, Any]
Admit = Callable[[Peer], Awaitable[None]]  # raises Denied for a peer that may not call any more
Parse = Callable[[bytes], Message]  # raises Invalid
T = TypeVar("T")

_READMIT_S = 5.0  # a stream may outlive its caller's welcome
_REFUSALS_EVERY_S = 1.0  # strangers must not fill the disk with what is said about them
_DEVICE_CALLS = 16  # at once: a device must not take every place the server has


class Guard:
    """Wraps servicers into handlers.

    A servicer's method takes ``(request, call)``, or ``(requests, call)`` with an async iterator where the client streams.
    It is a coroutine that returns the reply, or returns an async generator of replies where the server streams.
    """

    def __init__(self, *, admit: Admit, clock: Clock, metrics: HubMetrics) -> None:
        self._admit = admit
        self._clock = clock
        self._metrics = metrics
        self._peers = Peers()
        self._calls: Counter[str] = Counter()  # of each device, now
        self._refusals = Seldom(_REFUSALS_EVERY_S, clock)

    def service(self, descriptor: ServiceDescriptor, servicer: object) -> "grpc.GenericRpcHandler[Any, Any]":
        """Handlers of every method the contract names; AttributeError for one the servicer lacks."""
        handlers = {method.name: self._handler(method, getattr(servicer, method.name)) for method in descriptor.methods}
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def _handler(self, method: MethodDescriptor, behaviour: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        # requests come as bytes and are parsed behind the policy: a stranger's bytes are never looked at
        path = f"/{method.containing_service.full_name}/{method.name}"
        parse, write = _parser(method), GetMessageClass(method.output_type).SerializeToString
        if method.server_streaming and method.client_streaming:
            raise NotImplementedError(f"{path}: no method streams both ways yet")
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._replies(path, parse, behaviour), None, write)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._requests(path, parse, behaviour), None, write)
        return grpc.unary_unary_rpc_method_handler(self._unary(path, parse, behaviour), None, write)

    def _unary(
        self, path: str, parse: Parse, behaviour: Callable[..., Awaitable[Message]]
    ) -> Callable[..., Awaitable[Message]]:
        async def handle(data: bytes, context: Context) -> Message:
            async def answer(call: Call) -> Message:
                return await behaviour(parse(data), call)

            return await self._guarded(path, context, answer)

        return handle

    def _requests(
        self, path: str, parse: Parse, behaviour: Callable[..., Awaitable[Message]]
    ) -> Callable[..., Awaitable[Message]]:
        async def handle(stream: AsyncIterator[bytes], context: Context) -> Message:
            async def answer(call: Call) -> Message:
                return await behaviour((parse(data) async for data in stream), call)

            return await self._guarded(path, context, answer)

        return handle

    def _replies(
        self, path: str, parse: Parse, behaviour: Callable[..., AsyncGenerator[Message, None]]
    ) -> Callable[..., Awaitable[None]]:
        async def handle(data: bytes, context: Context) -> None:
            async def answer(call: Call) -> None:
                checked = self._clock.monotonic()
                async with aclosing(behaviour(parse(data), call)) as replies:
                    async for reply in replies:
                        await context.write(reply)  # waits while the client's window is full
                        if self._clock.monotonic() - checked > _READMIT_S:
                            await self._admit(self._peers.of(context.auth_context()))
                            checked = self._clock.monotonic()

            await self._guarded(path, context, answer)

        return handle

    async def _guarded(self, path: str, context: Context, answer: Callable[[Call], Awaitable[T]]) -> T:
        deadline: asyncio.Timeout | None = None
        started, code = self._clock.monotonic(), grpc.StatusCode.CANCELLED  # what it stays where the caller hangs up
        self._metrics.grpc_calls_open.inc()
        try:
            peer = self._peers.of(context.auth_context())
            limit_s = self._checked(path, peer)
            with self._counted(peer.principal):
                await self._admit(peer)
                async with asyncio.timeout(limit_s) as deadline:
                    reply = await answer(Call(peer.principal))
            code = grpc.StatusCode.OK
            return reply
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # the outermost edge of a call: whatever it was, the caller gets a status
            if deadline is not None and deadline.expired() and isinstance(error, TimeoutError):
                code, details = grpc.StatusCode.DEADLINE_EXCEEDED, f"{path} took longer than the hub allows: call again"
            else:
                code, details = status_of(error, path)
            await context.abort(code, details)
            raise  # abort never returns
        finally:
            self._count(path, code, self._clock.monotonic() - started)

    def _count(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        method = path.removeprefix("/")
        self._metrics.grpc_calls_open.dec()
        self._metrics.grpc_calls.labels(method, code.name).inc()
        self._metrics.grpc_call_seconds.labels(method).observe(seconds)

    @contextmanager
    def _counted(self, who: Principal) -> Iterator[None]:
        """Raises Exhausted for a device with too many calls at once."""
        if who.role is not Role.DEVICE:
            yield
            return
        if self._calls[who.name] >= _DEVICE_CALLS:
            raise Exhausted(f"device {who.name} has {_DEVICE_CALLS} calls open: end one first")
        self._calls[who.name] += 1
        try:
            yield
        finally:
            self._calls[who.name] -= 1
            if not self._calls[who.name]:
                del self._calls[who.name]

    def _checked(self, path: str, peer: Peer) -> float:
        """Seconds this call may last. Raises Denied."""
        rule = POLICY.get(path, Rule(frozenset()))
        who = peer.principal
        if who.role not in rule.roles:
            if (before := self._refusals.turn()) is not None:
                fields = {"method": path, "role": who.role.value, "caller": who.name, "not_logged": before}
                _log.warning("call refused", extra=fields)
            if who.role is Role.ANONYMOUS:
                raise Unauthenticated(f"{path} needs a client certificate")
            raise Denied(f"{who.role.value} {who.name} may not call {path}")
        return min(rule.limit_s, self._left_s(peer.expires_at))

    def _left_s(self, expires_at: datetime | None) -> float:
        """An open connection outlives its certificate; a call must not."""
        if expires_at is None:
            return float("inf")
        left_s = (expires_at - self._clock.now()).total_seconds()
        if left_s <= 0:
            raise Unauthenticated(f"the client certificate expired at {expires_at:%Y-%m-%d %H:%M:%S} UTC: renew it")
        return left_s


def _parser(method: MethodDescriptor) -> Parse:
    message = GetMessageClass(method.input_type)

    def parse(data: bytes) -> Message:
        try:
            request = message.FromString(data)
        except DecodeError as error:
            raise Invalid(f"the request is not a {method.input_type.full_name}") from error
        values.check(request)
        return request

    return parse

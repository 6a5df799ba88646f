"""What stands between the wire and every method: identity, policy, audit, limits, errors to status.

An interceptor of grpc.aio sees no auth context, so each handler is wrapped instead.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cloud_hub.core.call_metrics import CallMetrics, MethodFigures
from cloud_hub.core.errors import Exhausted, Invalid
from cloud_hub.core.model import Principal, Role
from cloud_hub.rpc import values
from cloud_hub.rpc.admission import Admission, Open, check
from cloud_hub.rpc.auth import Context, Door
from cloud_hub.rpc.errors import status_of
from cloud_hub.rpc.record import Record
from cloud_hub.rpc.refusals import network
from edge_agent.core.clock import Clock


@dataclass(frozen=True, slots=True)
class Call:
    """What a servicer may know about the call it answers."""

    who: Principal


Parse = Callable[[bytes], Message]  # raises Invalid

_DEVICE_CALLS = 16  # at once: a device must not take every place the server has
_STRANGER_CALLS = 16  # of one address at once: half of the places for enrolment and renewal


@dataclass(frozen=True, slots=True)
class _Method:
    path: str
    parse: Parse
    behaviour: Callable[..., Any]
    requests: bool  # the client streams
    replies: bool  # the server streams
    late: bool  # the request is read once the caller is known
    plain: bool  # one request that is there already, one reply
    door: Door
    figures: MethodFigures


class Guard:
    """Wraps servicers into handlers.

    A servicer's method takes ``(request, call)``, or ``(requests, call)`` with an async iterator where the client streams.
    It is a coroutine that returns the reply, or returns an async generator of replies where the server streams.
    """

    def __init__(
        self, *, admission: Admission, record: Record, clock: Clock, metrics: CallMetrics, user_calls: int = 128
    ) -> None:
        """``user_calls``: of one user at once."""
        self._admission = admission
        self._record = record
        self._clock = clock
        self._metrics = metrics
        self._user_calls = user_calls
        self._calls: dict[tuple[str, str, bool], int] = {}  # of each device, user and stranger's address, now

    def service(self, descriptor: ServiceDescriptor, servicer: object, door: Door) -> "grpc.GenericRpcHandler[Any, Any]":
        """Handlers of every method the contract names; AttributeError for one the servicer lacks."""
        handlers = {method.name: self._handler(method, getattr(servicer, method.name), door) for method in descriptor.methods}
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def _handler(
        self, descriptor: MethodDescriptor, behaviour: Callable[..., Any], door: Door
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        method = _Method(
            path=f"/{name}",
            parse=_parser(descriptor),
            behaviour=behaviour,
            requests=descriptor.client_streaming,
            replies=descriptor.server_streaming,
            late=door.strangers,
            plain=not (descriptor.client_streaming or descriptor.server_streaming or door.strangers),
            door=door,
            figures=self._metrics.of(name),
        )

        # a plain function: gRPC asks of each call what kind the handler is, which takes long for anything else
        async def handle(incoming: Any, context: Context) -> Message | None:
            return await self._guarded(method, incoming, context)

        # Requests come as bytes and are parsed behind the policy: a stranger's bytes are never looked at. On the wire one
        # request is a stream of one, which is how a handler gets to run before it is there: a stranger's takes no memory.
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.requests or method.late, method.replies]
        return make(handle, None, GetMessageClass(descriptor.output_type).SerializeToString)  # type: ignore[no-any-return]

    async def _guarded(self, method: _Method, incoming: Any, context: Context) -> Message | None:
        """Every call pays for each line of this."""
        code, started = "CANCELLED", self._clock.monotonic()  # what it stays where the caller hangs up
        call = Open(method.path, context, _task(), started)
        self._metrics.open += 1
        try:
            try:
                self._admission.enter(call)
                if not self._admission.recognise(call, method.door):
                    await self._admission.ask(call)
                check(call.path, call.rule, call.who, method.door.needs)
                self._take_place(call)
                if method.plain and not call.rule.changes:
                    reply = await method.behaviour(method.parse(incoming), Call(call.who))
                else:
                    reply = await self._answered(method, incoming, call)
            finally:
                self._admission.leave(call)
                self._give_place(call)
            if call.entry is not None:
                await self._record.end(call, grpc.StatusCode.OK, "")
            code = "OK"
            return reply  # type: ignore[no-any-return]
        except (Exception, asyncio.CancelledError) as error:  # the outermost edge: whatever it was, the caller gets a status
            status, details = status_of(call.cause(error), call.path)
            await self._record.end(call, status, details)
            code = status.name
            await context.abort(status, details)
            raise  # abort never returns
        finally:
            self._record.abandoned(call)
            self._metrics.open -= 1
            method.figures.ended(code, self._clock.monotonic() - started)

    async def _answered(self, method: _Method, incoming: Any, call: Open) -> Message | None:
        request: Any
        if method.requests:
            request = self._each(method, incoming, call)
            if call.rule.changes:
                request = await self._begun(request, call)
        else:
            request = method.parse(await _only(incoming) if method.late else incoming)
            if call.rule.changes:
                await self._record.begin(call, request)
        if not method.replies:
            return await method.behaviour(request, Call(call.who))  # type: ignore[no-any-return]
        async with aclosing(method.behaviour(request, Call(call.who))) as replies:
            async for reply in replies:
                await self._admission.still(call)
                call.writing = True
                await call.context.write(reply)  # waits while the client's window is full
                call.writing = False
        return None

    async def _each(self, method: _Method, incoming: AsyncIterator[bytes], call: Open) -> AsyncGenerator[Message, None]:
        async for data in incoming:
            await self._admission.still(call)
            yield method.parse(data)

    async def _begun(self, requests: AsyncGenerator[Message, None], call: Open) -> AsyncIterator[Message]:
        """The same requests, once it is in the audit log that the first one came."""
        first = await anext(requests, None)
        await self._record.begin(call, first)

        async def all_of_them() -> AsyncIterator[Message]:
            if first is not None:
                yield first
                async for request in requests:
                    yield request

        return all_of_them()

    def _take_place(self, call: Open) -> None:
        """Raises Exhausted for who has too many calls at once; of strangers it is their address that has them."""
        who = call.who
        if who.role is Role.ANONYMOUS:
            whose, place, limit = call.source, ("", network(call.source), False), _STRANGER_CALLS
        elif who.role is Role.DEVICE:
            whose, place, limit = f"device {who.name}", (who.tenant, who.name, True), _DEVICE_CALLS
        else:
            whose, place, limit = f"user {who.name}", (who.tenant, who.name, False), self._user_calls
        taken = self._calls.get(place, 0)
        if taken >= limit:
            raise Exhausted(f"{whose} has {limit} calls open: end one first")
        self._calls[place] = taken + 1
        call.place = place

    def _give_place(self, call: Open) -> None:
        if call.place is not None:
            left = self._calls[call.place] - 1
            if left:
                self._calls[call.place] = left
            else:
                del self._calls[call.place]


def _task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("gRPC runs each call in a task of its own")
    return task


async def _only(incoming: AsyncIterator[bytes]) -> bytes:
    """Raises Invalid."""
    async for data in incoming:
        return data
    raise Invalid("the call ended without a request")


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

"""Who may call, now: callers are looked up when they come, and again for as long as their calls are open."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from cloud_hub.core.audit import Audited
from cloud_hub.core.errors import Denied, HubError, Unauthenticated, Unavailable
from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.rpc.auth import Context, Door, source_of
from cloud_hub.rpc.errors import TookTooLong
from cloud_hub.rpc.policy import POLICY, Rule
from cloud_hub.rpc.refusals import Guesses
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.access import AccessService, Answer, Proof, Standing, TokenProof, Unwelcome
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom

log = logging.getLogger(__name__)

SWEEP_S = 0.5
STUCK_S = 10.0
_BLIND_S = 10.0  # open calls go on so long while the database cannot say who is welcome
_USES_S = 30.0
_TOKEN_TRIES, _TOKEN_TRIES_PER_S = 10, 0.2
_COMPLAINTS_S = 30.0
_NOBODY = Principal(role=Role.ANONYMOUS, name="")
_NONE = Rule(roles=frozenset())


class Open:
    """A call from its beginning to its end."""

    __slots__ = (
        "context", "dropped", "ended", "entry", "path", "place", "proof", "rule", "source", "task", "until", "who", "whose",
        "writing",
    )  # fmt: skip

    def __init__(self, path: str, context: Context, task: "asyncio.Task[object]", now: float) -> None:
        self.path = path
        self.context = context
        self.source = source_of(context.peer())  # now: asked once the call has ended, gRPC brings the process down
        self.task = task
        self.rule = rule = POLICY.get(path, _NONE)
        self.until = now + rule.limit_s
        self.proof: Proof | None = None
        self.who = _NOBODY
        self.whose: Principal | None = None  # of what was refused, where that is known
        self.place: tuple[str, str, bool] | None = None  # among the calls of one caller
        self.writing = False  # a reply that the client may not be reading
        self.ended: HubError | None = None  # why the hub ends it
        self.dropped = False  # without a word, because none can be sent
        self.entry: Audited | None = None  # that it has begun stands in the audit log

    def end(self, why: HubError, now: float) -> None:
        """Whatever it waits for, it waits no longer. Only a write has to be let be: gRPC sends no status into the middle of
        one. Nothing is sent after it, and if nobody reads it for ``STUCK_S``, the call is dropped."""
        if self.ended is None:
            self.ended, self.until = why, now + STUCK_S
            if not self.writing:
                self.task.cancel()
        elif self.writing and not self.dropped and self.until <= now:
            self.dropped = True
            self.task.cancel()

    def cause(self, error: BaseException) -> Exception:
        """What a cancellation stands for. Raises it where there is nobody to be told: the caller has gone, or the server
        stops."""
        if isinstance(error, Exception):
            return error
        if self.ended is None or self.dropped or self.task.uncancel() > 0:
            raise error
        return self.ended


class Admission:
    """Everything but ``start`` belongs to the event loop."""

    def __init__(self, access: AccessService, threads: Threads, clock: Clock) -> None:
        self._access = access
        self._threads = threads
        self._clock = clock
        self._own = Threads(1)  # the sweep never waits in line behind use cases
        self._open: set[Open] = set()
        self._asked: dict[Proof, asyncio.Future[Standing]] = {}
        self._guesses = Guesses(_TOKEN_TRIES, _TOKEN_TRIES_PER_S, clock)
        self._complaints = Seldom(_COMPLAINTS_S, clock)
        self._seen_at = clock.monotonic()
        self._uses_at = clock.monotonic()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on open calls are looked after."""
        loop = asyncio.get_running_loop()
        self._unlisten = self._access.listen(lambda: _tell(loop, self._changed))
        self._task = asyncio.create_task(self._sweeps(), name="access sweep")

    async def stop(self) -> None:
        if self._task is not None:
            self._unlisten()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._write_uses()
        self._own.close()

    def recognise(self, call: Open, door: Door) -> bool:
        """Fill in who calls, from memory; False: ``ask``. Raises Unauthenticated for what cannot be anybody's."""
        call.proof = proof = door.show(call.context)
        if proof is None:
            return True
        standing = self._access.known(proof)
        if standing is None:
            return False
        call.who = standing.who
        return True

    async def ask(self, call: Open) -> None:
        """Fill in who calls, from the database. Raises Unauthenticated, Exhausted, Unavailable."""
        if call.proof is not None:
            call.who = (await self._ask(call.proof, call)).who

    def enter(self, call: Open) -> None:
        self._open.add(call)

    def leave(self, call: Open) -> None:
        """From now on nothing ends it but itself."""
        self._open.discard(call)

    async def still(self, call: Open) -> None:
        """For each message of a stream: raises what ended the call, or what the caller has come to."""
        if call.ended is not None:
            raise call.ended
        if call.proof is not None and self._access.known(call.proof) is None:
            standing = await self._ask(call.proof, call)
            check(call.path, call.rule, standing.who, "")

    async def sweep(self) -> None:
        """End the calls whose time is up, and then those of whoever may no longer call."""
        now = self._clock.monotonic()
        for call in [call for call in self._open if call.until <= now]:
            call.end(TookTooLong(f"{call.path} took longer than the hub allows: call again"), now)
        proofs = {call.proof for call in self._open if call.proof is not None and call.ended is None}
        if not proofs:
            self._seen_at = self._clock.monotonic()
            return
        try:
            answers = await self._own.call(self._access.review, proofs)
            self._seen_at = now = self._clock.monotonic()
            _settle(tuple(self._open), answers, now)
        except Exception as error:  # outermost edge of a round: the sweep must outlive whatever the database does
            if (before := self._complaints.turn()) is not None:
                log.error("open calls cannot be looked after", exc_info=error, extra={"not_logged": before})
            self._blind()

    async def _ask(self, proof: Proof, call: Open) -> Standing:
        """One question for all calls that come with the same proof at once."""
        if isinstance(proof, TokenProof):
            self._guesses.check(call.source, proof)
        asked = self._asked.get(proof)
        if asked is None:
            asked = asyncio.ensure_future(self._threads.call(self._access.admit, proof))
            self._asked[proof] = asked
            asked.add_done_callback(lambda done: self._answered(proof, call.source, done))
        try:
            return await asyncio.shield(asked)
        except Unwelcome as error:
            call.whose = error.whose
            raise

    def _answered(self, proof: Proof, source: str, done: "asyncio.Future[Standing]") -> None:
        del self._asked[proof]
        error = None if done.cancelled() else done.exception()
        if isinstance(proof, TokenProof):
            if isinstance(error, Unwelcome) and error.whose is None:
                self._guesses.wrong(source)
            elif error is None and not done.cancelled():
                self._guesses.right(proof)

    async def _sweeps(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._changed.wait()
            self._changed.clear()
            await self.sweep()
            if self._clock.monotonic() - self._uses_at > _USES_S:
                self._uses_at = self._clock.monotonic()
                self._writing = asyncio.create_task(self._write_uses())  # a writer may wait for seconds, the sweep must not

    async def _write_uses(self) -> None:
        try:
            await self._threads.call(self._access.write_uses)
        except HubError as error:
            log.warning("when tokens were used could not be noted", extra={"error": str(error)})

    def _blind(self) -> None:
        """Nobody is welcome for ever on the strength of an old answer."""
        if self._clock.monotonic() - self._seen_at > _BLIND_S:
            for call in tuple(self._open):
                if call.proof is not None:
                    call.end(Unavailable("the hub cannot tell now who is welcome: call again"), self._clock.monotonic())


def check(path: str, rule: Rule, who: Principal, needs: str) -> None:
    """Raises Denied."""
    if who.role not in rule.roles:
        if who.role is Role.ANONYMOUS:
            raise Unauthenticated(f"{path} needs {needs}")
        raise Denied(f"{who.role.value} {who.name} may not call {path}")
    if rule.hub_wide and who.tenant != DEFAULT_TENANT:
        raise Denied(f"{path} is about the whole hub: only users of tenant {DEFAULT_TENANT} may call it")


def _settle(calls: Iterable[Open], answers: dict[Proof, Answer], now: float) -> None:
    for call in calls:
        answer = answers.get(call.proof) if call.proof is not None and not call.rule.on_itself else None
        if isinstance(answer, Unwelcome):
            call.end(answer, now)
        elif answer is not None:
            try:
                check(call.path, call.rule, answer.who, "")
            except Denied as error:
                call.end(error, now)


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: there are no calls left to end
        loop.call_soon_threadsafe(event.set)

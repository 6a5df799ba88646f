"""A challenger beside the model that runs: a share of the frames, in a thread and a worker of its own."""

import contextlib
import logging
import queue
import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from random import Random

from edge_agent.app.keep import Keeper, Wanted
from edge_agent.app.meter import Meter
from edge_agent.app.perceive import Seen
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock
from edge_agent.core.config import InferConfig
from edge_agent.core.errors import BadFrame, BadModel, InferenceError
from edge_agent.core.model import Prediction
from edge_agent.decide.shadow import DISAGREEMENT, Tally, TimeShare
from edge_agent.infer import canary, runtimes
from edge_agent.infer.life import START_S, Limits
from edge_agent.infer.model import Model
from edge_agent.infer.process import Process
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.update.challenger import Sight
from edge_agent.update.slots import Slot
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.ids import Digest, digest_of
from protos.contract.manifest import Manifest
from protos.contract.outputs import Values
from protos.contract.twin import Challenger, Fit, ShadowReport

log = logging.getLogger(__name__)


class Shadow:
    """``update.challenger.Stage``, and what the perceiver shows its frames. Its answers are compared, and nothing else.

    ``show`` and ``look`` are for any thread, the rest for the challenger's own.
    """

    def __init__(
        self, config: InferConfig, keeper: Keeper, budget: Budget, clock: Clock, *, chance: Callable[[], float] | None = None
    ) -> None:
        """``chance``: 0 <= chance < 1, by which frames are sampled."""
        self._config, self._keeper, self._budget, self._clock = config, keeper, budget, clock
        self._chance = chance or Random().random
        self._match: Match | None = None

    def show(self, seen: Seen) -> None:
        """Never blocks, never raises."""
        if (match := self._match) is not None:
            match.show(seen)

    def unrunnable(self, manifest: Manifest) -> str:
        try:
            runtimes.choose(manifest.format)
        except BadModel as error:
            return str(error)
        return ""

    def verify(self, slot: Slot) -> Fit:
        config = self._config
        return canary.try_model(slot.manifest, slot.model, slot.golden, config.golden_timeout_s, threads=config.threads)

    def begin(self, slot: Slot, challenger: Challenger, so_far: ShadowReport) -> None:
        self.end()
        try:
            data = slot.manifest.read_bytes()
            manifest = codec.decode_manifest(data)
        except (OSError, ContractError) as error:
            raise BadModel(f"slot {slot.name}: {error}") from error
        runtime = RemoteRuntime(
            manifest,
            slot.model,
            threads=self._config.threads,
            limits=Limits(start_s=max(START_S, self._config.golden_timeout_s)),
            begin=lambda: Process(spare=True),
        )
        self._match = Match(
            digest_of(data),
            manifest,
            runtime,
            challenger,
            so_far,
            keep=self._keep,
            chance=self._chance,
            clock=self._clock,
        )

    def look(self) -> Sight | None:
        match = self._match
        return match.look() if match is not None else None

    def end(self) -> None:
        match, self._match = self._match, None
        if match is not None:
            match.close()

    def _keep(self, seen: Seen, told: Callable[[bool], None]) -> None:
        """Within the budget of all captures; what the champion's policy keeps by itself is kept once."""
        if seen.outcome.captured or not self._budget.take():
            return
        self._keeper.offer(
            Wanted(
                observation=seen.observation,
                prediction=seen.prediction,
                outcome=seen.outcome,
                reason=DISAGREEMENT,
                labels=seen.labels,
                told=told,
            )
        )


class Match:
    """One challenger that runs. ``show`` is for the perceiver's thread, ``look`` for any."""

    def __init__(
        self,
        digest: Digest,
        manifest: Manifest,
        runtime: RemoteRuntime,
        challenger: Challenger,
        so_far: ShadowReport,
        *,
        keep: Callable[[Seen, Callable[[bool], None]], None],
        chance: Callable[[], float],
        clock: Clock,
    ) -> None:
        """``runtime`` is closed with it."""
        self._digest, self._runtime = digest, runtime
        self._model = Model(manifest, runtime)
        self._share, self._time = challenger.share, TimeShare(challenger.max_share_of_time)
        self._so_far, self._keep, self._chance, self._clock = so_far, keep, chance, clock
        self._lock = threading.Lock()  # over _tally: three threads count
        self._tally = Tally.of(so_far)
        self._champion, self._challenger = Meter(), Meter()
        self._unlike = ""  # why it cannot be compared with what runs
        self._waiting: queue.Queue[Seen | None] = queue.Queue(maxsize=1)  # a frame of a large camera has 25 MB
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def show(self, seen: Seen) -> None:
        """Sample it; one that finds the challenger busy, or out of time, is skipped."""
        self._time.earn(seen.prediction.latency_ms)
        self._unlike = self._difference(seen)
        if self._unlike or self._chance() >= self._share:
            return
        if not self._time.affords():
            self._count(skipped=1)
            return
        try:
            self._waiting.put_nowait(seen)
        except queue.Full:
            self._count(skipped=1)

    def look(self) -> Sight:
        report = self._tally.told(self._so_far)
        if self._challenger.inferences:
            p50_ms, p95_ms = self._challenger.latency_ms()
            champion_ms = self._champion.latency_ms()[1]
            report = replace(report, champion_p95_ms=champion_ms, challenger_p50_ms=p50_ms, challenger_p95_ms=p95_ms)
        report = replace(report, problem=self._unlike)
        return Sight(report=report, crashes=self._runtime.crashes, last_crash=self._runtime.last_crash)

    def close(self) -> None:
        """On return thread and worker are gone, and nothing is counted any more."""
        self._closing = True
        self._runtime.close()  # an inference under way ends with its worker
        with contextlib.suppress(queue.Full):  # it wakes for the one that waits, and sees that it is over
            self._waiting.put_nowait(None)
        self._thread.join()

    def _difference(self, seen: Seen) -> str:
        if seen.outcome.model == self._digest:
            return "it is the model that runs"
        if not self._comparable(seen) and set(seen.labels) != set(self._model.labels):
            return "it knows other classes than the model that runs"
        return ""

    def _comparable(self, seen: Seen) -> bool:
        """Whether both give the same numbers; their bins are each one's own."""
        one, other = seen.output, self._model.manifest.output
        return (
            isinstance(one, Values) and isinstance(other, Values) and (one.names, one.headline) == (other.names, other.headline)
        )

    def _agrees(self, seen: Seen, prediction: Prediction) -> bool:
        """The same label, or a number in the same one of the champion's bins."""
        if isinstance(seen.output, Values) and prediction.value is not None:
            return bisect_right(seen.output.edges, prediction.value) == seen.prediction.label
        return self._model.labels[prediction.label] == seen.labels[seen.prediction.label]

    def _run(self) -> None:
        while (seen := self._waiting.get()) is not None and not self._closing:
            try:
                self._compare(seen)
            except Exception:  # a thread's outermost edge: the challenger goes on with the next frame
                log.exception("challenger not compared")
                self._count(errors=1)

    def _compare(self, seen: Seen) -> None:
        started = self._clock.monotonic()
        try:
            prediction = self._model.predict(seen.observation.content)
        except (BadFrame, InferenceError) as error:
            if not self._closing:
                self._challenger.failed(str(error))
                self._count(errors=1)
            return
        finally:
            self._time.spend((self._clock.monotonic() - started) * 1e3)
        agree = self._agrees(seen, prediction)
        self._champion.succeeded(seen.prediction.latency_ms)
        self._challenger.succeeded(prediction.latency_ms)
        with self._lock:
            self._tally = self._tally.compared(
                agree=agree, champion=seen.prediction.confidence, challenger=prediction.confidence
            )
        if not agree:
            self._keep(seen, lambda kept: self._count(captured=int(kept)))

    def _count(self, **more: int) -> None:
        with self._lock:
            self._tally = self._tally.counted(**more)

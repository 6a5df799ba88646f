"""The running agent, as an update needs it: ``update.surroundings.Runner`` over infer, decide and the perceiver."""

import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random

from edge_agent.app.meter import Meter
from edge_agent.app.perceive import Active, Perceiver
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.config import AgentConfig
from edge_agent.core.errors import BadModel
from edge_agent.core.model import Happening
from edge_agent.decide.policy import Policy
from edge_agent.infer import canary, runtimes
from edge_agent.infer.life import START_S, Limits
from edge_agent.infer.model import Model
from edge_agent.infer.process import Process
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.update.probation import Vitals
from edge_agent.update.slots import Slot
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.ids import digest_of
from protos.contract.manifest import Manifest
from protos.contract.telemetry import MAX_TEXT
from protos.contract.twin import Fit

log = logging.getLogger(__name__)


class ModelRunner:
    """Models run in workers; this process never loads one."""

    def __init__(
        self,
        perceiver: Perceiver,
        config: AgentConfig,
        budget: Budget,
        *,
        blank: Process | None = None,
        tell: Callable[[Happening], None] = lambda _: None,
        crashed: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        """``blank``: a process begun before all else, for the first model; it is closed by ``dismiss`` where there was none."""
        self._perceiver, self._config, self._budget = perceiver, config, budget
        self._blank, self._tell, self._clock = blank, tell, clock or SystemClock()
        self._crashed = crashed
        self._runtime: RemoteRuntime | None = None

    def unrunnable(self, manifest: Manifest) -> str:
        try:
            runtimes.choose(manifest.format)
        except BadModel as error:
            return str(error)
        return ""

    def verify(self, slot: Slot) -> Fit:
        infer = self._config.infer
        return canary.try_model(slot.manifest, slot.model, slot.golden, infer.golden_timeout_s, threads=infer.threads)

    def activate(self, slot: Slot | None) -> None:
        """The model before it serves until this one is ready in a worker of its own, and only then ends."""
        loaded = self._load(slot) if slot is not None else None
        before = self._runtime
        self._perceiver.swap(loaded[0] if loaded is not None else None)
        self._runtime = loaded[1] if loaded is not None else None
        if before is not None:
            before.close()

    def vitals(self) -> Vitals:
        active, runtime = self._perceiver.active, self._runtime
        if active is None or runtime is None:
            return Vitals()
        seen = active.meter.vitals(busy_s=self._perceiver.busy_s())
        return replace(seen, crashes=runtime.crashes, last_crash=runtime.last_crash)

    def dismiss(self) -> None:
        """No model came at the start: the process that was begun for it is not kept."""
        if (blank := self._blank) is not None:
            self._blank = None
            blank.close()

    def close(self) -> None:
        """End the worker; after the last ``activate``."""
        self.dismiss()
        if self._runtime is not None:
            self._runtime.close()

    def _load(self, slot: Slot) -> tuple[Active, RemoteRuntime]:
        try:
            data = slot.manifest.read_bytes()
            manifest = codec.decode_manifest(data)
        except (OSError, ContractError) as error:
            raise BadModel(f"slot {slot.name}: {error}") from error
        digest = digest_of(data)
        policy = Policy(manifest.output, self._config.capture, Random(), self._budget, model=digest)
        blank, self._blank = self._blank, None
        limits = Limits(start_s=max(START_S, self._config.infer.golden_timeout_s))  # what passed the canary can start, too
        runtime = RemoteRuntime(
            manifest, slot.model, threads=self._config.infer.threads, limits=limits, blank=blank, lost=self._lost
        )
        return Active(digest=digest, loaded=Model(manifest, runtime), policy=policy, meter=Meter()), runtime

    def _lost(self, reason: str, crashes: int) -> None:
        """Told the 1st, 2nd, 4th, 8th ... time of a model: one that dies all day must not fill the spool."""
        self._perceiver.workers_lost += 1
        self._crashed()
        if crashes & (crashes - 1) == 0:
            detail = f"{crashes} so far: {reason}"[:MAX_TEXT]
            self._tell(Happening(at=self._clock.now(), kind="inference.worker_lost", detail=detail))

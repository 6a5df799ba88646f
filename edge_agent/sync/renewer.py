"""The thread that keeps the certificate of a running agent good."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.config import SyncConfig
from edge_agent.core.errors import AgentError, Refused
from edge_agent.core.model import Happening
from edge_agent.core.ports import CertificateStats
from edge_agent.sync import certificate
from edge_agent.sync.certificate import Certificate
from edge_agent.sync.identity import Identity
from edge_agent.sync.keys import Keys
from edge_agent.sync.renew import GAP, due_in_s, renew, renew_at
from protos.contract.telemetry import from_ms, to_ms

log = logging.getLogger(__name__)

LOOK_S = 5.0  # between looks at the clock, which may jump, and at the identity, which may be renewed by hand
REFUSED_FACTOR = 60  # who was refused asks so much more seldom than who was not heard


class Renewer:
    """Keeps the identity of a running agent good. ``ask``, ``doubt``, ``trusted``, ``stats`` and ``stop`` are for any thread.

    It renews in time, when the hub asks for it, and when the hub or its broker does not take the certificate, which may have
    expired by a clock that is right. Who was refused asks ever more seldom, up to an hour; it never gives up.
    """

    def __init__(
        self,
        identity: Identity,
        keys: Keys,
        config: SyncConfig,
        clock: Clock,
        *,
        replaced: Callable[[], None],
        tell: Callable[[Happening], None],
    ) -> None:
        """``replaced``: the identity on the disk is another one, by us or by hand."""
        self._identity, self._keys, self._clock = identity, keys, clock
        self._replaced, self._tell = replaced, tell
        self._failing = Backoff(config.backoff_min_s, config.backoff_max_s)
        self._refused = Backoff(config.backoff_max_s, REFUSED_FACTOR * config.backoff_max_s)
        self._lock = threading.Lock()  # over the three below
        self._wanted: datetime | None = identity.receipt().answers  # newest renew_before
        self._doubt = ""  # why somebody did not take the certificate
        self._doubted_from = 0.0  # monotonic: a doubt is not acted upon before
        self._not_before = 0.0  # monotonic, of the next try
        self._rested_until = 0.0  # monotonic: however often the clock jumps meanwhile, nothing is due
        self._version = identity.version()
        self._held = _readable(identity)
        self._problem = "" if self._held else "the certificate cannot be read: enrol again"
        self._renewals = 0
        self._wake = threading.Event()
        self._stopping = False

    def run(self) -> None:
        """Until ``stop``."""
        while not self._stopping:
            self._wake.clear()
            try:
                pause_s = self.step()
            except Exception as error:  # the thread's outermost edge: without it the certificate would expire
                log.exception("renewal failed")
                self._problem = f"{type(error).__name__}: {error}"
                pause_s = self._failing.next()
            if not self._stopping:
                self._wake.wait(min(max(pause_s, 0.01), LOOK_S))

    def stop(self) -> None:
        """End ``run``; a call under way may go on for a while, and is repeated after the next start."""
        self._stopping = True
        self._wake.set()

    def ask(self, before: datetime | None) -> None:
        """The hub wants a certificate issued before then renewed. One it has asked for already is not renewed again."""
        if before is None:
            return
        before = from_ms(to_ms(before))  # as a receipt keeps it
        with self._lock:
            if self._wanted is not None and before <= self._wanted:
                return
            self._wanted = before
        self._wake.set()

    def doubt(self, reason: str) -> None:
        """Somebody at the hub did not take the certificate."""
        with self._lock:
            if not self._doubt:
                self._doubted_from = self._clock.monotonic() + self._refused.next()
            self._doubt = reason
        self._wake.set()

    def trusted(self) -> None:
        """The certificate was taken."""
        with self._lock:
            self._doubt = ""
            self._refused.reset()

    def stats(self) -> CertificateStats:
        held, doubt = self._held, self._doubt
        problem = self._problem or (f"the hub does not take the certificate: {doubt}" if doubt else "")
        if held is None:
            return CertificateStats(problem=problem, renewals=self._renewals)
        return CertificateStats(
            serial=held.serial,
            not_before=held.not_before,
            not_after=held.not_after,
            renew_at=renew_at(held, self._identity.device_id),
            renewals=self._renewals,
            problem=problem,
        )

    def step(self) -> float:
        """Do what there is to do; seconds until there may be more."""
        self._look()
        now = self._clock.monotonic()
        reason, wait_s = self._reason(now)
        if wait_s > 0:
            if not reason:
                self._problem = ""
            return wait_s
        if now < self._not_before:
            return self._not_before - now
        with self._lock:
            wanted = self._wanted
        try:
            renewed = renew(self._identity.folder.parent, self._keys, self._clock, answers=wanted, unless=self._version)
        except AgentError as error:
            return self._put_off(reason, error)
        if renewed is not None:
            self._succeeded(renewed, reason, now)
        self._look()
        return 0.0

    def _reason(self, now: float) -> tuple[str, float]:
        """Why to renew, or empty, and in how many seconds."""
        held = self._held
        if held is None:
            return "unreadable", float("inf")
        receipt = self._identity.receipt()
        with self._lock:
            answered = self._wanted is None or (receipt.answers is not None and self._wanted <= receipt.answers)
            if self._wanted is not None and not answered and self._wanted > held.not_before:
                return "the hub asks for it", 0.0
            doubted = (self._doubt, self._doubted_from - now)
        due_s = due_in_s(held, receipt.at, self._identity.device_id, self._clock.now())
        due_s = max(due_s, self._rested_until - now)
        if due_s <= 0:
            return "due", 0.0
        if doubted[0]:
            return doubted[0], min(doubted[1], due_s)
        return "", due_s

    def _put_off(self, reason: str, error: AgentError) -> float:
        refused = isinstance(error, Refused)
        pause_s = (self._refused if refused else self._failing).next()
        now = self._clock.monotonic()
        self._not_before = now + pause_s
        with self._lock:
            self._doubted_from = now + pause_s
        log.warning("certificate not renewed", extra={"why": reason, "error": str(error), "pause_s": round(pause_s, 1)})
        if refused and not self._problem:
            self._tell(Happening(at=self._clock.now(), kind="certificate.refused", detail=str(error)[:500]))
        self._problem = str(error)
        return pause_s

    def _succeeded(self, renewed: Certificate, reason: str, now: float) -> None:
        self._renewals += 1
        self._problem = ""
        self._failing.reset()
        self._not_before = 0.0
        self._rested_until = now + min(renewed.life, timedelta(days=3650)).total_seconds() * GAP
        with self._lock:
            self._doubt = ""
        expires = renewed.not_after.isoformat(timespec="seconds")
        log.info("certificate renewed", extra={"why": reason, "serial": renewed.serial, "expires": expires})
        self._tell(Happening(at=self._clock.now(), kind="certificate.renewed", detail=f"{reason}; expires {expires}"[:500]))

    def _look(self) -> None:
        version = self._identity.version()
        if version == self._version:
            return
        self._version, self._held = version, _readable(self._identity)
        self._problem = "" if self._held else "the certificate cannot be read: enrol again"
        self._not_before = 0.0
        self._replaced()


def _readable(identity: Identity) -> Certificate | None:
    try:
        return certificate.read(identity.credential().certificate_pem)
    except AgentError as error:
        log.error("the certificate cannot be read", extra={"error": str(error)})
        return None

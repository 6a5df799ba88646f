"""Whoever is refused again and again costs the hub little: so many entries, log lines and look-ups, and no more."""

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from cloud_hub.core.errors import Exhausted
from cloud_hub.core.model import Principal
from cloud_hub.services.access import Proof
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom

K = TypeVar("K", bound=Hashable)

_LINES_EVERY_S = 1.0
_STRANGER = ""  # all of them share one allowance
_PROVEN = 4096


class Allowances(Generic[K]):
    """Each key has ``burst`` at once and ``per_s`` afterwards. Of ``keys`` that came last; an older one starts anew."""

    def __init__(self, burst: int, per_s: float, clock: Clock, *, keys: int = 4096) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._keys = keys
        self._left: OrderedDict[K, tuple[float, float]] = OrderedDict()  # how many are left, and when that was

    def left(self, key: K) -> float:
        left, at = self._left.get(key, (float(self._burst), 0.0))
        return min(self._burst, left + (self._clock.monotonic() - at) * self._per_s)

    def take(self, key: K) -> bool:
        """False where there is none left."""
        left = self.left(key)
        self._left.pop(key, None)
        self._left[key] = (max(left - 1.0, 0.0) if left >= 1.0 else left, self._clock.monotonic())
        if len(self._left) > self._keys:
            self._left.popitem(last=False)
        return left >= 1.0


class Denials:
    """Says which denied calls are told; the others are counted with the next one that is."""

    def __init__(self, clock: Clock) -> None:
        self._lines = Seldom(_LINES_EVERY_S, clock)
        self._strangers: Allowances[str] = Allowances(1, 1.0, clock)
        self._known: Allowances[Principal] = Allowances(30, 1.0, clock, keys=1024)
        self._kept_back: OrderedDict[Principal | None, int] = OrderedDict()

    def line(self) -> int | None:
        """As ``Seldom.turn``: of the hub's log."""
        return self._lines.turn()

    def entry(self, who: Principal | None) -> int | None:
        """As ``Seldom.turn``: of the audit log. ``who``: None for a stranger."""
        if self._strangers.take(_STRANGER) if who is None else self._known.take(who):
            return self._kept_back.pop(who, 0)
        self._kept_back[who] = self._kept_back.pop(who, 0) + 1
        if len(self._kept_back) > 1024:
            self._kept_back.popitem(last=False)
        return None


class Guesses:
    """Slows whoever tries secrets: an address has ``burst`` wrong ones, and ``per_s`` more afterwards.

    One that was right once is never held up by what others try from the same address.
    """

    def __init__(self, burst: int, per_s: float, clock: Clock) -> None:
        self._tries: Allowances[str] = Allowances(burst, per_s, clock)
        self._proven: OrderedDict[Proof, None] = OrderedDict()

    def check(self, source: str, proof: Proof | None = None) -> None:
        """Raises Exhausted."""
        if proof not in self._proven and self._tries.left(network(source)) < 1.0:
            raise Exhausted("too much from this address was refused: wait some seconds")

    def wrong(self, source: str) -> None:
        self._tries.take(network(source))

    def right(self, proof: Proof) -> None:
        self._proven[proof] = None
        self._proven.move_to_end(proof)
        if len(self._proven) > _PROVEN:
            self._proven.popitem(last=False)


def network(source: str) -> str:
    """Whoever has one IPv6 address has the 2^64 beside it."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else source

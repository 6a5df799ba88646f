"""Which messages the broker has still to answer for."""

import threading


class Outbox:
    """Thread-safe. Messages are numbered on over connections, because packet ids begin anew with each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: dict[int, tuple[int, int]] = {}  # packet id -> number and bytes, in the order of numbers
        self._early: set[int] = set()  # answered before ``add``: the client publishes first and then says the id
        self.waiting_bytes = 0

    def add(self, packet: int, size: int) -> int:
        """The message's number."""
        with self._lock:
            self._number += 1
            if packet in self._early:
                self._early.remove(packet)
            else:
                self._waiting[packet] = (self._number, size)
                self.waiting_bytes += size
            return self._number

    def answered(self, packet: int) -> None:
        with self._lock:
            found = self._waiting.pop(packet, None)
            if found is None:
                self._early.add(packet)
            else:
                self.waiting_bytes -= found[1]

    @property
    def answered_through(self) -> int:
        """Every message up to this number is answered for."""
        with self._lock:
            return next(iter(self._waiting.values()))[0] - 1 if self._waiting else self._number

    def clear(self) -> None:
        """A new connection owes nothing."""
        with self._lock:
            self._waiting.clear()
            self._early.clear()
            self.waiting_bytes = 0

"""Use case of datasheets: what a data set holds, as a document that is made beside the hub."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from cloud_hub.core.errors import Invalid, Unavailable
from cloud_hub.core.model import Principal
from protos.contract.ids import TenantId

AT_ONCE = 2  # each takes a core, and the memory of some thousand samples
WAITING = 1  # of a tenant, beside the one that is being made; each holds a thread of the hub
_WAIT_S = 20.0  # for its turn; a client may ask again


class Maker(Protocol):
    def __call__(self, manifest: bytes, *, json: bool) -> bytes:
        """The document of what a version lists, UTF-8: an HTML page, or its figures alone.

        Raises Unavailable where it took too long, Invalid where it cannot be made.
        """


class Versions(Protocol):
    def manifest(self, who: Principal, dataset: str, number: int) -> bytes:
        """What a version lists; of number 0 what the data set holds now. Raises NotFound."""


def no_maker(manifest: bytes, *, json: bool) -> bytes:
    raise Invalid("this hub makes no datasheets")


class DatasheetService:
    def __init__(self, versions: Versions, maker: Maker = no_maker, *, wait_s: float = _WAIT_S) -> None:
        self._versions = versions
        self._maker = maker
        self._turns = _Turns(wait_s)

    def make(self, who: Principal, dataset: str, version: int = 0, *, json: bool = False) -> bytes:
        """``version`` 0: what the data set holds now. Raises NotFound, Invalid, Unavailable."""
        manifest = self._versions.manifest(who, dataset, version)
        with self._turns.of(who.tenant):
            return self._maker(manifest, json=json)


class _Turns:
    """AT_ONCE for all and one of each tenant at a time. Who had the last turn longest ago is next, however often others ask."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._making: set[TenantId] = set()
        self._waiting: list[TenantId] = []
        self._served: dict[TenantId, int] = {}  # number of the last turn

    @contextlib.contextmanager
    def of(self, tenant: TenantId) -> Iterator[None]:
        """Raises Unavailable."""
        with self._changed:
            if self._waiting.count(tenant) + (tenant in self._making) > WAITING:
                raise Unavailable(f"{WAITING + 1} datasheets are being made for tenant {tenant}: try again")
            self._waiting.append(tenant)
            try:
                if not self._changed.wait_for(lambda: self._is_next(tenant), self._wait_s):
                    raise Unavailable("other datasheets are being made: try again")
            finally:
                self._waiting.remove(tenant)
                self._changed.notify_all()
            self._making.add(tenant)
            self._served[tenant] = max(self._served.values(), default=0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._making.discard(tenant)
                self._changed.notify_all()

    def _is_next(self, tenant: TenantId) -> bool:
        if len(self._making) >= AT_ONCE or tenant in self._making:
            return False
        free = [other for other in self._waiting if other not in self._making]
        return tenant == min(free, key=lambda other: self._served.get(other, 0))

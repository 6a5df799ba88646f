"""Use case of datasheets: what a data set holds, as a document that is made beside the hub."""

import threading
from typing import Protocol

from cloud_hub.core.errors import Invalid, Unavailable
from cloud_hub.core.model import Principal
from cloud_hub.services.dataset_versions import VersionService

_WAIT_S = 20.0  # for the one that is being made; a client may ask again


class Maker(Protocol):
    def __call__(self, manifest: bytes, *, json: bool) -> bytes:
        """The document of what a version lists, UTF-8: an HTML page, or its figures alone.

        Raises Unavailable where it took too long, Invalid where it cannot be made.
        """


def no_maker(manifest: bytes, *, json: bool) -> bytes:
    raise Invalid("this hub makes no datasheets")


class DatasheetService:
    def __init__(self, versions: VersionService, maker: Maker = no_maker) -> None:
        self._versions = versions
        self._maker = maker
        self._one = threading.Semaphore(1)  # at a time: each takes a core, and the memory of some thousand samples

    def make(self, who: Principal, dataset: str, version: int = 0, *, json: bool = False) -> bytes:
        """``version`` 0: what the data set holds now. Raises NotFound, Invalid, Unavailable."""
        manifest = self._versions.manifest(who, dataset, version)
        if not self._one.acquire(timeout=_WAIT_S):
            raise Unavailable("another datasheet is being made: try again")
        try:
            return self._maker(manifest, json=json)
        finally:
            self._one.release()

"""Signs the image repository in the database. Everything here works in the caller's write transaction: writers of all processes
come one at a time, so no version is ever signed twice, and a timestamp is there together with what it names or not at all.
"""

import logging
from collections.abc import Iterable
from datetime import datetime

from tuf.api.metadata import Root

from cloud_hub.core.errors import NotReady
from cloud_hub.core.targets import BIN_PREFIX, IMAGE
from cloud_hub.store import targets, trust
from cloud_hub.store.database import Tx
from cloud_hub.store.trust import Stored
from cloud_hub.trust.tuf import image, roots
from cloud_hub.trust.tuf.image import BIN_ROLES, SNAPSHOT, TARGETS, TIMESTAMP, Signers, Work
from cloud_hub.trust.tuf.keys import OnlineKeys
from cloud_hub.trust.tuf.signing import File

log = logging.getLogger(__name__)

BINS_A_ROUND = 64  # bounds a transaction: everybody else waits for it


class ImageSigning:
    """Thread-safe within write transactions."""

    def __init__(self, keys: OnlineKeys) -> None:
        self._keys = keys
        self._known: tuple[tuple[int, int], Signers] | None = None  # by the versions of root and targets, which name the keys

    def wanted(self, tx: Tx, now: datetime) -> bool:
        """Whether there is something to sign; no write transaction is needed to ask."""
        if not trust.root_version(tx, IMAGE):
            return False
        return targets.any_waiting(tx) or bool(trust.due(tx, IMAGE, now, 1))

    def round(self, tx: Tx, now: datetime) -> bool:
        """Sign what waits and what is due, up to BINS_A_ROUND bins of each; whether anything was signed and more is left.

        Raises:
            NotReady: a key is missing.
        """
        if not trust.root_version(tx, IMAGE):
            return False
        waiting, due = targets.waiting_bins(tx, BINS_A_ROUND), trust.due(tx, IMAGE, now, BINS_A_ROUND)
        if not waiting and not due:
            return False
        bins = {*waiting, *(role for role in due if role.startswith(f"{BIN_PREFIX}-"))}
        self._sign(tx, bins, self.signers(tx), now, all_targets=TARGETS in due, snapshot=SNAPSHOT in due)
        return self.wanted(tx, now)

    def all_again(self, tx: Tx, root: Root, now: datetime) -> None:
        """With the keys of a new root, which is stored by the caller; bins only where their key is another one.

        Raises:
            NotReady: a key is missing.
        """
        last = trust.find(tx, IMAGE, TARGETS)
        newest = self._keys.newest(IMAGE, "bins")
        if newest is None:
            raise NotReady("the hub has no key for the bins: make one with 'hubctl trust rotate --online bins'")
        changed = last is None or image.bins_key_of(last) != newest.id
        signers = self._signers(root, newest.id)
        self._sign(tx, BIN_ROLES if changed else (), signers, now, all_targets=True, snapshot=True)

    def signers(self, tx: Tx) -> Signers:
        """As the newest root and targets name them. Raises NotReady."""
        named_by = (trust.root_version(tx, IMAGE), self._version(tx, TARGETS))
        if self._known is None or self._known[0] != named_by:
            root, delegation = trust.find(tx, IMAGE, trust.ROOT), trust.find(tx, IMAGE, TARGETS)
            if root is None or delegation is None:
                raise NotReady("there is no root yet: run 'hubctl trust init'")
            self._known = named_by, self._signers(roots.parsed(root, IMAGE).signed, image.bins_key_of(delegation))
        return self._known[1]

    def _signers(self, root: Root, bins_key: str) -> Signers:
        named = {role: roots.key_of(root, role) for role in (TIMESTAMP, SNAPSHOT, TARGETS)} | {"bins": bins_key}
        return Signers(**{role: self._keys.get(id, f"the image repository's {role}").signer for role, id in named.items()})

    def _sign(self, tx: Tx, bins: Iterable[str], signers: Signers, now: datetime, *, all_targets: bool, snapshot: bool) -> None:
        contents, waited = targets.in_bins(tx, list(bins))
        work = Work(bins=contents, targets=all_targets, snapshot=snapshot)
        last = b"" if contents or all_targets or snapshot else trust.find(tx, IMAGE, SNAPSHOT) or b""
        files = image.renewed(trust.versions(tx, IMAGE), work, last, signers, now)
        trust.put(tx, IMAGE, [stored(file) for file in files])
        targets.signed(tx, waited)
        log.info("metadata signed", extra={"bins": len(contents), "targets": len(waited), "timestamp": files[-1].version})

    def _version(self, tx: Tx, role: str) -> int:
        head = trust.head(tx, IMAGE, role)
        return 0 if head is None else head.version


def stored(file: File) -> Stored:
    return Stored(
        role=file.role,
        version=file.version,
        signed_at=file.signed_at,
        expires_at=file.expires_at,
        resign_at=file.resign_at,
        data=file.data,
    )

"""Drift: landed readings -> event-time windows -> verdicts -> episodes -> a request to train again.

Batches are folded in the order they landed, and the windows, the verdicts and the place in that order are written in one
transaction: a crash folds nothing twice and leaves nothing out.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cloud_hub.core import pages
from cloud_hub.core.config import DriftConfig
from cloud_hub.core.errors import HubError
from cloud_hub.core.model import DriftEpisode, DriftWindow, Principal
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.services.folding import Fold, Unfolded, as_ms
from cloud_hub.services.versions import Versions
from cloud_hub.store import drift as store
from cloud_hub.store import episodes as episode_store
from cloud_hub.store import landing
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import codec
from protos.contract.errors import InvalidMessage
from protos.contract.ids import DeviceId, ModelName
from protos.contract.telemetry import InferenceTable, to_ms

log = logging.getLogger(__name__)

PAGE_BATCHES = 200  # folded in one transaction: a fifth of a second
TICK_PAGES = 50  # folded in one tick, so that closing idle windows is not put off for ever
IDLE_DEVICES = 500  # closed in one transaction


class DriftService:
    """``tick`` may run in one thread at a time per hub; a second one finds its work done."""

    def __init__(self, db: Database, config: DriftConfig, on_open: Callable[[DriftEpisode], str], clock: Clock) -> None:
        """``on_open`` asks for a retraining in the episode's tenant and returns its job id, or "" where there is none yet.

        It is called outside of any transaction, again after a crash in between, and never again once it has returned.
        """
        self._db = db
        self._config = config
        self._on_open = on_open
        self._clock = clock
        self._versions = Versions()

    def tick(self, now: datetime | None = None) -> None:
        """Fold what has landed, judge what is over, tell what has opened."""
        now = now or self._clock.now()
        for _ in range(TICK_PAGES):
            if self._fold_page() < PAGE_BATCHES:
                self._close_idle(now)  # only once all that landed is folded: a backlog is old and still comes in order
                self._forget_old(now)
                break
        self._tell()

    def episodes(
        self, who: Principal, model: ModelName | None = None, open_only: bool = False, page: Page = FIRST
    ) -> tuple[list[DriftEpisode], str]:
        """Newest first, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = episode_store.newest(tx, who.tenant, model, open_only, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def windows(
        self, who: Principal, model: ModelName | None = None, device: DeviceId | None = None, limit: int = 100
    ) -> list[DriftWindow]:
        """Closed windows, newest first."""
        with self._db.read() as tx:
            return store.closed_windows(tx, who.tenant, model, device, limit)

    def _fold_page(self) -> int:
        """Batches folded; decoding happens outside the write transaction, which others wait for."""
        with self._db.read() as tx:
            cursor = store.cursor(tx)
            page = [self._unfold(tx, landed) for landed in landing.landed_after(tx, cursor, PAGE_BATCHES)]
        if not page:
            return 0
        with self._db.write() as tx:
            if store.cursor(tx) != cursor:
                return 0  # another process has folded it
            fold = Fold(tx, self._config, {batch.landed.device for batch in page})
            for batch in page:
                fold.add(batch)
            fold.finish()
            store.put_cursor(tx, page[-1].landed.id)
        return len(page)

    def _unfold(self, tx: Tx, landed: landing.Landed) -> Unfolded:
        try:
            table = codec.decode_batch(landed.payload).inferences
        except InvalidMessage as error:  # it could be decoded when it landed
            log.error("landed batch cannot be read", extra={"landing": landed.id, "reason": str(error)})
            table = InferenceTable.of(())
        versions = tuple(self._versions.find(tx, landed.tenant, digest) for digest in table.models)
        return Unfolded(landed=landed, table=table, versions=versions)

    def _close_idle(self, now: datetime) -> None:
        """Windows of devices that say nothing more: when one more window has passed on the wall clock."""
        before_ms = to_ms(now) - as_ms(self._config.lateness_s) - as_ms(self._config.window_s)
        with self._db.read() as tx:
            idle = store.idle_devices(tx, before_ms, IDLE_DEVICES)
        if not idle:
            return
        with self._db.write() as tx:
            Fold(tx, self._config, store.idle_devices(tx, before_ms, IDLE_DEVICES)).finish(before_ms)

    def _forget_old(self, now: datetime) -> None:
        before_ms = to_ms(now - timedelta(days=self._config.keep_days))
        with self._db.read() as tx:
            if not store.any_closed(tx, before_ms):
                return
        with self._db.write() as tx:
            removed = store.remove_closed(tx, before_ms)
        log.info("old drift windows removed", extra={"windows": removed})

    def _tell(self) -> None:
        with self._db.read() as tx:
            waiting = episode_store.untold(tx)
        for episode in waiting:
            try:
                job_id = self._on_open(episode)
            except HubError as error:
                log.warning("drift not told, trying again", extra={"episode": episode.id, "reason": str(error)})
                continue
            with self._db.write() as tx:
                episode_store.told(tx, episode.id, job_id)

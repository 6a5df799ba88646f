"""Drift: verdicts on windows, episodes, and a request to train again for each. The fold makes them: ``services.drift_fold``."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cloud_hub.core import pages
from cloud_hub.core.config import DriftConfig
from cloud_hub.core.errors import HubError
from cloud_hub.core.model import DriftEpisode, DriftWindow, Principal
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.core.steady import SteadyTime
from cloud_hub.store import drift as store
from cloud_hub.store import episodes as episode_store
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, ModelName
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)


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
        self._time = SteadyTime(clock)

    def tick(self, now: datetime | None = None) -> None:
        """Tell what has opened, forget what is old."""
        self._forget_old(now or self._clock.now())
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

    def _forget_old(self, now: datetime) -> None:
        if not self._time.believes(now):
            return
        before_ms = to_ms(now - timedelta(days=self._config.keep_days))
        with self._db.read() as tx:
            if not store.any_older(tx, before_ms):
                return
        with self._db.write() as tx:
            removed = store.remove_older(tx, before_ms)
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

"""Every second: what no report brings about, for every rollout that is not over."""

import logging
from datetime import datetime

from cloud_hub.core.errors import HubError, Unavailable
from cloud_hub.core.model import ROLLOUT_ENDED, Rollout, RolloutState
from cloud_hub.services.dispatch import Dispatcher
from cloud_hub.services.membership import Membership
from cloud_hub.services.rollout_course import Course, found
from cloud_hub.store import rollout_unwinds
from cloud_hub.store import rollouts as store
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import TenantId

log = logging.getLogger(__name__)


class Rounds:
    """Times that come, devices that join, waves and ends too large for one transaction."""

    def __init__(self, db: Database, course: Course, dispatch: Dispatcher) -> None:
        self._db = db
        self._course = course
        self._dispatch = dispatch
        self._membership = Membership(db, course)

    def tick(self, now: datetime) -> None:
        """Whatever is due."""
        self._membership.tick(now)
        with self._db.read() as tx:
            due, active, unwinding = store.due(tx, now), store.all_under_way(tx), rollout_unwinds.all_of(tx)
            followed = store.kept_open(tx)
        for id in [*due, *active, *unwinding, *followed]:
            try:
                if id in due or id in unwinding or not self._idle(id, now):
                    self._go_on(id, now)
            except Unavailable:
                raise
            except Exception:  # outermost edge for one rollout: it must not hold up the others
                log.exception("rollout cannot go on", extra={"rollout": id})

    def _idle(self, id: str, now: datetime) -> bool:
        with self._db.read() as tx:
            return self._course.idle(tx, id, now)

    def _go_on(self, id: str, now: datetime) -> None:
        more = True
        while more:
            with self._db.write() as tx:
                tenant, rollout = found(tx, id)
                if rollout.state is RolloutState.SCHEDULED:
                    more = self._begin(tx, tenant, rollout, now)
                elif rollout.state is RolloutState.SUCCEEDED:
                    more = self._course.follow_up(tx, tenant, rollout, now)
                elif rollout.state in ROLLOUT_ENDED:
                    more = self._dispatch.unwind(tx, rollout, now)
                else:
                    more = self._course.advance(tx, id, now, look=True)

    def _begin(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> bool:
        """Its time has come; what is missing now ends it, for nobody waits for an answer."""
        try:
            with tx.begin_nested():
                self._course.begin(tx, tenant, rollout, now)
        except Unavailable:
            raise
        except HubError as error:
            store.put_state(tx, rollout.id, RolloutState.ABORTED, str(error), now)
            log.warning("rollout cannot start", extra={"rollout": rollout.id, "reason": str(error)})
            return False
        return True

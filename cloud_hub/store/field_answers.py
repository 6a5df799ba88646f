"""What models said of samples from the field that somebody has labelled since."""

from datetime import datetime

from sqlalchemy import func, select

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.store.database import Tx
from cloud_hub.store.datasets import samples
from protos.contract.ids import TenantId

CONTROL = "control"  # drawn before anybody looked at the confidence: only they are a fair picture of the field


def control(tx: Tx, tenant: TenantId, dataset: str, since: datetime, limit: int) -> tuple[int, int]:
    """(right, labelled) of the newest ``limit`` control samples that were captured after ``since``; no model labelled them."""
    s = samples.c
    newest = (
        select((s.predicted == s.label).label("right"))
        .where((s.tenant == tenant) & (s.dataset == dataset) & (s.reason == CONTROL) & (s.captured_at > since))
        .where(s.label.is_not(None) & (s.predicted != "") & (s.origin != LabelOrigin.TEACHER.value))
        .order_by(s.captured_at.desc())
        .limit(limit)
        .subquery()
    )
    right = func.count().filter(newest.c.right)
    row = tx.execute(select(right, func.count()).select_from(newest)).one()
    return int(row[0]), int(row[1])

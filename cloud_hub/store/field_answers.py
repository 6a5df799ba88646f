"""What models said of samples from the field that somebody has labelled since."""

from collections.abc import Collection

from sqlalchemy import func, select

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.store.database import Tx
from cloud_hub.store.datasets import samples
from protos.contract.ids import Digest, TenantId

CONTROL = "control"  # drawn before anybody looked at the confidence: only they are a fair picture of the field


def control(tx: Tx, tenant: TenantId, dataset: str, manifests: Collection[Digest], limit: int) -> tuple[int, int]:
    """(right, labelled) of the newest ``limit`` control samples that these files answered; no model labelled them."""
    s = samples.c
    newest = (
        select((s.predicted == s.label).label("right"))
        .where((s.tenant == tenant) & (s.dataset == dataset) & (s.reason == CONTROL) & s.manifest.in_(manifests))
        .where(s.label.is_not(None) & (s.predicted != "") & (s.origin != LabelOrigin.TEACHER.value))
        .order_by(s.number.desc())
        .limit(limit)
        .subquery()
    )
    right = func.count().filter(newest.c.right)
    row = tx.execute(select(right, func.count()).select_from(newest)).one()
    return int(row[0]), int(row[1])

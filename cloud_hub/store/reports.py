"""Where the report of each job's model is: blobs of the artifact store."""

from sqlalchemy import Column, ForeignKey, Table, Text, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest

job_reports = Table(
    "job_reports",
    schema.metadata,
    Column("job_id", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("page", Text, nullable=False),
    Column("document", Text, nullable=False),
)


def put(tx: Tx, job_id: str, page: Digest, document: Digest) -> None:
    """In place of an earlier attempt's."""
    tx.execute(schema.upsert(job_reports, ("job_id",)).values(job_id=job_id, page=page, document=document))


def find(tx: Tx, job_id: str) -> tuple[Digest, Digest] | None:
    """(page, document)."""
    r = job_reports.c
    row = tx.execute(select(r.page, r.document).where(r.job_id == job_id)).first()
    return (Digest(row.page), Digest(row.document)) if row else None

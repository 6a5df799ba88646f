"""Packages: settings, agents, firmware. Their paths begin with what counts their releases: "<kind>/<tenant>/<name>"."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_index("ix_tuf_targets_sha256", "tuf_targets", ["tenant", "sha256"], unique=False)
    connection = op.get_bind()
    columns = ("path", "tenant", "name", "version", "variant", "subject", "bin", "signed_release")
    table = sa.table("tuf_targets", *(sa.column(name) for name in columns))
    for row in connection.execute(sa.select(table).where(table.c.subject == "firmware")).all():
        path = f"firmware/{row.tenant}/{row.name}/{row.version}/{row.variant}"
        into = f"bin-{hashlib.sha256(path.encode()).digest()[0]:02x}"
        moved = sa.update(table).where(table.c.path == row.path).values(path=path, bin=into, signed_release=0)
        connection.execute(moved)

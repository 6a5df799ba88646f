"""Deltas between blobs, and copies of blobs elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "deltas",
        sa.Column("base_digest", sa.Text(), nullable=False),
        sa.Column("target_digest", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("decode_bytes", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("wanted_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("base_digest", "target_digest", name="pk_deltas"),
    )
    op.create_index("ix_deltas_digest", "deltas", ["digest"], unique=False)
    op.create_index("ix_deltas_state", "deltas", ["state", "wanted_at"], unique=False)
    op.create_table(
        "blob_copies",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("copied_at", sa.BigInteger(), nullable=True),
        sa.Column("wanted_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_blob_copies"),
    )
    op.create_index("ix_blob_copies_copied_at", "blob_copies", ["copied_at", "wanted_at"], unique=False)

"""TUF metadata and targets."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "tuf_metadata",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "role", "version", name="pk_tuf_metadata"),
    )
    op.create_table(
        "tuf_heads",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("resign_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("repository", "role", name="pk_tuf_heads"),
    )
    op.create_index("ix_tuf_heads_resign_at", "tuf_heads", ["resign_at"], unique=False)
    _targets()
    op.create_table(
        "tuf_releases",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("release", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "subject", "name", name="pk_tuf_releases"),
    )


def _targets() -> None:
    op.create_table(
        "tuf_targets",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("boards", sa.Text(), nullable=False),
        sa.Column("bin", sa.Text(), nullable=False),
        sa.Column("release", sa.BigInteger(), nullable=False),
        sa.Column("signed_release", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_tuf_targets"),
    )
    op.create_index("ix_tuf_targets_bin", "tuf_targets", ["bin"], unique=False)
    op.create_index("ix_tuf_targets_name", "tuf_targets", ["tenant", "subject", "name", "version"], unique=False)
    op.create_index(
        "ix_tuf_targets_waiting",
        "tuf_targets",
        ["queued_at"],
        unique=False,
        sqlite_where=sa.text("signed_release < release"),
        postgresql_where=sa.text("signed_release < release"),
    )

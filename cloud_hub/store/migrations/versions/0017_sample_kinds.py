"""Data sets of every kind, labels with their provenance and history, versions of data sets."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_IMAGE, _CLASS = "1", "1"  # what every data set was before


def upgrade() -> None:
    op.add_column("datasets", sa.Column("kind", sa.Integer(), nullable=False, server_default=_IMAGE))
    op.add_column("datasets", sa.Column("annotation", sa.Integer(), nullable=False, server_default=_CLASS))
    op.add_column("datasets", sa.Column("columns", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("samples", sa.Column("origin", sa.Text(), nullable=True))
    op.add_column("samples", sa.Column("labelled_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("samples", sa.Column("label_confidence", sa.Float(), nullable=False, server_default="1"))
    op.create_index("ix_samples_tenant_dataset_name", "samples", ["tenant", "dataset", "name"], unique=False)
    op.create_table(
        "label_events",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True, nullable=False
        ),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("sample", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("labelled_by", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_label_events"),
    )
    op.create_index("ix_label_events_tenant_sample", "label_events", ["tenant", "sample"], unique=False)
    op.create_table(
        "dataset_versions",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("relabelled", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "dataset"], ["datasets.tenant", "datasets.name"], name="fk_dataset_versions_tenant_dataset"
        ),
        sa.PrimaryKeyConstraint("tenant", "dataset", "number", name="pk_dataset_versions"),
    )
    # who brought a sample with its label is known; who labelled a device's is not, but it was somebody
    op.execute("UPDATE samples SET origin = CASE WHEN device IS NULL THEN 'import' ELSE 'human' END WHERE label IS NOT NULL")
    op.execute(
        "INSERT INTO label_events (tenant, sample, label, origin, labelled_by, confidence, at) "
        "SELECT tenant, id, label, origin, '', 1, COALESCE(labelled_at, created_at) FROM samples WHERE label IS NOT NULL "
        "ORDER BY number"
    )

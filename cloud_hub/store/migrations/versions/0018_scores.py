"""A variant's score is of its task's metric, no longer always accuracy; and the step at which the training of a job is."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("ALTER TABLE model_variants RENAME COLUMN accuracy TO score")
    op.add_column("model_variants", sa.Column("metric", sa.Text(), nullable=False, server_default="accuracy"))
    op.add_column("training_jobs", sa.Column("step", sa.Text(), nullable=True))

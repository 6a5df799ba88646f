"""What jobs have tried while they looked for settings."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "training_trials",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_training_trials"),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name="fk_training_trials_job_id"),
    )

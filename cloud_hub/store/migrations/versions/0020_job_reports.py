"""Where the report of each job's model is."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "job_reports",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_reports"),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name="fk_job_reports_job_id_training_jobs"),
    )

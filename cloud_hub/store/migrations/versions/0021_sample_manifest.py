"""Which model said what a sample was predicted to be; of samples that are there already nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("samples", sa.Column("manifest", sa.Text(), nullable=True))

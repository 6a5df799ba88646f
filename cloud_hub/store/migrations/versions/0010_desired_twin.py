"""The whole desired twin of a device."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("devices", sa.Column("desired_twin", sa.LargeBinary(), nullable=True))

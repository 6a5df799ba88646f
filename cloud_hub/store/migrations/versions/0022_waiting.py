"""What waits is found without a look at all devices, and crashes of a tenant by when they came."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    _waiting("devices", "delivered_generation < desired_generation")
    _waiting("retired_devices", "delivered_generation < generation")
    op.execute("UPDATE device_events SET received_ms = at_ms WHERE received_ms IS NULL")
    op.drop_index("ix_device_events_tenant_kind_at_ms", "device_events")
    op.create_index(
        "ix_device_events_tenant_kind_received_ms", "device_events", ["tenant", "kind", "received_ms"], unique=False
    )


def _waiting(table: str, where: str) -> None:
    name = f"ix_{table}_undelivered"
    op.create_index(name, table, ["id"], unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))

"""What the gates of a rollout saw."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "gated_rollouts",
        _rollout(),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("gates", sa.Text(), nullable=False),
        sa.Column("back_s", sa.Integer(), nullable=False),
        sa.Column("slot_ms", sa.Integer(), nullable=False),
        sa.Column("coarse", sa.Text(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("compared_from", sa.BigInteger(), nullable=True),
        sa.Column("waived", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("committed", sa.Integer(), nullable=False),
        sa.Column("readings", sa.Text(), nullable=True),
        sa.Column("judged_at", sa.BigInteger(), nullable=True),
        *_keys("gated_rollouts", "rollout"),
    )
    op.create_table(
        "gate_devices",
        _rollout(),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("looked_back", sa.Boolean(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=True),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("inferences", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        *_keys("gate_devices", "rollout", "device"),
    )
    op.create_table(
        "gate_tallies",
        _rollout(),
        sa.Column("side", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("readings", sa.BigInteger(), nullable=False),
        sa.Column("uncertain", sa.BigInteger(), nullable=False),
        sa.Column("shift", sa.Float(), nullable=False),
        sa.Column("confidence", sa.LargeBinary(), nullable=False),
        sa.Column("latency", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        *_keys("gate_tallies", "rollout", "side", "device", "slot", "version"),
    )
    op.create_index("ix_device_events_tenant_kind_at_ms", "device_events", ["tenant", "kind", "at_ms"], unique=False)
    op.create_index("ix_samples_tenant_device_captured_at", "samples", ["tenant", "device", "captured_at"], unique=False)


def _rollout() -> sa.Column[str]:
    return sa.Column("rollout", sa.Text(), nullable=False)


def _keys(table: str, *columns: str) -> tuple[sa.Constraint, ...]:
    own = sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")
    return own, sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=f"fk_{table}_rollout")

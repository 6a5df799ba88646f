"""Streams: specifications, engine states and windows; drift is one of them.

Open windows of drift are dropped, at most minutes of readings per device: they now stand in engine states, which cannot be made
of them. Readings that come later do not open a window again that was judged before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _fold_turn()
    _stream_specs()
    _stream_states()
    _stream_windows()
    _drift()


def _fold_turn() -> None:
    op.create_table(
        "fold_turn",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fold_turn"),
    )


def _stream_specs() -> None:
    op.create_table(
        "stream_specs",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("yaml", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_stream_specs"),
    )


def _stream_states() -> None:
    op.create_table(
        "stream_states",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("complete_from_ms", sa.BigInteger(), nullable=False),
        sa.Column("close_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "stream", "device", name="pk_stream_states"),
    )
    op.create_index("ix_stream_states_device", "stream_states", ["device"], unique=False)
    op.create_index("ix_stream_states_close_at_ms", "stream_states", ["close_at_ms"], unique=False)


def _stream_windows() -> None:
    op.create_table(
        "stream_windows",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("readings", sa.BigInteger(), nullable=False),
        sa.Column("aggregates", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stream_windows"),
    )
    op.create_index("ix_stream_windows_tenant_id", "stream_windows", ["tenant", "id"], unique=False)
    op.create_index("ix_stream_windows_tenant_stream_id", "stream_windows", ["tenant", "stream", "id"], unique=False)
    op.create_index("ix_stream_windows_tenant_device_id", "stream_windows", ["tenant", "device", "id"], unique=False)
    op.create_index("ix_stream_windows_told_ms", "stream_windows", ["told_ms"], unique=False)
    op.create_index(
        "ix_stream_windows_of_devices",
        "stream_windows",
        ["device", "stream", "start_ms"],
        unique=False,
        sqlite_where=sa.text("origin = 'device'"),
        postgresql_where=sa.text("origin = 'device'"),
    )


def _drift() -> None:
    op.drop_table("drift_cursor")
    op.execute(sa.text("DELETE FROM drift_windows WHERE NOT closed"))
    op.drop_index("ix_drift_windows_closed_end_ms", "drift_windows")
    op.drop_index("ix_drift_windows_device_closed_end_ms", "drift_windows")
    op.drop_column("drift_windows", "closed")
    op.create_index("ix_drift_windows_end_ms", "drift_windows", ["end_ms"], unique=False)
    op.create_index("ix_drift_windows_device_end_ms", "drift_windows", ["device", "end_ms"], unique=False)

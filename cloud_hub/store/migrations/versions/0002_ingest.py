"""Streams say how far they are folded and what came early; losses say what is gone."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _streams()
    _losses()
    op.add_column("device_events", sa.Column("received_ms", sa.BigInteger(), nullable=True))


def _streams() -> None:
    op.add_column("streams", sa.Column("folded_through", sa.BigInteger(), server_default=sa.text("-1"), nullable=False))
    op.add_column("streams", sa.Column("early", sa.Text(), server_default=sa.text("'[]'"), nullable=False))
    # what was stored until now, drift has read by its own cursor, but for what came while the hub was stopped for this
    op.execute("UPDATE streams SET folded_through = committed_through")
    _note_early()
    op.drop_column("streams", "behind_hole")
    op.create_index(
        "ix_streams_unfolded",
        "streams",
        ["updated_ms"],
        unique=False,
        sqlite_where=sa.text("committed_through > folded_through"),
        postgresql_where=sa.text("committed_through > folded_through"),
    )


def _note_early() -> None:
    connection = op.get_bind()
    rows = connection.execute(
        sa.text(
            "SELECT s.device, s.epoch, s.lane, l.first_sequence, l.last_sequence FROM streams s JOIN landing l"
            " ON l.device = s.device AND l.epoch = s.epoch AND l.lane = s.lane AND l.first_sequence > s.committed_through"
            " WHERE s.highest > s.committed_through ORDER BY s.device, s.epoch, s.lane, l.first_sequence"
        )
    )
    early: dict[tuple[str, str, int], list[list[int]]] = {}
    for device, epoch, lane, first, last in rows:
        spans = early.setdefault((device, epoch, lane), [])
        if spans and first <= spans[-1][1] + 1:
            spans[-1][1] = max(spans[-1][1], last)
        else:
            spans.append([first, last])
    for (device, epoch, lane), spans in early.items():
        connection.execute(
            sa.text("UPDATE streams SET early = :early WHERE device = :device AND epoch = :epoch AND lane = :lane"),
            {"early": json.dumps(spans, separators=(",", ":")), "device": device, "epoch": epoch, "lane": lane},
        )


def _losses() -> None:
    op.create_table(
        "losses",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "epoch", "lane", "first_sequence", name="pk_losses"),
    )

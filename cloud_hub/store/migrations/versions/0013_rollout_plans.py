"""Rollouts by plan: waves that are counted, components, rate, and devices that change."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_MOVED_INTO_THE_PLAN = ("selector", "canary", "soak_s", "max_failures", "waves")


def upgrade() -> None:
    text, false = sa.text("''"), sa.false()
    op.add_column("rollouts", sa.Column("component", sa.Text(), server_default=sa.text("'model'"), nullable=False))
    op.add_column("rollouts", sa.Column("plan", sa.Text(), server_default=text, nullable=False))
    op.add_column("rollouts", sa.Column("breached", sa.Boolean(), server_default=false, nullable=False))
    op.add_column("rollouts", sa.Column("forgiven", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("rollouts", sa.Column("keep_open", sa.Boolean(), server_default=false, nullable=False))
    for name in ("start_at", "started_at", "next_ask_at", "paused_at"):
        op.add_column("rollouts", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("rollout_devices", sa.Column("previous_package", sa.Text(), nullable=True))
    op.add_column("rollout_devices", sa.Column("asked_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_rollout_devices_waiting",
        "rollout_devices",
        ["rollout", "wave", "device"],
        unique=False,
        sqlite_where=sa.text("state IS NULL"),
        postgresql_where=sa.text("state IS NULL"),
    )
    _new_tables()
    _plans_of_old_ones()
    for name in _MOVED_INTO_THE_PLAN:
        op.drop_column("rollouts", name)


def _new_tables() -> None:
    op.create_table(
        "rollout_waves",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), autoincrement=False, nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("waiting", "pending", "committed", "failed", "superseded")
        ),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("started_at", "asked_at", "soaking_since")),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_waves_rollout"),
        sa.PrimaryKeyConstraint("rollout", "wave", name="pk_rollout_waves"),
    )
    op.create_table(
        "rollout_unwinds",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=True),
        sa.Column("after", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_unwinds_rollout"),
        sa.PrimaryKeyConstraint("rollout", name="pk_rollout_unwinds"),
    )
    op.create_table(
        "device_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device_changes"),
        sa.UniqueConstraint("device", name="uq_device_changes_device"),
    )


def _plans_of_old_ones() -> None:
    """Rollouts on the way go on: their numbers become a plan, and their devices are counted."""
    bind = op.get_bind()
    columns = "id, model, version, selector, canary, soak_s, max_failures, waves, wave, created_at"
    for row in bind.execute(sa.text(f"SELECT {columns} FROM rollouts")).mappings().all():
        bind.execute(
            sa.text("UPDATE rollouts SET plan = :plan, started_at = created_at WHERE id = :id"),
            {"id": row["id"], "plan": json.dumps(_plan(row))},
        )
        for wave in range(row["waves"]):
            started = row["created_at"] if wave <= row["wave"] else None
            bind.execute(sa.text(_WAVE), {"id": row["id"], "wave": wave, "started": started})


def _plan(row: Any) -> dict[str, Any]:
    waves: list[dict[str, Any]] = [{"count": row["canary"]}] if row["waves"] > 1 else []
    return {
        "model": row["model"],
        "version": str(row["version"]),
        "selector": json.loads(row["selector"]),
        "waves": [*waves, {}],
        "soak_s": row["soak_s"],
        "failure": {"count": row["max_failures"]},
    }


_WAVE = """
INSERT INTO rollout_waves
    (rollout, wave, waiting, pending, committed, failed, superseded, started_at, approved_by)
SELECT :id, :wave,
    coalesce(sum(CASE WHEN state IS NULL THEN 1 ELSE 0 END), 0),
    coalesce(sum(CASE WHEN state IN (1, 2, 3, 4) THEN 1 ELSE 0 END), 0),
    coalesce(sum(CASE WHEN state = 5 THEN 1 ELSE 0 END), 0),
    coalesce(sum(CASE WHEN state IN (6, 7) THEN 1 ELSE 0 END), 0),
    coalesce(sum(CASE WHEN state = 8 THEN 1 ELSE 0 END), 0),
    CAST(:started AS BIGINT), ''
FROM rollout_devices WHERE rollout = :id AND wave = :wave
"""

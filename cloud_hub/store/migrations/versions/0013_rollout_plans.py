"""Rollouts by plan: waves, windows, rate."""

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    pass

"""What the gates of a rollout saw."""

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    pass

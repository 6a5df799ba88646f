"""How variants fit boards, and what challengers did."""

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    pass

"""The audit log, and triggers that keep it as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_REFUSE = "'the audit log is append-only'"
_FOLLOW = "'the audit log takes the next entry only'"
_NEXT = "1 + coalesce((SELECT max(number) FROM audit WHERE tenant = NEW.tenant), 0)"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number", name="pk_audit"),
    )
    for statement in _POSTGRES if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


_SQLITE = (
    f"CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, {_REFUSE}); END",
    f"CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, {_REFUSE}); END",
    # before an INSERT, because INSERT OR REPLACE deletes a row without telling the trigger above
    f"CREATE TRIGGER audit_follows BEFORE INSERT ON audit WHEN NEW.number <> {_NEXT} BEGIN SELECT RAISE(ABORT, {_FOLLOW}); END",
)
_POSTGRES = (
    f"CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION {_REFUSE}; END $$",
    "CREATE FUNCTION audit_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    f"IF NEW.number <> {_NEXT} THEN RAISE EXCEPTION {_FOLLOW}; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_refuses_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_follows BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_follow()",
)

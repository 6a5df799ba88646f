"""Certificates, tokens that need approval, and desired twins that ask for a new certificate."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key_digest", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
    )
    op.create_index("ix_certificates_role_subject", "certificates", ["role", "subject"], unique=False)
    op.create_index("ix_certificates_revoked_at", "certificates", ["revoked_at"], unique=False)
    op.create_index("ix_certificates_expires_at", "certificates", ["expires_at"], unique=False)
    op.create_table(
        "unclaimed_chains",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["serial"], ["certificates.serial"], name="fk_unclaimed_chains_serial", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("serial", name="pk_unclaimed_chains"),
    )
    # a token lives for days at most, so none that was used before there were these columns matters
    op.add_column("enrollment_tokens", sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("enrollment_tokens", sa.Column("key_digest", sa.Text(), nullable=True))
    op.add_column("enrollment_tokens", sa.Column("approved_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_enrollment_tokens_expires_at", "enrollment_tokens", ["expires_at"], unique=False)
    op.add_column("devices", sa.Column("desired_renew_before", sa.BigInteger(), nullable=True))
    # its certificate stood here alone; the authority that signed it is of an older kind, and is gone with it
    op.drop_column("devices", "certificate_serial")

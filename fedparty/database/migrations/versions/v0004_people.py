"""Users, their tokens and nonces; the audit log's head; who submitted a job, and the voucher for it."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and add the columns."""
    expand.create_table(
        "users",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
    )
    expand.create_table(
        "user_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("user", sa.String(32), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    expand.create_table(
        "nonces",
        sa.Column("user", sa.String(32), primary_key=True),
        sa.Column("nonce", sa.String(64), primary_key=True),
        sa.Column("job", sa.String(40), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    expand.create_table(
        "audit_heads",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    expand.add_column("jobs", sa.Column("submitter", sa.String(100), nullable=False, server_default=""))
    expand.add_column("jobs", sa.Column("voucher", expand.LONG_TEXT))

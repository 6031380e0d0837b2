"""The jobs' own code: archives by their digest, in parts, and which job has which."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; a job of the release before this one has no code."""
    expand.create_table(
        "codes",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("stored_at", sa.Double(), nullable=False),
    )
    expand.create_table(
        "code_parts",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("content", expand.LONG_BYTES, nullable=False),
    )
    expand.add_column("jobs", sa.Column("code", sa.String(64), nullable=True))
    expand.create_index("jobs_by_code", "jobs", ["code"])

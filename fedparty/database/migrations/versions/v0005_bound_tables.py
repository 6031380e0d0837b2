"""The site's tables: which name stands for which file."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    expand.create_table(
        "bound_tables",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("source", expand.LONG_TEXT, nullable=False),
        sa.Column("bound_at", sa.Double(), nullable=False),
    )

"""Lists of jobs that stay fast, and the jobs that were deleted: a late message about one must not bring it back."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two indexes, in the order that lists are read in, and a table."""
    expand.create_index("jobs_in_order", "jobs", ["created_at", "id"])
    expand.create_index("jobs_of_state_in_order", "jobs", ["state", "created_at", "id"])
    expand.create_table(
        "deleted_jobs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    expand.create_index("deleted_jobs_by_expiry", "deleted_jobs", ["expires_at"])

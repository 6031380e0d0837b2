"""Whether logs and files of an ended job are gone, which may be kept for a shorter time than the job."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a row of the release before this one has none, and may have files."""
    expand.add_column("jobs", sa.Column("has_no_files", sa.Boolean(), nullable=True))

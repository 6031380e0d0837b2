"""Whether a job's end is the one that its initiator decided: a party's own word before that is replaced by it."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a row of the release before this one has none, and is not settled."""
    expand.add_column("jobs", sa.Column("is_settled", sa.Boolean(), nullable=True))

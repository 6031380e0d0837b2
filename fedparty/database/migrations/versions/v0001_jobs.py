"""Jobs, the runs of their tasks' roles, and the final notices that are still to be delivered."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    expand.create_table(
        "jobs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("initiator", sa.String(9), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", expand.LONG_TEXT, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("error", expand.LONG_TEXT, nullable=False),
        sa.Column("hint", expand.LONG_TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("deadline_at", sa.Double(), nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False),
    )
    expand.create_index("jobs_by_state", "jobs", ["state"])
    expand.create_index("jobs_by_hold", "jobs", ["is_held"])
    expand.create_index("jobs_by_age", "jobs", ["created_at"])
    expand.create_table(
        "role_runs",
        sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("task", sa.String(64), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("role", sa.String(32), primary_key=True),
        sa.Column("party", sa.String(9), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("error", expand.LONG_TEXT, nullable=False),
        sa.Column("hint", expand.LONG_TEXT, nullable=False),
        sa.Column("result", expand.LONG_TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
    )
    expand.create_table(
        "notices",
        sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("party", sa.String(9), primary_key=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )

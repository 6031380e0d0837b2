"""Jobs, the runs of their tasks' roles, and the final notices that are still to be delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("initiator", sa.String(9), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text(2**24), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("deadline_at", sa.Double(), nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False),
    )
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_index("jobs_by_hold", "jobs", ["is_held"])
    op.create_index("jobs_by_age", "jobs", ["created_at"])
    op.create_table(
        "role_runs",
        sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("task", sa.String(64), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("role", sa.String(32), primary_key=True),
        sa.Column("party", sa.String(9), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(2**24), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
    )
    op.create_table(
        "notices",
        sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("party", sa.String(9), primary_key=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )

"""Which replica of a flow leads, how recent each party's leader is, and the key that a job was submitted with."""

from __future__ import annotations

import sqlalchemy as sa

from fedparty.database.migrations import expand

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and add the column with its index."""
    expand.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("renewals", sa.BigInteger(), nullable=False),
    )
    expand.create_table(
        "epochs",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    expand.create_table(
        "peer_epochs",
        sa.Column("party", sa.String(9), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    expand.add_column("jobs", sa.Column("submission", sa.String(100), nullable=True))
    expand.create_index("jobs_by_submission", "jobs", ["submission"], unique=True)

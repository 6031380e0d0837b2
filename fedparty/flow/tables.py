"""The flow's tables, as its statements see them.

Owns names and types of columns; a test holds them to the migrations, which create them. Owns no statement.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

METADATA = sa.MetaData()

_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")  # MySQL's TEXT holds 64 KiB

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("initiator", sa.String(9), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("description", _TEXT, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("error", _TEXT, nullable=False, default=""),
    sa.Column("hint", _TEXT, nullable=False, default=""),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("deadline_at", sa.Double, nullable=False),
    sa.Column("is_held", sa.Boolean, nullable=False),
    sa.Index("jobs_by_state", "state"),
    sa.Index("jobs_by_hold", "is_held"),
    sa.Index("jobs_by_age", "created_at"),
)

ROLE_RUNS = sa.Table(
    "role_runs",
    METADATA,
    sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("task", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("role", sa.String(32), primary_key=True),
    sa.Column("party", sa.String(9), primary_key=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("error", _TEXT, nullable=False, default=""),
    sa.Column("hint", _TEXT, nullable=False, default=""),
    sa.Column("result", _TEXT, nullable=False, default=""),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
)

NOTICES = sa.Table(
    "notices",
    METADATA,
    sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("party", sa.String(9), primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False),
)

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
    sa.Column("is_settled", sa.Boolean),
    sa.Column("submitter", sa.String(100), nullable=False, server_default=""),
    sa.Column("voucher", _TEXT),
    sa.Column("submission", sa.String(100)),
    sa.Column("has_no_files", sa.Boolean),
    sa.Column("code", sa.String(64)),
    sa.Index("jobs_by_state", "state"),
    sa.Index("jobs_by_hold", "is_held"),
    sa.Index("jobs_by_age", "created_at"),
    sa.Index("jobs_by_code", "code"),
    sa.Index("jobs_in_order", "created_at", "id"),
    sa.Index("jobs_of_state_in_order", "state", "created_at", "id"),
    sa.Index("jobs_by_submission", "submission", unique=True),
)

LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(64), nullable=False),
    sa.Column("renewals", sa.BigInteger, nullable=False),
)

EPOCHS = sa.Table(
    "epochs",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)

PEER_EPOCHS = sa.Table(
    "peer_epochs",
    METADATA,
    sa.Column("party", sa.String(9), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
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

DELETED_JOBS = sa.Table(
    "deleted_jobs",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Index("deleted_jobs_by_expiry", "expires_at"),
)

BOUND_TABLES = sa.Table(
    "bound_tables",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("source", _TEXT, nullable=False),
    sa.Column("bound_at", sa.Double, nullable=False),
)

NOTICES = sa.Table(
    "notices",
    METADATA,
    sa.Column("job", sa.String(40), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("party", sa.String(9), primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False),
)

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

USER_TOKENS = sa.Table(
    "user_tokens",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("user", sa.String(32), sa.ForeignKey("users.name"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)

NONCES = sa.Table(
    "nonces",
    METADATA,
    sa.Column("user", sa.String(32), primary_key=True),
    sa.Column("nonce", sa.String(64), primary_key=True),
    sa.Column("job", sa.String(40), nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)

AUDIT_HEADS = sa.Table(
    "audit_heads",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

CODES = sa.Table(
    "codes",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("stored_at", sa.Double, nullable=False),
)

CODE_PARTS = sa.Table(
    "code_parts",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("content", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"), nullable=False),
)

"""Create the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LOSES = "the whole catalog: what was downloaded, pruned and handed over, every run, the audit trail"

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def source() -> sa.ForeignKey:
    return sa.ForeignKey("sources.id")


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("listing_order", sa.String(16), nullable=False, server_default="unknown"),
        sa.Column("last_complete_sync", Time),
        sa.UniqueConstraint("endpoint", "bucket", name="uq_sources_endpoint"),
    )
    op.create_table(
        "objects",
        sa.Column("source_id", Serial, source(), primary_key=True, autoincrement=False),
        sa.Column("key", Key, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("last_modified", Time, nullable=False),
        sa.Column("version_id", sa.Text),
        sa.Column("storage_class", sa.Text),
        sa.Column("source_s3_path", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("local_path", sa.Text),
        sa.Column("digest", sa.Text),
        sa.Column("verified", sa.String(16)),
        sa.Column("downloaded_at", Time),
        sa.Column("pruned_at", Time),
        sa.Column("gone_at", Time),
        sa.Column("hold", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("source_id", Serial, source(), nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("arguments", sa.JSON, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", Time, nullable=False),
        sa.Column("heartbeat_at", Time, nullable=False),
        sa.Column("finished_at", Time),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "shards",
        sa.Column("run_id", Serial, sa.ForeignKey("runs.id"), primary_key=True, autoincrement=False),
        sa.Column("prefix", Key, primary_key=True),
        sa.Column("level", sa.Boolean, primary_key=True),
        sa.Column("start_after", Key, primary_key=True),
        sa.Column("end", Key),
        sa.Column("cursor", Key, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
    )
    op.create_table(
        "pages",
        sa.Column("source_id", Serial, source(), primary_key=True, autoincrement=False),
        sa.Column("prefix", Key, primary_key=True),
        sa.Column("start_after", Key, primary_key=True),
        sa.Column("last_key", Key, nullable=False),
        sa.Column("listed", sa.Integer, nullable=False),
        sa.Column("skipped", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("filters", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("at", Time, nullable=False),
        sa.Column("run_id", Serial, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("source_id", Serial, source(), nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_source_id", "events", ["source_id", "key"])
    op.create_table(
        "deliveries",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("source_id", Serial, source(), nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", Time),
        sa.Column("response_status", sa.Integer),
        sa.Column("response", sa.Text),
        sa.UniqueConstraint("source_id", "key", "etag", "target", name="uq_deliveries_source_id"),
    )


def downgrade() -> None:
    for table in ("deliveries", "events", "pages", "shards", "runs", "objects", "sources"):
        op.drop_table(table)

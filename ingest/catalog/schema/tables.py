"""The schema as SQLAlchemy tables: what the migrations must end in, on both engines.

Keys compare as bytes: SQLite's BINARY collation, PostgreSQL's ``C``. Times are aware UTC datetimes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from ingest.catalog.sql.driver import read_time, sqlite_time

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite keeps it as ``YYYY-MM-DD HH:MM:SS.ffffff``, which sorts and reads well."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(String(32) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return sqlite_time(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return read_time(value) if isinstance(value, str | datetime) else None


Key = Text().with_variant(Text(collation="C"), "postgresql")
_RUNNING = text("status = 'running'")
Serial = BigInteger().with_variant(Integer(), "sqlite")

sources = Table(
    "sources",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("listing_order", String(16), nullable=False, server_default="unknown"),
    Column("last_complete_sync", UtcTime),
    Column("directory", Text),
    Column("directory_id", String(32)),
    Column("forgotten_at", UtcTime),
    Column("etags", Text),
    Column("clock_at", UtcTime),
    Column("seen", BigInteger, nullable=False, server_default="0"),
    Column("order_since", UtcTime),
    Column("order_reason", Text),
    Column("order_lapses", Integer, nullable=False, server_default="0"),
    Column("order_proofs", Integer, nullable=False, server_default="0"),
    UniqueConstraint("endpoint", "bucket"),
    Index("uq_sources_directory", "directory", unique=True),
)

installation = Table(
    "installation",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("catalog_id", String(32), nullable=False),
    Column("made_at", UtcTime, nullable=False),
)

directories = Table(
    "directories",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("path", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("inode", Text, nullable=False),
    Column("catalog_place", Text, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

objects = Table(
    "objects",
    metadata,
    Column("source_id", Serial, ForeignKey("sources.id"), primary_key=True, autoincrement=False),
    Column("key", Key, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    Column("version_id", Text),
    Column("storage_class", Text),
    Column("source_s3_path", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("local_path", Text),
    Column("digest", Text),
    Column("verified", String(16)),
    Column("downloaded_at", UtcTime),
    Column("pruned_at", UtcTime),
    Column("gone_at", UtcTime),
    Column("hold", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("announced_etag", Text),
    Column("version", Text),
    Column("listed_etag", Text),
    Column("seen", BigInteger, nullable=False, server_default="0"),
    Column("seen_at", UtcTime),
    Column("seen_in", BigInteger),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source_id", Serial, ForeignKey("sources.id"), nullable=False),
    Column("command", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("status", String(16), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("error", Text),
    Column("audit_id", BigInteger),
    Column("audit_hash", String(64)),
    Column("written", BigInteger, nullable=False, server_default="0"),
    Column("process", Text),
    Column("clock_ahead", BigInteger),
    Index("ix_runs_source_id", "source_id", "id"),
    Index("ix_runs_command", "source_id", "command", "id"),
    Index("ix_runs_running", "id", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source_id", Serial, ForeignKey("sources.id"), nullable=False),
    Column("key", Key, nullable=False),
    Column("is_prefix", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed_at", UtcTime, nullable=False),
    UniqueConstraint("source_id", "is_prefix", "key"),
)

shards = Table(
    "shards",
    metadata,
    Column("run_id", Serial, ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("prefix", Key, primary_key=True),
    Column("level", Boolean, primary_key=True),
    Column("start_after", Key, primary_key=True),
    Column("end", Key),
    Column("cursor", Key, nullable=False),
    Column("done", Boolean, nullable=False),
)

pages = Table(
    "pages",
    metadata,
    Column("source_id", Serial, ForeignKey("sources.id"), primary_key=True, autoincrement=False),
    Column("prefix", Key, primary_key=True),
    Column("start_after", Key, primary_key=True),
    Column("last_key", Key, nullable=False),
    Column("listed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("filters", LargeBinary, nullable=False),
    Column("vouched", Integer, nullable=False, server_default="0"),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("run_id", Serial, nullable=False),  # which may be on record no longer
    Column("source_id", Serial, ForeignKey("sources.id"), nullable=False),
    Column("key", Key, nullable=False),
    Column("what", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_events_source_id", "source_id", "key"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source_id", Serial, ForeignKey("sources.id"), nullable=False),
    Column("key", Key, nullable=False),
    Column("etag", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime),
    Column("response_status", Integer),
    Column("response", Text),
    Column("fields", JSON, nullable=False, server_default=text("'{}'")),
    Column("created_at", UtcTime),
    Column("delivered_at", UtcTime),
    Column("claimed_by", Text),
    Column("claimed_until", UtcTime),
    Column("last_error", Text),
    UniqueConstraint("source_id", "key", "etag", "target"),
    Index("ix_deliveries_state", "source_id", "state", "next_attempt_at"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source_id", Serial, ForeignKey("sources.id"), nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("message_key", Text),
    Column("value", Text),
    Column("headers", JSON, nullable=False),
    Column("key", Key),
    Column("state", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("first_at", UtcTime, nullable=False),
    Column("next_attempt_at", UtcTime),
    Column("publish_at", UtcTime),
    UniqueConstraint("source_id", "topic", "partition", "offset"),
    Index("ix_dead_letters_state", "state", "next_attempt_at"),
    Index("ix_dead_letters_key", "key"),
    Index("ix_dead_letters_publish_at", "publish_at"),
    Index("ix_dead_letters_reason", "source_id", "reason"),
    sqlite_autoincrement=True,
)

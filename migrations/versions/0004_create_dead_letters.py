"""Create the dead letters, and note which version of an object an event has announced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LOSES = "dead letters, messages that wait, and what events had announced"

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("source_id", Serial, sa.ForeignKey("sources.id"), nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("message_key", sa.Text),
        sa.Column("value", sa.Text),
        sa.Column("headers", sa.JSON, nullable=False),
        sa.Column("key", Key),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("attempts", sa.JSON, nullable=False),
        sa.Column("first_at", Time, nullable=False),
        sa.Column("next_attempt_at", Time),
        sa.UniqueConstraint("source_id", "topic", "partition", "offset", name="uq_dead_letters_source_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dead_letters_state", "dead_letters", ["state", "next_attempt_at"])
    op.create_index("ix_dead_letters_key", "dead_letters", ["key"])
    op.add_column("objects", sa.Column("announced_etag", sa.Text))


def downgrade() -> None:
    op.drop_column("objects", "announced_etag")
    op.drop_table("dead_letters")

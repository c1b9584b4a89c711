"""Create the holds, and give each run the end of the audit trail that it saw."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LOSES = "every hold and its reason: cleanup takes those copies then"

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", Serial, primary_key=True),
        sa.Column("source_id", Serial, sa.ForeignKey("sources.id"), nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("is_prefix", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("placed_by", sa.Text, nullable=False),
        sa.Column("placed_at", Time, nullable=False),
        sa.UniqueConstraint("source_id", "is_prefix", "key", name="uq_holds_source_id"),
    )
    op.add_column("runs", sa.Column("audit_id", sa.BigInteger))
    op.add_column("runs", sa.Column("audit_hash", sa.String(64)))


def downgrade() -> None:
    op.drop_column("runs", "audit_hash")
    op.drop_column("runs", "audit_id")
    op.drop_table("holds")

"""Give the outbox what a delivery needs: its own fields, a lease, its times and its last error."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

LOSES = "the deliveries' own fields, times, claims and last errors"

Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
ADDED = ("fields", "created_at", "delivered_at", "claimed_by", "claimed_until", "last_error")


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("fields", sa.JSON, nullable=False, server_default=sa.text("'{}'")))
    op.add_column("deliveries", sa.Column("created_at", Time))
    op.add_column("deliveries", sa.Column("delivered_at", Time))
    op.add_column("deliveries", sa.Column("claimed_by", sa.Text))
    op.add_column("deliveries", sa.Column("claimed_until", Time))
    op.add_column("deliveries", sa.Column("last_error", sa.Text))
    op.create_index("ix_deliveries_state", "deliveries", ["source_id", "state", "next_attempt_at"])


def downgrade() -> None:
    op.drop_index("ix_deliveries_state", "deliveries")
    with op.batch_alter_table("deliveries") as table:
        for name in ADDED:
            table.drop_column(name)

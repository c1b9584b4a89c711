"""Keep the last time that may be believed, which process a run is, and how far its clock was ahead of the server's.

Until now the newest time of any run was believed. Plans of earlier runs are emptied: they lacked what was not planned
yet when the run ended, so that nothing may go on from them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

LOSES = "which clock is believed: the newest time of any run is again; and where a backfill can go on"

Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def upgrade() -> None:
    op.add_column("sources", sa.Column("clock_at", Time))
    op.add_column("runs", sa.Column("process", sa.Text))
    op.add_column("runs", sa.Column("clock_ahead", sa.BigInteger))
    op.execute("UPDATE sources SET clock_at = (SELECT max(heartbeat_at) FROM runs WHERE runs.source_id = sources.id)")
    op.execute("DELETE FROM shards")


def downgrade() -> None:
    op.execute("DELETE FROM shards")
    op.drop_column("runs", "clock_ahead")
    op.drop_column("runs", "process")
    op.drop_column("sources", "clock_at")

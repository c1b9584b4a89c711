"""Count the transactions of each run in its row, so that a database which has lost some is noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"

LOSES = "how many transactions each run has written"


def upgrade() -> None:
    op.add_column("runs", sa.Column("written", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("runs", "written")

"""Number what runs see of the objects, say what a remembered page vouches for, and why a source is listed by directory.

What earlier versions kept of listings is emptied: their page memory forgot too little in some cases, and what they took
for another etag of a copy's version may have been an older version's. The next listing reads every page once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

LOSES = "when each object was last seen, and why a source is listed by directory; the next listing reads every page"

Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")

_COLUMNS = {
    "sources": (
        sa.Column("seen", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("order_since", Time),
        sa.Column("order_reason", sa.Text),
        sa.Column("order_lapses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("order_proofs", sa.Integer, nullable=False, server_default="0"),
    ),
    "objects": (
        sa.Column("seen", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("seen_at", Time),
        sa.Column("seen_in", sa.BigInteger),
    ),
    "pages": (sa.Column("vouched", sa.Integer, nullable=False, server_default="0"),),
}


def upgrade() -> None:
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.execute("DELETE FROM pages")
    op.execute("UPDATE objects SET listed_etag = NULL WHERE listed_etag IS NOT NULL")


def downgrade() -> None:
    op.execute("DELETE FROM pages")
    for table, columns in reversed(_COLUMNS.items()):
        for column in reversed(columns):
            op.drop_column(table, column.name)

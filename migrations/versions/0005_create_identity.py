"""Give the catalog an id, know the data directories, and give each source a directory of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

LOSES = "which catalog, data directories and sources belong together: `ingest source attach` says it anew"

Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")

_OWNERS = """
UPDATE sources SET directory = bucket WHERE id = (
    SELECT namesakes.id FROM sources AS namesakes WHERE namesakes.bucket = sources.bucket ORDER BY
        (SELECT count(*) FROM objects WHERE objects.source_id = namesakes.id AND state = 'present') = 0,
        (SELECT coalesce(max(runs.id), 0) FROM runs WHERE runs.source_id = namesakes.id) DESC,
        namesakes.id LIMIT 1)
"""
"""Where two endpoints have a bucket of one name, their copies lie in one directory, and one source can own it: that
with copies that was last at work. The other one is asked for a directory of its own."""


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("catalog_id", sa.String(32), nullable=False),
        sa.Column("made_at", Time, nullable=False),
    )
    op.create_table(
        "directories",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("inode", sa.Text, nullable=False),
        sa.Column("catalog_place", sa.Text, nullable=False),
        sa.Column("seen_at", Time, nullable=False),
    )
    op.add_column("sources", sa.Column("directory", sa.Text))
    op.add_column("sources", sa.Column("directory_id", sa.String(32)))
    op.add_column("sources", sa.Column("forgotten_at", Time))
    op.create_index("uq_sources_directory", "sources", ["directory"], unique=True)
    op.execute(_OWNERS)


def downgrade() -> None:
    op.drop_index("uq_sources_directory", "sources")
    for name in ("forgotten_at", "directory_id", "directory"):
        op.drop_column("sources", name)
    op.drop_table("directories")
    op.drop_table("installation")

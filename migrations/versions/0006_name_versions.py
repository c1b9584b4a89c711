"""Name the versions of objects whose etag names none, and keep what a listing shows beside what an object answers.

Rows that are there are named by the moment that they have: what was downloaded is known again tonight.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

LOSES = "which version an object without a telling etag is of: such objects are downloaded once more"

_HEX = "[0-9a-f]" * 32
_BY_ENGINE = {
    "sqlite": (
        "strftime('%Y-%m-%dT%H:%M:%SZ', last_modified)",
        f"etag NOT GLOB '{_HEX}' AND etag NOT GLOB '{_HEX}-[1-9]*'",
    ),
    "postgresql": (
        "to_char(last_modified AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
        "etag !~ '^[0-9a-f]{32}(-[1-9][0-9]{0,4})?$'",
    ),
}
_OF_OBJECT = "objects.source_id = deliveries.source_id AND objects.key = deliveries.key AND objects.version IS NOT NULL"


def upgrade() -> None:
    op.add_column("objects", sa.Column("version", sa.Text))
    op.add_column("objects", sa.Column("listed_etag", sa.Text))
    op.add_column("sources", sa.Column("etags", sa.Text))
    moment, is_no_name = _BY_ENGINE[op.get_bind().dialect.name]
    op.execute(f"UPDATE objects SET version = etag || '@' || {moment} WHERE {is_no_name}")  # noqa: S608 - our own words
    _rename("etag", "version")


def downgrade() -> None:
    _rename("version", "etag")
    op.drop_column("sources", "etags")
    op.drop_column("objects", "listed_etag")
    op.drop_column("objects", "version")


def _rename(old: str, new: str) -> None:
    """What refers to an object's version by its name."""
    op.execute(
        f"UPDATE deliveries SET etag = (SELECT objects.{new} FROM objects WHERE {_OF_OBJECT}) "  # noqa: S608 - as above
        f"WHERE EXISTS (SELECT 1 FROM objects WHERE {_OF_OBJECT} AND objects.{old} = deliveries.etag)"
    )
    op.execute(
        f"UPDATE objects SET announced_etag = {new} WHERE version IS NOT NULL AND announced_etag = {old}"  # noqa: S608
    )

"""Put back in line what earlier versions gave up for good, and should not have.

They gave a version up for a newer one that was not recorded any more, or had not been put in line by whoever recorded
it, and one whose file was being replaced at that moment as missing.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

LOSES = "nothing: what was put back in line stays there"

_SUPERSEDED = "superseded: the object changed before it was delivered"
_OF_OBJECT = "o.source_id = d.source_id AND o.key = d.key"
_RECORDED = "coalesce(o.version, o.etag)"


def upgrade() -> None:
    op.execute(  # the version that is recorded, with a copy, and that no address has had
        "UPDATE deliveries AS d SET state = 'pending', attempts = 0 WHERE d.state = 'dead' "  # noqa: S608 - our own words
        f"AND (d.last_error = '{_SUPERSEDED}' OR substr(d.last_error, 1, 30) = 'its copy is missing or damaged') "
        f"AND EXISTS (SELECT 1 FROM objects o WHERE {_OF_OBJECT} AND {_RECORDED} = d.etag AND o.state = 'present') "
        "AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.source_id = d.source_id AND e.key = d.key "
        "AND e.etag = d.etag AND e.state <> 'dead')"
    )
    op.execute(  # the version that took the place of another one, and was never in line itself
        "INSERT INTO deliveries (source_id, key, etag, target, state, fields, created_at, next_attempt_at) "  # noqa: S608
        f"SELECT d.source_id, d.key, {_RECORDED}, d.target, 'pending', d.fields, d.created_at, d.next_attempt_at "
        f"FROM deliveries d JOIN objects o ON {_OF_OBJECT} "
        f"WHERE d.last_error = '{_SUPERSEDED}' AND d.state = 'dead' AND o.state IN ('present', 'pruned') "
        f"AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.source_id = d.source_id AND e.key = d.key "
        f"AND (e.etag = {_RECORDED} OR e.id > d.id))"
    )


def downgrade() -> None:
    """An earlier version delivers them as well."""

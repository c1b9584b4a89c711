"""One object's story: its row, its part of the audit trail, and its deliveries."""

from __future__ import annotations

from typing import Any

from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.records import Records

OBJECTS = Records(
    "objects",
    "source_id, key, size, etag, last_modified, version_id, storage_class, source_s3_path, state, local_path, digest, "
    "verified, downloaded_at, pruned_at, gone_at, hold, attempts, last_error, announced_etag, version, listed_etag, "
    "seen, seen_at, seen_in",
    times=frozenset({"last_modified", "downloaded_at", "pruned_at", "gone_at", "seen_at"}),
    flags=frozenset({"hold"}),
)
EVENTS = Records(
    "events",
    "id, at, run_id, source_id, key, what, detail, prev_hash, hash",
    times=frozenset({"at"}),
)
DELIVERIES = Records(
    "deliveries",
    "id, source_id, key, etag, target, state, attempts, next_attempt_at, response_status, response, fields, "
    "created_at, delivered_at, claimed_by, claimed_until, last_error",
    times=frozenset({"next_attempt_at", "created_at", "delivered_at", "claimed_until"}),
    documents=frozenset({"fields"}),
)
_OBJECT = OBJECTS.where("source_id = ? AND key = ?")
_EVENTS = f"{EVENTS.where('source_id = ? AND key = ?')} ORDER BY id"
_DELIVERIES = f"{DELIVERIES.where('source_id = ? AND key = ?')} ORDER BY id"


async def story(catalog: Catalog, source_id: int, key: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The object's row (None when the catalog does not know it) and its events, oldest first."""
    rows = OBJECTS.read(await catalog.driver.fetch(_OBJECT, source_id, key))
    return next(iter(rows), None), EVENTS.read(await catalog.driver.fetch(_EVENTS, source_id, key))


async def deliveries_of(catalog: Catalog, source_id: int, key: str) -> list[dict[str, Any]]:
    """The deliveries of one key, oldest first, with what the service said."""
    return DELIVERIES.read(await catalog.driver.fetch(_DELIVERIES, source_id, key))

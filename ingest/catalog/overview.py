"""What `status` and `runs` show: totals, the runs, and what came of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ingest.catalog.catalog import Catalog
from ingest.catalog.runs import NEWEST_OF_COMMAND, NEWEST_OF_SOURCE, NO_DRY_RUN, OF_COMMAND, OF_SOURCE
from ingest.catalog.sql.driver import END_OF_TIME, LAST_ID, read_time
from ingest.catalog.sql.records import Records
from ingest.model import LetterState, State

_TOTALS = (
    "SELECT state, count(*), coalesce(sum(size), 0), count(gone_at), min(downloaded_at), max(downloaded_at), "
    "coalesce(sum(CASE WHEN gone_at IS NOT NULL THEN size END), 0) "
    "FROM objects WHERE source_id = ? GROUP BY state"
)
_ORDER = "SELECT order_since, order_reason FROM sources WHERE id = ?"
RUNS = Records(
    "runs",
    "id, source_id, command, arguments, host, pid, started_at, heartbeat_at, finished_at, status, counts, error, "
    "audit_id, audit_hash, clock_ahead",
    times=frozenset({"started_at", "heartbeat_at", "finished_at"}),
    documents=frozenset({"arguments", "counts"}),
)
COMMANDS = """
WITH RECURSIVE commands(command) AS (
  SELECT min(command) FROM runs WHERE source_id = ?
  UNION ALL
  SELECT (SELECT min(command) FROM runs WHERE source_id = ? AND runs.command > commands.command)
  FROM commands WHERE command IS NOT NULL
) SELECT command FROM commands WHERE command IS NOT NULL
"""
"""Each that a source has a run of: one step through the index for each, however many runs there are."""
_RECENT = f"{RUNS.where(OF_SOURCE)} {NEWEST_OF_SOURCE} ?"
_LAST = f"{RUNS.where(OF_COMMAND)} {NEWEST_OF_COMMAND} 1"
_LAST_DONE = f"{RUNS.where(OF_COMMAND)} AND {NO_DRY_RUN} {NEWEST_OF_COMMAND} 1"
_RUN_SHOWN = RUNS.where("source_id = ? AND id = ?")
_TRAIL_BEFORE = "SELECT max(audit_id) FROM runs WHERE finished_at <= ?"
_TROUBLES = (
    "SELECT e.key, e.at, e.what, e.detail, o.last_error FROM events e "
    "LEFT JOIN objects o ON o.source_id = e.source_id AND o.key = e.key "
    "WHERE e.id > ? AND e.id <= ? AND e.run_id = ? AND e.what IN ('failed', 'damaged') ORDER BY e.id LIMIT ?"
)
_LETTERS = "SELECT state, count(*) FROM dead_letters WHERE source_id = ? GROUP BY state"
_UNANNOUNCED = (
    "SELECT count(*) FROM objects WHERE source_id = ? AND downloaded_at >= ? AND downloaded_at <= ? "
    "AND (announced_etag IS NULL OR announced_etag <> coalesce(version, etag)) "
    "AND NOT EXISTS (SELECT 1 FROM dead_letters "
    "WHERE dead_letters.source_id = objects.source_id AND dead_letters.key = objects.key)"
)
_HANDS_OVER = "SELECT 1 FROM deliveries WHERE source_id = ? AND target = ? LIMIT 1"


async def totals(catalog: Catalog, source_id: int) -> dict[str, Any]:
    """Objects and bytes by state, the gone ones, the copies that are the only ones, and the span of downloads."""
    rows = await catalog.driver.fetch(_TOTALS, source_id, leisurely=True)
    return {
        "states": {row[0]: {"objects": row[1], "bytes": int(row[2])} for row in rows},
        "objects": sum(row[1] for row in rows),
        "gone": sum(row[3] for row in rows),
        "only_copies": next(
            ({"objects": row[3], "bytes": int(row[6])} for row in rows if row[0] == State.PRESENT),
            {"objects": 0, "bytes": 0},
        ),
        "first_download": min((read_time(row[4]) for row in rows if row[4]), default=None),
        "last_download": max((read_time(row[5]) for row in rows if row[5]), default=None),
    }


async def order_shown(catalog: Catalog, source_id: int) -> tuple[datetime | None, str]:
    """Since when a source counts as listed in the order that is on record, and what has shown that it is another than
    it was taken for; empty where nothing has."""
    rows = await catalog.driver.fetch(_ORDER, source_id)
    since, reason = rows[0] if rows else (None, None)
    return (read_time(since) if since else None), reason or ""


async def recent_runs(catalog: Catalog, source_id: int, limit: int) -> list[dict[str, Any]]:
    """The runs of a source, the newest first, by their columns' names."""
    return RUNS.read(await catalog.driver.fetch(_RECENT, source_id, source_id, limit))


async def last_runs(catalog: Catalog, source_id: int) -> list[dict[str, Any]]:
    """The last run of each command, the newest first; where that was a dry run, the last one that was none as well."""
    found: dict[int, dict[str, Any]] = {}
    for (command,) in await catalog.driver.fetch(COMMANDS, source_id, source_id):
        for sql in (_LAST, _LAST_DONE):
            found |= {run["id"]: run for run in RUNS.read(await catalog.driver.fetch(sql, *(source_id, command) * 2))}
    return [found[number] for number in sorted(found, reverse=True)]


async def run_of(catalog: Catalog, source_id: int, run_id: int) -> dict[str, Any] | None:
    """One run by its columns' names; None where this source has no such run."""
    return next(iter(RUNS.read(await catalog.driver.fetch(_RUN_SHOWN, source_id, run_id))), None)


async def troubles(catalog: Catalog, run: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """Up to `limit` objects that failed or were found damaged in a run, as its audit trail has them.

    The reason in full is the one on record now, where it is of the same kind.
    """
    dialect = catalog.driver.dialect
    before = (await catalog.driver.fetch(_TRAIL_BEFORE, dialect.time(run["started_at"])))[0][0]
    bounds = (before or 0, run["audit_id"] or LAST_ID)  # the trail of a run is a part of all of it
    rows = await catalog.driver.fetch(_TROUBLES, *bounds, run["id"], limit)
    return [_as_trouble(*row) for row in rows]


def _as_trouble(key: str, at: Any, what: str, written: str, last_error: str | None) -> dict[str, Any]:
    detail = json.loads(written)
    error = str(detail.get("error") or detail.get("found") or what)
    code, _, message = (last_error or "").partition(": ")
    return {
        "key": key,
        "at": read_time(at),
        "what": what,
        "error": error,
        "message": message if code == error else detail.get("detail", ""),
    }


async def letters(catalog: Catalog, source_id: int) -> dict[str, int]:
    """How many messages that could not be carried out are in which state."""
    found: dict[str, int] = dict(await catalog.driver.fetch(_LETTERS, source_id, leisurely=True))
    return {state.value: found.get(state.value, 0) for state in LetterState}


async def unannounced(catalog: Catalog, source_id: int, since: datetime, until: datetime | None = None) -> int:
    """Objects downloaded in this time that no consumed message has named in the version that was taken.

    A message that waits or was given up has named its object, too.
    """
    time = catalog.driver.dialect.time
    span = time(since), time(until or END_OF_TIME)
    return int((await catalog.driver.fetch(_UNANNOUNCED, source_id, *span, leisurely=True))[0][0])


async def hands_over(catalog: Catalog, source_id: int, target: str) -> bool:
    """Whether anything of this source was ever in line for this address."""
    return bool(await catalog.driver.fetch(_HANDS_OVER, source_id, target))

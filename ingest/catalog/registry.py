"""Changes to what is on record of sources and data directories: each one transaction, with its run and audit event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import NamedTuple

from ingest.catalog import audit, runs, sources
from ingest.catalog.sources import Known, Source
from ingest.catalog.sql.driver import Dialect, Driver, Statement, Steps, read_time
from ingest.model import Audit, Counts, RunStatus
from ingest.plan.clock import Reading

_OVERVIEW = (
    "SELECT sources.id, count(objects.key), "
    "coalesce(sum(CASE WHEN objects.state = 'present' THEN 1 ELSE 0 END), 0), sources.last_complete_sync "
    "FROM sources LEFT JOIN objects ON objects.source_id = sources.id "
    "WHERE forgotten_at IS NULL GROUP BY sources.id, sources.last_complete_sync"
)
_RENAME = "UPDATE sources SET endpoint = ? WHERE id = ?"
_FORGET = (
    "UPDATE sources SET endpoint = ?, directory = NULL, directory_id = NULL, listing_order = 'unknown', "
    "last_complete_sync = NULL, forgotten_at = ? WHERE id = ?"
)
_ROWS_OF_A_SOURCE = (
    "DELETE FROM objects WHERE source_id = ?",
    "DELETE FROM pages WHERE source_id = ?",
    "DELETE FROM holds WHERE source_id = ?",
    "DELETE FROM deliveries WHERE source_id = ?",
    "DELETE FROM dead_letters WHERE source_id = ?",
)
_MOVE = "UPDATE sources SET directory_id = ? WHERE id = ?"
_PLACE = "UPDATE sources SET directory = ? WHERE id = ?"
_PLACE_COPIES = (
    "UPDATE objects SET local_path = ? || substr(local_path, ?) "
    "WHERE source_id = ? AND local_path IS NOT NULL AND substr(local_path, 1, ?) = ?"
)


class Holdings(NamedTuple):
    """What is recorded of a source."""

    objects: int
    present: int
    last_complete_sync: datetime | None


async def holdings(driver: Driver) -> dict[int, Holdings]:
    """By the source's number."""
    rows = await driver.fetch(_OVERVIEW)
    return {
        int(number): Holdings(int(objects), int(present), read_time(last) if last else None)
        for number, objects, present, last in rows
    }


def rename(chosen: Sequence[Source], endpoint: str, dialect: Dialect) -> Steps[None]:
    """The same buckets under another address. A namesake there that nothing is recorded of gives way."""
    known = yield from sources.locked(dialect)
    for source in chosen:
        for other in known:
            if (other.endpoint, other.bucket) == (endpoint, source.bucket) and other.id != source.id:
                yield from _strike(other, dialect)
        yield Statement(_RENAME, (endpoint, source.id))
        detail = {"from": source.endpoint, "to": endpoint}
        yield from _noted("source rename", source.id, "renamed", detail, dialect)


def forget(source: Source, dialect: Dialect) -> Steps[None]:
    """Removes every row of its objects; its runs and its audit trail stay, under a name that no source has.

    Raises:
        LockedError: a run of it is under way.
    """
    yield from _strike(source, dialect)
    yield from runs.require_idle(source)
    for sql in _ROWS_OF_A_SOURCE:
        yield Statement(sql, (source.id,))
    yield from _noted("source forget", source.id, "forgotten", {"endpoint": source.endpoint}, dialect)


def _strike(source: Source, dialect: Dialect) -> Steps[None]:
    now = dialect.time(datetime.now(UTC))
    yield Statement(_FORGET, (f"{source.endpoint}#{source.id}", now, source.id))


def attach(catalog_id: str, directory_id: str, known: Known, chosen: Sequence[Source], dialect: Dialect) -> Steps[str]:
    """Says that the copies of these sources lie in this data directory. Returns the catalog's id."""
    own = yield from sources.name_catalog(catalog_id, dialect)
    yield from sources.bind(directory_id, known, None, dialect)
    for source in chosen:
        yield Statement(_MOVE, (directory_id, source.id))
        detail = {"directory": directory_id, "was": source.directory_id, "path": known.place.path}
        yield from _noted("source attach", source.id, "attached", detail, dialect)
    return own


def place(source: Source, directory: str, dialect: Dialect) -> Steps[None]:
    """The copies of a source lie in another directory from now on; the files themselves are left alone.

    Raises:
        LockedError: a run of it is under way.
    """
    was = source.directory or source.bucket
    yield Statement(_PLACE, (directory, source.id))
    yield from runs.require_idle(source)
    head = f"{was}/"
    yield Statement(_PLACE_COPIES, (f"{directory}/", len(head) + 1, source.id, len(head), head))
    detail = {"from": source.directory or None, "to": directory}
    yield from _noted("source attach", source.id, "placed", detail, dialect)


def _noted(command: str, source_id: int, what: str, detail: Mapping[str, object], dialect: Dialect) -> Steps[None]:
    run_id = (yield from runs.start(command, detail, source_id, dialect)).run_id
    line, clock = Audit(what, "", dict(detail)), Reading(datetime.now(UTC))
    yield from audit.append(dialect, run_id, source_id, clock.now, [line])
    yield from runs.finish(run_id, RunStatus.OK, asdict(Counts()) | {what: 1}, None, dialect, clock=clock)

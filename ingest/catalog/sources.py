"""The sources, the data directories of their copies, and the catalog's own id: what belongs together, on record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ingest.catalog.schema.schema import CATALOG_ID
from ingest.catalog.sql.driver import Dialect, Driver, Statement, Steps, read_time
from ingest.errors import DirectoryTaken
from ingest.model import ListingOrder
from ingest.plan.identity import DirectoryPlace, canonical_endpoint, same_directory

_SOURCES = (
    "SELECT sources.id, endpoint, bucket, listing_order, last_complete_sync IS NULL, directory, directory_id, "
    "clock_at, path, host, inode, catalog_place FROM sources LEFT JOIN directories ON directories.id = directory_id "
    "WHERE forgotten_at IS NULL ORDER BY sources.id"
)
_ADD = "INSERT INTO sources (endpoint, bucket, directory, directory_id) VALUES (?, ?, ?, ?) RETURNING id"
_BIND = "UPDATE sources SET directory_id = ? WHERE id = ? AND directory_id IS NULL"
_VACATE = "UPDATE sources SET directory = NULL, directory_id = NULL WHERE id = ?"
_IS_USED = (
    "SELECT EXISTS (SELECT 1 FROM objects WHERE source_id = ?) OR EXISTS (SELECT 1 FROM holds WHERE source_id = ?) "
    "OR EXISTS (SELECT 1 FROM deliveries WHERE source_id = ?) OR EXISTS (SELECT 1 FROM events WHERE source_id = ?) "
    "OR EXISTS (SELECT 1 FROM dead_letters WHERE source_id = ?)"
)
_TABLES_OF_USE = 5
_HAS_COPIES = "SELECT EXISTS (SELECT 1 FROM objects WHERE source_id = ? AND state = 'present')"
_DIRECTORY = "SELECT path, host, inode, catalog_place FROM directories WHERE id = ?"
_DIRECTORIES = "SELECT id, path, host FROM directories ORDER BY seen_at DESC"
_NOTE_DIRECTORY = (
    "INSERT INTO directories (id, path, host, inode, catalog_place, seen_at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET path = excluded.path, host = excluded.host, inode = excluded.inode, "
    "catalog_place = excluded.catalog_place, seen_at = excluded.seen_at"
)
_LOCK_POSTGRES = "LOCK TABLE sources IN SHARE ROW EXCLUSIVE MODE"
_NAME_CATALOG = (
    "INSERT INTO installation (number, catalog_id, made_at) VALUES (1, ?, ?) ON CONFLICT (number) DO NOTHING"
)
_DISOWN_RUN = ("DELETE FROM shards WHERE run_id = ?", "DELETE FROM runs WHERE id = ?")
_DISOWN_SOURCE = (
    "DELETE FROM sources WHERE id = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.source_id = sources.id)"
)


class Known(NamedTuple):
    """A data directory as it was last seen. `catalog_place` is where the catalog itself was then."""

    place: DirectoryPlace
    catalog_place: str


class Source(NamedTuple):
    """One bucket at one endpoint."""

    id: int
    bucket: str
    order: ListingOrder
    is_new: bool
    directory: str
    """Below the data directory, where its copies lie; empty until it has one."""
    directory_id: str | None
    """The data directory."""
    endpoint: str
    known: Known | None = None
    """What is on record of its data directory."""
    clock_at: datetime | None = None
    """The last time that its runs vouch for (see `plan.clock`)."""


def unknown(endpoint: str, bucket: str) -> Source:
    """What stands for a source that has no row: no row of any table has its number."""
    return Source(0, bucket, ListingOrder.UNKNOWN, True, bucket, None, endpoint)


async def all_sources(driver: Driver) -> list[Source]:
    """Every source that was not forgotten, the oldest first."""
    return [_as_source(row) for row in await driver.fetch(_SOURCES)]


def find(sources: Sequence[Source], endpoint: str, bucket: str, *, secure: bool) -> Source | None:
    """The source of this bucket, however its endpoint is spelled."""
    wanted = canonical_endpoint(endpoint, secure=secure)
    for source in sources:
        if source.bucket == bucket and canonical_endpoint(source.endpoint, secure=secure) == wanted:
            return source
    return None


def locked(dialect: Dialect) -> Steps[list[Source]]:
    """The sources, which nobody else adds to or renames until this transaction ends."""
    if dialect.is_postgres:
        yield Statement(_LOCK_POSTGRES)
    return [_as_source(row) for row in (yield Statement(_SOURCES))]


def add(
    endpoint: str, bucket: str, directory: str, directory_id: str | None, dialect: Dialect, *, secure: bool = True
) -> Steps[Source]:
    """A new source, whose copies lie in `directory`; or the one that another process has added meanwhile.

    A source without any row of its own, as a mistyped endpoint leaves one, gives its directory up.

    Raises:
        DirectoryTaken: it is another source's.
    """
    sources = yield from locked(dialect)
    found = find(sources, endpoint, bucket, secure=secure)
    if found is not None:
        return found
    yield from make_way(sources, endpoint, bucket, directory)
    rows = yield Statement(_ADD, (endpoint, bucket, directory, directory_id))
    return Source(int(rows[0][0]), bucket, ListingOrder.UNKNOWN, True, directory, directory_id, endpoint)


def make_way(known: Sequence[Source], endpoint: str, bucket: str, directory: str) -> Steps[None]:
    """Has whoever has this directory and nothing in it give it up.

    Raises:
        DirectoryTaken: it is in use.
    """
    for other in known:
        if same_directory(other.directory, directory):
            if (yield from is_used(other.id)):
                raise DirectoryTaken(
                    f"s3://{bucket} at {endpoint} has no directory, and {directory!r} is that of s3://{other.bucket} "
                    f"at {other.endpoint}"
                )
            yield Statement(_VACATE, (other.id,))


def is_used(source_id: int) -> Steps[bool]:
    """Whether anything is recorded of a source."""
    return bool((yield Statement(_IS_USED, (source_id,) * _TABLES_OF_USE))[0][0])


def disown(run_id: int, source_id: int, _dialect: Dialect) -> Steps[None]:
    """Takes back a run and the source that it made: nothing ever answered under this address.

    A source that another run works on by now, or that anything is recorded of, stays.
    """
    if not (yield from is_used(source_id)):
        for sql in _DISOWN_RUN:
            yield Statement(sql, (run_id,))
        yield Statement(_DISOWN_SOURCE, (source_id,))


async def has_copies(driver: Driver, source_id: int) -> bool:
    """Whether a copy of it is recorded as present."""
    return bool((await driver.fetch(_HAS_COPIES, source_id))[0][0])


def name_catalog(proposed: str, dialect: Dialect) -> Steps[str]:
    """The catalog's id: the one that it has, or else `proposed`."""
    yield Statement(_NAME_CATALOG, (proposed, dialect.time(datetime.now(UTC))))
    return str((yield Statement(CATALOG_ID))[0][0])


async def directory(driver: Driver, directory_id: str) -> Known | None:
    """What is on record of a data directory."""
    rows = await driver.fetch(_DIRECTORY, directory_id)
    return Known(DirectoryPlace(*rows[0][:3]), rows[0][3]) if rows else None


async def other_directories(driver: Driver, directory_id: str) -> list[str]:
    """Where the data directories with other ids were last seen."""
    return [path for own, path, _ in await driver.fetch(_DIRECTORIES) if own != directory_id]


def bind(directory_id: str, known: Known, source_id: int | None, dialect: Dialect) -> Steps[None]:
    """Notes where a data directory is, and that the copies of this source lie in it, unless it has one by now."""
    now = dialect.time(datetime.now(UTC))
    yield Statement(_NOTE_DIRECTORY, (directory_id, *known.place, known.catalog_place, now))
    if source_id is not None:
        yield Statement(_BIND, (directory_id, source_id))


def _as_source(row: tuple[Any, ...]) -> Source:
    number, endpoint, bucket, order, is_new, directory, directory_id, clock_at, *known = row
    seen = Known(DirectoryPlace(*known[:3]), known[3]) if known[0] is not None else None
    order = ListingOrder(order)
    clock = None if clock_at is None else read_time(clock_at)
    return Source(int(number), bucket, order, bool(is_new), directory or "", directory_id, endpoint, seen, clock)

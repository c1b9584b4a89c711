"""The copies on record: page by page in key order, or those of given keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.driver import VERSION, read_time
from ingest.model import CatalogRow, RemoteObject, Shard, State
from ingest.plan.shards import key_range

COPY = (
    f"key, size, {VERSION}, last_modified, storage_class, state, local_path, digest, "
    "downloaded_at, pruned_at, gone_at, last_error, seen"
)
"""What `as_copy` reads."""
_PAGE = f"SELECT {COPY} FROM objects WHERE source_id = ? AND state {{among}} AND key >= ? ORDER BY key LIMIT ?"
_PAGE_BEFORE = _PAGE.replace("ORDER BY", "AND key < ? ORDER BY")
_OF_KEYS = f"SELECT {COPY} FROM objects WHERE source_id = ? AND key {{among}}"
_PATHS = "key, local_path FROM objects WHERE source_id = ? AND state = 'present' AND local_path IS NOT NULL AND key"
_PATHS_OF_KEYS = f"SELECT {_PATHS} {{among}}"
_PATHS_WITH = f"SELECT {_PATHS} > ? AND replace(local_path, ?, '') <> local_path ORDER BY key LIMIT ?"


class CopyRow(NamedTuple):
    """An object whose copy is looked at, removed or brought back, as it was last recorded."""

    remote: RemoteObject
    state: str
    local_path: str | None
    gone: bool
    pruning: bool
    """A cleanup has said that it removes the copy, and may have been killed before or after."""
    downloaded_at: datetime | None
    digest: str | None
    last_error: str | None = None
    gone_at: datetime | None = None
    seen: int = 0
    """As `CatalogRow.seen`."""

    @property
    def decided_on(self) -> CatalogRow:
        """What a download of this very version is decided on."""
        remote = self.remote
        return CatalogRow(
            remote.key, remote.size, remote.etag, self.state, self.gone, self.local_path, 0, seen=self.seen
        )


async def copies_after(
    catalog: Catalog,
    source_id: int,
    states: Sequence[State],
    *,
    after: str,
    limit: int,
    prefix: str = "",
) -> list[CopyRow]:
    """Up to `limit` rows in these states, in key order from `after` (exclusive)."""
    first, behind = key_range(Shard(prefix, after))
    wanted = source_id, catalog.driver.dialect.listed([state.value for state in states]), first
    if behind is None:
        rows = await catalog.driver.fetch(_PAGE, *wanted, limit, leisurely=True)
    else:
        rows = await catalog.driver.fetch(_PAGE_BEFORE, *wanted, behind, limit, leisurely=True)
    return [as_copy(row) for row in rows]


async def copies_of(catalog: Catalog, source_id: int, keys: Sequence[str]) -> dict[str, CopyRow]:
    """The rows of these keys, in whatever state they are."""
    rows = await catalog.driver.fetch(_OF_KEYS, source_id, catalog.driver.dialect.listed(keys))
    return {row[0]: as_copy(row) for row in rows}


async def copies_named(catalog: Catalog, source_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Key -> local path of those keys whose copy the catalog says is present."""
    dialect = catalog.driver.dialect
    # PostgreSQL holds no NUL in a text, so no row of it has such a key, and asking would be an error.
    asked = [key for key in keys if "\0" not in key] if dialect.is_postgres else keys
    return dict(await catalog.driver.fetch(_PATHS_OF_KEYS, source_id, dialect.listed(asked)))


async def paths_holding(
    catalog: Catalog, source_id: int, text: str, *, after: str, limit: int
) -> list[tuple[str, str]]:
    """Up to `limit` (key, local path) of present copies whose path holds `text`, in key order from `after`."""
    rows = await catalog.driver.fetch(_PATHS_WITH, source_id, after, text, limit, leisurely=True)
    return [(key, path) for key, path in rows]


def as_copy(row: Sequence[Any]) -> CopyRow:
    """Of the columns of `COPY`."""
    key, size, version, last_modified, storage_class, state, local_path, digest, *times, last_error, seen = row
    downloaded_at, pruned_at, gone_at = times
    return CopyRow(
        RemoteObject(key, size, version, read_time(last_modified), storage_class or "STANDARD"),
        state,
        local_path,
        gone_at is not None,
        state == State.PRESENT and pruned_at is not None,
        None if downloaded_at is None else read_time(downloaded_at),
        digest,
        last_error,
        None if gone_at is None else read_time(gone_at),
        seen,
    )

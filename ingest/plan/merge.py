"""Joins a page of the listing with the catalog rows of the same keys. O(page) memory, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ingest.model import CatalogRow, Pair, RemoteObject


def merge(objects: Sequence[RemoteObject], rows: Sequence[CatalogRow]) -> Iterator[Pair]:
    """Walks two streams in byte order once, and yields each key that either knows.

    `rows` must be all rows of the range that `objects` covers: a row alone says that its key is not listed.

    Raises:
        ValueError: either side does not ascend strictly. Nothing is concluded from such a page.
    """
    waiting = iter(rows)
    row = next(waiting, None)
    before: str | None = None
    for remote in objects:
        key = remote.key
        if before is not None and key <= before:
            raise ValueError(f"the listing does not ascend at {key!r}")
        before = key
        while row is not None and row.key < key:
            yield Pair(None, row)
            row = _next_above(waiting, row)
        if row is not None and row.key == key:
            yield Pair(remote, row)
            row = _next_above(waiting, row)
        else:
            yield Pair(remote, None)
    while row is not None:
        yield Pair(None, row)
        row = _next_above(waiting, row)


def join(objects: Sequence[RemoteObject], rows: Mapping[str, CatalogRow]) -> Iterator[Pair]:
    """Pairs each listed object with its row, whatever the order; says nothing of rows that were not listed.

    A key that stands twice in the page is taken once.
    """
    seen: set[str] = set()
    for remote in objects:
        if remote.key not in seen:
            seen.add(remote.key)
            yield Pair(remote, rows.get(remote.key))


def _next_above(waiting: Iterator[CatalogRow], row: CatalogRow) -> CatalogRow | None:
    following = next(waiting, None)
    if following is not None and following.key <= row.key:
        raise ValueError(f"the catalog does not ascend at {following.key!r}")
    return following

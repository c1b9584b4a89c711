"""What must come of each command, told without any of the tool's own code: a dict for the bucket, a dict for the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

Bucket = Mapping[str, bytes]
Rows = dict[str, "Row"]


class Row(NamedTuple):
    """What the catalog is to say of a key."""

    state: str
    etag: str
    gone: bool


class Filters(NamedTuple):
    prefix: str = ""
    exclude: str = ""

    def lists(self, key: str) -> bool:
        return key.startswith(self.prefix)

    def excludes(self, key: str) -> bool:
        return bool(self.exclude) and fnmatchcase(key, self.exclude)


class Expected(NamedTuple):
    rows: Rows
    taken: set[str]
    """The keys that are downloaded."""
    gone: set[str]


def etag_of(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def after_sync(rows: Rows, bucket: Bucket, filters: Filters) -> Expected:
    """The rows after a run that met no fault."""
    expected = dict(rows)
    taken, gone = set(), set()
    for key, body in bucket.items():
        if filters.lists(key):
            expected[key] = _listed(key, body, rows.get(key), filters)
            if expected[key].state == "present" and (
                rows.get(key, expected[key]._replace(state=""))[:2] != expected[key][:2]
            ):
                taken.add(key)
    for key, row in rows.items():
        if key not in bucket and filters.lists(key) and not row.gone:
            expected[key] = row._replace(gone=True)
            gone.add(key)
    return Expected(expected, taken, gone)


def _listed(key: str, body: bytes, row: Row | None, filters: Filters) -> Row:
    etag = etag_of(body)
    had_a_copy = row is not None and row.state in ("present", "pruned")
    without_file = (key.endswith("/") and not body) or filters.excludes(key)
    if row is not None and had_a_copy and (row.etag == etag or without_file):
        return row._replace(gone=False)
    if without_file:
        kept = row.state if row is not None and row.etag == etag else "known"
        return Row(kept, etag, gone=False)
    return Row("present", etag, gone=False)


def after_cleanup(rows: Rows, bucket: Bucket, missing: set[str]) -> Rows:
    """Everything old enough, of which the bucket has the same version still, is pruned; but what is `missing` is that."""
    pruned = {key for key, row in rows.items() if is_prunable(key, row, bucket)} - missing
    return _changed(rows, lambda key, row: row._replace(state="pruned") if key in pruned else row)


def is_prunable(key: str, row: Row, bucket: Bucket) -> bool:
    """Whether it has a recorded copy, and the bucket the same version."""
    return row.state == "present" and not row.gone and key in bucket and etag_of(bucket[key]) == row.etag


def after_restore(rows: Rows, bucket: Bucket) -> Rows:
    """Everything pruned is back, but for what changed or is gone."""

    def one(key: str, row: Row) -> Row:
        if row.state != "pruned":
            return row
        if key not in bucket:
            return row._replace(gone=True)
        return Row("present", row.etag, gone=False) if etag_of(bucket[key]) == row.etag else row

    return _changed(rows, one)


def after_verify(rows: Rows, bucket: Bucket, spoilt: set[str]) -> Rows:
    """What is repaired is there again; what was to be repaired and is not in the bucket, is known to be gone."""

    def one(key: str, row: Row) -> Row:
        if key not in spoilt:
            return row
        if key not in bucket:
            return row._replace(gone=True)
        return row._replace(gone=False) if etag_of(bucket[key]) == row.etag else row

    return _changed(rows, one)


def _changed(rows: Rows, change: Callable[[str, Row], Row]) -> Rows:
    return {key: change(key, row) for key, row in rows.items()}


def may_be(before: Row | None, after: Row | None, bucket: Bucket, key: str) -> set[Row | None]:
    """What a row may be after a run that was cut short or met faults: as before, as it should be, or in trouble."""
    allowed: set[Row | None] = {before, after}
    for row in (before, after):
        if row is not None:
            allowed |= {row._replace(gone=True), row._replace(gone=False)}
    if key in bucket and (before is None or before.state not in ("present", "pruned")):
        allowed |= {Row("failed", etag_of(bucket[key]), gone) for gone in (False, True)}
    return allowed

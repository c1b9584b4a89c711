"""What one transaction writes: the rows, marks, audit lines and cursors that the recorder hands to the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingest.model import Audit, Shard, State, Verified


class ObjectUpsert(NamedTuple):
    """One object row to write. `state` is its kind, and decides which columns an existing row takes over:

    - ``known``: what the listing shows. A row that is ``present`` or ``pruned`` with the same etag and size keeps its
      state, so that two commands at once cannot undo each other.
    - ``present``: everything; clears ``pruned_at``, ``attempts`` and ``last_error`` to what is given here.
    - ``blocked``: what the listing shows, and ``last_error`` as the reason. The record of an older copy stays.
    - ``failed``: a row that is ``present`` or ``pruned`` keeps all it has, and only takes ``attempts`` and
      ``last_error``: its old copy stays, and its old etag makes the next run try again. Any other row takes what the
      listing shows.

    ``known``, ``present`` and ``blocked`` are evidence that the key is in the bucket, so they clear ``gone_at``.
    An unknown `version_id` never erases a known one of the same etag.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str
    state: State
    version_id: str | None = None
    local_path: str | None = None
    digest: str | None = None
    verified: Verified | None = None
    downloaded_at: datetime | None = None
    attempts: int = 0
    """Tries since the last success, as they are to stand in the row."""
    last_error: str | None = None


class ShardCursor(NamedTuple):
    """How far a shard of this run is recorded: every key up to and with `cursor`; `done` when that is all of it."""

    shard: Shard
    cursor: str = ""
    done: bool = False


class PageMemory(NamedTuple):
    """One page of the last complete listing: the keys in ``(start_after, last_key]`` and a digest of their bytes.

    `prefix` and `level` are those of the shard it belongs to. Of `listed` objects, `skipped` are those that the run
    counted as skipped; a page that is found unchanged repeats both. `complete`: the shard ended with it.
    """

    prefix: str
    level: bool
    start_after: str
    last_key: str
    listed: int
    skipped: int
    fingerprint: bytes
    complete: bool = False


class PagePut(NamedTuple):
    """A page to remember under `filters`. It replaces every remembered page of the same shard that it overlaps."""

    filters: bytes
    page: PageMemory


class KeyRange(NamedTuple):
    """``(after, upto]``; an `upto` of None has no end."""

    after: str
    upto: str | None


@dataclass(slots=True)
class Batch:
    """One transaction. Written in this order: forgotten pages, `returned`, `upserts` (in their order for one key),
    `gone`, `pages_put`, `cursors`, `audits`.

    `at` (UTC) is the time of every mark and audit line. `gone` and `returned` only touch rows that are not so marked.
    """

    run_id: int | None
    source_id: int
    at: datetime
    upserts: list[ObjectUpsert] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    cursors: list[ShardCursor] = field(default_factory=list)
    pages_put: list[PagePut] = field(default_factory=list)
    pages_forget: list[KeyRange] = field(default_factory=list)
    """Of whatever filters and shard: a page goes when its range and one of these share a key."""

    @property
    def is_empty(self) -> bool:
        return not (
            self.upserts
            or self.gone
            or self.returned
            or self.audits
            or self.cursors
            or self.pages_put
            or self.pages_forget
        )


def rounds(upserts: Sequence[ObjectUpsert]) -> Iterator[dict[State, list[ObjectUpsert]]]:
    """Cuts upserts into groups that may each be written in any order: no key twice in one round.

    A key that a listing showed twice is written twice, in its order, by two rounds.
    """
    waiting: Sequence[ObjectUpsert] = upserts
    while waiting:
        groups: dict[State, list[ObjectUpsert]] = {}
        later: list[ObjectUpsert] = []
        seen: set[str] = set()
        for upsert in waiting:
            key = upsert.key
            if key in seen:
                later.append(upsert)
                continue
            seen.add(key)
            groups.setdefault(upsert.state, []).append(upsert)
        yield groups
        waiting = later

"""Writes what transfers and decisions came to: makes a batch's files durable, then commits rows, audit and cursors.

It belongs to the engine because it joins the store with the catalog, which do not know each other. The order is the
promise: a row says ``present`` only after the file, its rename and its directory are durable. From the first rename to
the commit the copies are nobody else's (`engine.record.copies`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ingest.catalog.batch import Batch, SeenMarks, Settled
from ingest.engine.record.batch_builder import BatchBuilder
from ingest.engine.record.copies import Copies
from ingest.engine.record.page_notes import Tallied, note_pages
from ingest.engine.record.places import Places
from ingest.errors import DatabaseDataError, IngestError, ObjectChanged
from ingest.model import (
    CatalogRow,
    Counts,
    Download,
    LocalCopy,
    MarkGone,
    Outcome,
    Reason,
    Record,
    RemoteObject,
    Return,
    State,
    Status,
    key_of,
)
from ingest.plan.cursors import Cursors, Part
from ingest.plan.page_memory import settles
from ingest.plan.policy import overtaken
from ingest.plan.tally import tally, tally_many
from ingest.store.files import Adopted, Staged
from ingest.store.paths import is_place
from ingest.store.undo_log import Replaced
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop

if TYPE_CHECKING:
    from ingest.catalog.catalog import Catalog
    from ingest.store.files import FileStore

BATCH = 2_000
"""Outcomes that make a batch at once."""
INTERVAL = 1.0
"""Seconds after which a smaller batch is committed."""
_KNOWN_AT_ONCE = 4
"""Rows without a copy that weigh as much as one outcome: they cost no file, and no line of the audit trail."""
MOST_WAITING = 4 * BATCH
"""Outcomes that may wait; then whoever adds more waits as well, so memory stays flat."""


class Taken(NamedTuple):
    """A download whose bytes are checked and staged, but not durable yet."""

    action: Download
    remote: RemoteObject
    staged: Staged | Adopted
    attempts: int
    received: int


class Entry(NamedTuple):
    result: Outcome | Taken | Tallied
    part: Part | None


@dataclass
class Recorder:
    """Collects results and commits them in batches, from `start` to `close`.

    `on_outcome` sees every outcome once it is committed, for progress and logs.
    """

    catalog: Catalog
    store: FileStore
    builder: BatchBuilder
    counts: Counts
    on_outcome: Callable[[Outcome], None]
    keeps_rows: bool = False
    """Publishes only, for copies that go elsewhere than the catalog says: no object row is written."""
    interval: float = INTERVAL
    failure: IngestError | None = None
    """What ended recording: nothing more is written, and the run must end with it."""
    _waiting: list[Entry] = field(default_factory=list)
    _weight: int = 0
    _book: Cursors = field(default_factory=Cursors)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _full: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False
    _sights: SeenMarks = field(default_factory=SeenMarks)
    copies: Copies | None = None
    _places: Places | None = None
    _task: asyncio.Task[None] | None = None

    def start(self, stop: Stop | None = None) -> None:
        """Once `stop` is requested, a batch waits for no other process that hangs.

        Raises:
            DiskError: the lock of the copies cannot be made.
        """
        if not self.keeps_rows:
            self.copies = Copies(self.catalog, self.builder.source_id, self.store.undo_log, stop)
            self._places = Places(self.catalog, self.store.taken)
        self._room.set()
        self._task = asyncio.create_task(self._run(), name="recorder")

    def open(self, part: Part) -> None:
        """Announces a page; its outcomes follow by `add`, then `seal`."""
        self._book.open(part)

    def seal(self, part: Part) -> None:
        """No further outcome of this part will be announced."""
        part.seal()
        if part.is_finished:
            self._book.finished.append(part)
        self._wake.set()

    def add(self, result: Outcome | Taken | Tallied, part: Part | None = None) -> None:
        """Takes one result. It is committed with a later batch; `part.expect` announced it."""
        self._waiting.append(Entry(result, part))
        self._weight += 1 + len(result.known) // _KNOWN_AT_ONCE if isinstance(result, Tallied) else 1
        if not self._wake.is_set():
            self._wake.set()
        if self._weight >= BATCH:
            self._full.set()
            if self._weight >= MOST_WAITING:
                self._room.clear()

    async def ready(self) -> None:
        """Waits while too much is waiting to be recorded.

        Raises:
            IngestError: recording ended, and with it the run.
        """
        await self._room.wait()
        if self.failure is not None:
            raise self.failure

    async def failed(self) -> None:
        """Returns when recording ended by itself: its `failure` says why."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Commits what waits and ends. Also under cancellation: what was finished is recorded."""
        self._closing = True
        self._wake.set()
        self._full.set()
        if self._task is not None:
            try:
                await asyncio.shield(self._task)
            except asyncio.CancelledError:
                await asyncio.wait({self._task})
                raise
        if self.copies is not None:
            self.copies.close()
            self.copies = None
        if self.failure is not None:
            raise self.failure

    async def _run(self) -> None:
        try:
            while not self._closing or self._waiting or self._book.finished:
                await self._wake.wait()
                if not self._closing:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._full.wait(), self.interval)
                self._wake.clear()
                self._full.clear()
                await self._commit()
        except IngestError as error:
            self.failure = error
        finally:
            self._room.set()

    async def _commit(self) -> None:
        entries, self._waiting, self._weight = self._waiting, [], 0
        self._room.set()
        failpoint("batch.collected")
        moves = self.copies is not None and any(isinstance(entry.result, Taken) for entry in entries)
        async with self.copies.changing() if self.copies is not None and moves else nullcontext():
            published = await self._publish(entries)
            failpoint("batch.published")
            results = await self._record(entries, published)
        for result in results:
            if isinstance(result, Tallied):
                tally_many(self.counts, result.unchanged, result.skipped + len(result.known))
            else:
                tally(self.counts, result)
                self.on_outcome(result)

    async def _record(
        self, entries: Sequence[Entry], results: Sequence[Outcome | Tallied]
    ) -> Sequence[Outcome | Tallied]:
        """What came of each entry in the end.

        Raises:
            IngestError: nothing was recorded.
        """
        outcomes = [result for result in results if isinstance(result, Outcome)]
        for (_, part), result in zip(entries, results, strict=True):
            if part is not None:
                part.recorded(settled=not isinstance(result, Outcome) or settles(result, part.listed_at))
                if part.is_finished:
                    self._book.finished.append(part)
        batch = self.builder.build([] if self.keeps_rows else outcomes)
        batch.pages.sights = self._sights
        if not self.keeps_rows:
            note_pages(batch, zip(results, (part for _, part in entries), strict=True))
        self._note_pages(batch, {part for _, part in entries if part is not None})
        batch.cursors.extend(self._book.advance())
        if batch.is_empty:
            return results
        try:
            committed = await self.catalog.commit(batch)
        except DatabaseDataError:
            if len(outcomes) < len(results) or any(part is not None for _, part in entries):
                raise  # a listing goes on from where its cursor is: with the whole of a page, or not at all
            return await self._record_singly(outcomes)
        self._sights = committed.sights
        failpoint("batch.committed")
        return _without(results, committed.left) if committed.left else results

    async def _record_singly(self, outcomes: Sequence[Outcome]) -> list[Outcome | Tallied]:
        """What the database cannot keep of one object is that one's failure, and nobody else's.

        Raises:
            DatabaseDataError: that object's new copy stands where its row still has the old one.
        """
        results: list[Outcome | Tallied] = []
        for outcome in outcomes:
            try:
                committed = await self.catalog.commit(self.builder.build([outcome]))
                results.extend(_without([outcome], committed.left))
            except DatabaseDataError as error:
                if outcome.copy is not None and isinstance(outcome.action, Download) and outcome.action.row is not None:
                    raise
                results.append(outcome._replace(status=Status.FAILED, error=error, copy=None))
        return results

    def _note_pages(self, batch: Batch, parts: set[Part]) -> None:
        """What is relisted is forgotten with each of its rows, since another run may remember it in between; what is
        settled is kept with the last."""
        finished, self._book.finished = self._book.finished, []
        for part in parts.union(finished):
            if part.relists is not None:
                batch.pages.relisted.append(part.relists)
        for part in finished:
            if not part.unsettled:
                prefix, seen_before = part.shard.prefix, part.seen_before
                batch.pages.settled.extend(Settled(prefix, page, seen_before) for page in part.pages)

    async def _publish(self, entries: Sequence[Entry]) -> list[Outcome | Tallied]:
        """Turns what is staged into durable copies; a file that cannot be placed becomes a failure of its object."""
        taken = [result for result, _ in entries if isinstance(result, Taken)]
        rows = await self._rows_now(taken)
        late = {id(one) for one in taken if overtaken(one.action.row, rows.get(one.action.remote.key), one.remote)}
        staged = [one.staged for one in taken if isinstance(one.staged, Staged) and id(one) not in late]
        previous = _places(taken, rows, self.store.directory)
        versions = {one.action.remote.key: (one.remote.etag, one.remote.size) for one in taken}
        replaced = [
            Replaced(key, path)
            for key, path in previous.items()
            if rows[key].state == State.PRUNED
            or (rows[key].state == State.PRESENT and versions[key] != (rows[key].etag, rows[key].size))
        ]
        if staged and self._places is not None:
            await self._places.refresh()
        copies = await asyncio.to_thread(self.store.publish, staged, previous, replaced) if staged else {}
        adopted = [one.staged for one in taken if isinstance(one.staged, Adopted) and id(one) not in late]
        standing = await asyncio.to_thread(self.store.keep_adopted, adopted) if adopted else ()
        outcomes: list[Outcome | Tallied] = []
        for result, _ in entries:
            if not isinstance(result, Taken):
                outcomes.append(result)
            elif id(result) in late:
                outcomes.append(self._give_way(result))
            elif isinstance(result.staged, Staged):
                outcomes.append(_placed(result, copies[result.action.remote.key]))
            elif result.staged.copy.local_path in standing:
                outcomes.append(_placed(result, result.staged.copy))
            else:
                said = f"{result.remote.key!r}: the file that stood in its place is another one by now"
                outcomes.append(_placed(result, ObjectChanged(said)))
        return outcomes

    async def _rows_now(self, taken: Sequence[Taken]) -> dict[str, CatalogRow]:
        """The rows of what is about to be replaced, read once more: nobody else can change them now.

        What had no row is believed to have none still, while no other process has been at work.
        """
        if self.copies is None:
            return {}
        shared = self.copies.shared
        keys = [one.action.remote.key for one in taken if shared or one.action.row is not None]
        return await self.catalog.rows_for(self.builder.source_id, keys) if keys else {}

    def _give_way(self, taken: Taken) -> Outcome:
        if isinstance(taken.staged, Staged):
            self.store.discard(taken.staged)
        return _placed(taken, _overtaken(taken.remote.key))


def _overtaken(key: str) -> ObjectChanged:
    return ObjectChanged(f"{key!r}: another run has recorded another version meanwhile")


def _without(results: Sequence[Outcome | Tallied], left: frozenset[str]) -> Sequence[Outcome | Tallied]:
    """What came of it: nothing was said of the objects in `left`, which another run has seen meanwhile."""
    return [
        result._replace(status=Status.FAILED, error=_overtaken(key_of(result.action)))
        if isinstance(result, Outcome)
        and isinstance(result.action, MarkGone | Return | Record)
        and key_of(result.action) in left
        else result
        for result in results
    ]


def _places(taken: Sequence[Taken], rows: Mapping[str, CatalogRow], directory: str) -> dict[str, str]:
    """By key: the recorded path of the copy that a new one replaces.

    One that is no place of a copy fails its object while a copy is said to be there, so that somebody looks; where none
    is, or a repair takes it again, it counts for nothing, and the object comes to the key's own place.
    """
    found: dict[str, str] = {}
    for one in taken:
        row = rows.get(one.action.remote.key)
        if row is not None and row.local_path is not None:
            astray = not is_place(row.local_path, directory)
            if not astray or (row.state == State.PRESENT and one.action.reason is not Reason.REPAIR):
                found[row.key] = row.local_path
    return found


def _placed(taken: Taken, copy: LocalCopy | IngestError) -> Outcome:
    outcome = Outcome(taken.action, Status.DONE, taken.remote, None, None, taken.attempts, taken.received)
    if isinstance(copy, IngestError):
        return outcome._replace(status=Status.FAILED, error=copy)
    return outcome._replace(copy=copy, adopted=isinstance(taken.staged, Adopted))

"""Prunes local copies that were downloaded long ago; the rows stay, so that every copy can be brought back.

Intent in the catalog, unlink durably, done: a kill in between is finished by the next cleanup.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from ingest.catalog import pruning, trimming
from ingest.catalog.batch import Batch
from ingest.catalog.copies import CopyRow
from ingest.catalog.pruning import Candidate, Sought
from ingest.catalog.sql.driver import Dialect, Steps
from ingest.engine.evidence import note_pruned, pruned_since
from ingest.engine.options import CleanupOptions
from ingest.engine.record.copies import Copies
from ingest.engine.record.places import Places
from ingest.engine.run import Run, execute
from ingest.errors import ClockUntrusted, DiskError, NoSuchKey
from ingest.figures import Figures
from ingest.model import Audit, RunReport
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.plan.clock import clock_fault
from ingest.plan.etags import is_same
from ingest.plan.retention import ONLY_COPY, has_expired, reason_to_keep
from ingest.settings import Settings
from ingest.source.clock import server_time, utc_now
from ingest.source.patient import PatientBucket
from ingest.source.retries import retried
from ingest.store import folding
from ingest.store.files import FileStore
from ingest.store.inspection import Expected, Inspector, Verdict
from ingest.system.failpoints import failpoint
from ingest.system.units import format_size
from ingest.tasks.groups import task_group
from ingest.tasks.stop import Stop

_BATCH = 500
_READ_AT_ONCE = 5_000
_HEADS_AT_ONCE = 32
_ATTEMPTS = 4
_REMOVE: dict[str, Callable[[list[int], Dialect], Steps[None]]] = {
    "runs": trimming.remove_runs,
    "deliveries": trimming.remove_deliveries,
    "answers": trimming.remove_answers,
    "letters": trimming.remove_letters,
}


@dataclass(slots=True)
class CleanupFigures(Figures):
    dry_run: bool | None = None
    missing: int | None = None
    """Copies that were not there when they were to go."""
    only_copies: int | None = None
    """Old enough to go, and kept, since the bucket no longer has their objects."""
    trimmed_runs: int | None = None
    trimmed_deliveries: int | None = None
    trimmed_answers: int | None = None
    trimmed_letters: int | None = None


async def cleanup(
    settings: Settings,
    options: CleanupOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> RunReport:
    """Removes copies older than the retention, unless they are held, not delivered, or the only ones."""
    options = options or CleanupOptions()
    age = options.older_than if options.older_than is not None else settings.retention
    told = ("dry_run", "max_delete", "trust_catalog", "trust_clock")
    gone_after = options.gone_after if options.gone_after is not None else settings.gone_after
    arguments = {"older_than": age.total_seconds(), **{name: getattr(options, name) for name in told}}
    if gone_after is not None:
        arguments["gone_after"] = gone_after.total_seconds()

    async def work(run: Run) -> None:
        await _check_clock(run, options)
        async with AsyncExitStack() as stack:
            store = stack.enter_context(closing(FileStore(settings.data_dir, run.source.directory)))
            copies = stack.enter_context(closing(Copies(run.catalog, run.source.id, store.undo_log, run.stop)))
            etags = await run.catalog.etags(run.source.id)
            opening = PatientBucket.open(settings.source, connections=_HEADS_AT_ONCE, etags=etags, clock=run.clock)
            bucket = await stack.enter_async_context(opening)
            places = Places(run.catalog, store.taken)
            await _Cleanup(run, options, store, copies, places, bucket, clock, age, gone_after).work()
        await _trim(run, clock(), dry_run=options.dry_run)

    return await execute(
        "cleanup", settings, arguments, work, lock="retention", progress=progress, stop=stop, clock=clock
    )


async def _trim(run: Run, now: datetime, *, dry_run: bool) -> None:
    """Removes what is old from the bookkeeping (`catalog.trimming`), a part of it each night; the audit trail stays."""
    driver, settings = run.catalog.driver, run.settings
    found = await trimming.find_old(driver, run.source.id, now - settings.keep_runs, now - settings.keep_letters)
    for name, ids in found._asdict().items():
        for batch in [] if dry_run else trimming.batches(ids):
            run.stop.raise_if_requested()
            await driver.write(partial(_REMOVE[name], batch))
        if ids:
            setattr(run.report.figures, f"trimmed_{name}", len(ids))
            log().info("trimmed", what=name, number=len(ids), more=len(ids) == trimming.MOST, dry_run=dry_run)


async def _check_clock(run: Run, options: CleanupOptions) -> None:
    """An operator's word, where no server contradicts it, settles what earlier runs had."""
    run.clock.compare(await server_time(run.settings.source))
    reading = run.clock.reading._replace(trusted=options.trust_clock)
    fault = clock_fault(reading, run.source.clock_at)
    if fault is not None:
        raise ClockUntrusted(f"{fault}; no copy was removed")
    run.clock.trusted = options.trust_clock and not options.dry_run


@dataclass
class _Cleanup:
    run: Run
    options: CleanupOptions
    store: FileStore
    copies: Copies
    places: Places
    bucket: PatientBucket
    clock: Callable[[], datetime]
    age: timedelta
    gone_after: timedelta | None
    figures: CleanupFigures = field(default_factory=CleanupFigures)
    _removed: int = 0
    _only_copies: list[int] = field(default_factory=list)
    """Their sizes."""

    async def work(self) -> None:
        self.figures.dry_run = self.options.dry_run or None
        self.run.report.figures = self.figures
        most = self.options.max_delete
        sought = Sought(self.run.source.id, self.clock() - self.age, self._delivering, oldest_first=most is not None)
        async for found in self._batches(sought):
            failpoint("cleanup.read")
            self.run.stop.raise_if_requested()
            waiting = await self._finish(found)
            reasons = await self.run.stop.during(self._reasons(waiting))
            kept = [(row.copy, reason) for row, reason in zip(waiting, reasons, strict=True) if reason is not None]
            await self._keep(kept)
            doomed = [row.copy for row, reason in zip(waiting, reasons, strict=True) if reason is None]
            room = len(doomed) if most is None else max(0, most - self._removed)
            await self._prune(doomed[:room])
            if left := len(doomed[room:]):
                left += await pruning.count_behind(self.run.catalog, sought, found[-1].copy)
                self.run.counts.kept += left
                log().warning("max_delete_reached", max_delete=most, left=left)
                return
        await self._say_what_stays()

    async def _batches(self, sought: Sought) -> AsyncIterator[Sequence[Candidate]]:
        """To find the oldest takes a look at all of them, so that more are read at once than are pruned at once."""
        after, limit = None, max(_BATCH, min(self.options.max_delete or 0, _READ_AT_ONCE))
        while found := await pruning.candidates(self.run.catalog, sought, after=after, limit=limit):
            for start in range(0, len(found), _BATCH):
                yield found[start : start + _BATCH]
            after = found[-1].copy

    async def _say_what_stays(self) -> None:
        """Where nobody has said how long the only copies are wanted, and there are more than there were: a disk may
        fill with them."""
        if not self._only_copies:
            return
        number = self.figures.only_copies = len(self._only_copies)
        before = await pruning.only_copies_before(self.run.catalog, self.run.source.id, self.run.id)
        if self.gone_after is None and number > before:
            said = (
                f"{number} copies ({format_size(sum(self._only_copies))}) are older than the retention and stay, since "
                f"the bucket no longer has their objects, {number - before} more than before; --gone-after (or "
                "INGEST_GONE_AFTER) says for how long such copies are wanted"
            )
            log().warning("only_copies_kept", message=said)

    @property
    def _delivering(self) -> bool:
        return bool(self.run.settings.verify_url)

    async def _finish(self, found: Sequence[Candidate]) -> list[Candidate]:
        """Ends what a killed cleanup began: intents whose file is gone already. Returns the others."""
        begun = [row.copy for row in found if row.copy.pruning]
        inspector = Inspector(self.run.settings.data_dir, self.run.source.directory)
        expected = [Expected(copy.local_path or "", copy.remote.size, None) for copy in begun]
        verdicts = await asyncio.to_thread(inspector.inspect, expected) if begun else []
        looked_at = zip(begun, verdicts, strict=True)
        gone = [copy for copy, finding in looked_at if finding.verdict is Verdict.MISSING or copy.local_path is None]
        for copy in gone:
            self._say("prune", copy, "removed by a cleanup that did not end")
        if gone and not self.options.dry_run:
            # Whoever unlinked them may not have come as far as to make that durable.
            await self._make_durable(gone)
            await self._record_pruned(gone, [])
        ended = {copy.remote.key for copy in gone}
        return [row for row in found if row.copy.remote.key not in ended]

    async def _reasons(self, found: Sequence[Candidate]) -> list[str | None]:
        await self.places.refresh()
        paths = [row.copy.local_path for row in found if row.copy.local_path is not None]
        shared = await asyncio.to_thread(folding.shared, self.store.data_dir, self.store.taken, paths)
        async with task_group() as group:
            asked = [group.create_task(self._reason_to_keep(row, shared)) for row in found]
        return [answer.result() for answer in asked]

    async def _reason_to_keep(self, row: Candidate, shared: Collection[str]) -> str | None:
        if row.copy.local_path in shared:
            return "its file is another key's as well on this disk; `ingest verify --repair` parts them"
        remote, etag = row.copy.remote, None
        asked = not (self.options.trust_catalog or row.held or row.undelivered or row.copy.gone)
        if asked:
            try:
                head = await retried(lambda: self.bucket.head(remote.key), attempts=_ATTEMPTS)
                same = is_same(head.version, remote.etag) and head.size == remote.size
                etag = remote.etag if same else head.version
            except NoSuchKey:
                etag = None
        return reason_to_keep(
            held=row.held,
            undelivered=row.undelivered,
            gone=row.copy.gone,
            expired=has_expired(row.copy.gone_at, self.clock(), self.gone_after),
            listed_etag=remote.etag,
            found_etag=etag,
            confirmed=asked,
        )

    async def _keep(self, kept: Sequence[tuple[CopyRow, str]]) -> None:
        """An earlier cleanup's intent is given up where there is a reason to keep the copy now."""
        for copy, reason in kept:
            self._say("keep", copy, reason)
        self._only_copies += [copy.remote.size for copy, reason in kept if reason == ONLY_COPY]
        self.run.counts.kept += len(kept)
        batch = self._batch()
        batch.kept = [copy.remote.key for copy, _ in kept if copy.pruning]
        if batch.kept and not self.options.dry_run:
            await self.run.catalog.commit(batch)

    async def _prune(self, copies: Sequence[CopyRow]) -> None:
        for copy in copies:
            self._say("prune", copy, f"downloaded {copy.downloaded_at:%Y-%m-%d}")
        if self.options.dry_run:
            self.run.counts.pruned += len(copies)
            self._removed += len(copies)
            return
        if not copies:
            return
        failpoint("cleanup.decided")
        async with self.copies.changing():  # nothing newer may come into a place between the intent and the unlink
            await self._remove(copies)
        failpoint("cleanup.done")

    async def _remove(self, copies: Sequence[CopyRow]) -> None:
        catalog, source_id = self.run.catalog, self.run.source.id
        intended = await pruning.intend(catalog, source_id, copies, at=self.clock(), delivering=self._delivering)
        self.run.counts.kept += len(copies) - len(intended)
        failpoint("cleanup.intended")
        removed: list[CopyRow] = []
        missing: list[CopyRow] = []
        stuck: list[str] = []
        for copy in copies:
            if copy.remote.key not in intended:
                continue
            try:
                found = copy.local_path is None or await asyncio.to_thread(self.store.remove, copy.local_path)
                failpoint("cleanup.unlinked")
                (removed if found or copy.pruning else missing).append(copy)
            except DiskError as error:
                log().error("prune_failed", key=copy.remote.key, error=error.code, message=error.message)
                stuck.append(copy.remote.key)
        failpoint("cleanup.all-unlinked")
        await self._make_durable(removed)
        data_dir = self.run.settings.data_dir
        await asyncio.to_thread(note_pruned, data_dir, removed, self.clock())
        if missing:
            earlier = await asyncio.to_thread(pruned_since, data_dir, missing)
            removed += [copy for copy in missing if copy.remote.key in earlier]
            missing = [copy for copy in missing if copy.remote.key not in earlier]
        self.run.counts.failed += len(stuck) + len(missing)
        await self._record_pruned(removed, stuck, missing)
        self._removed += len(removed)

    async def _make_durable(self, removed: Sequence[CopyRow]) -> None:
        paths = [copy.local_path for copy in removed if copy.local_path is not None]
        await asyncio.to_thread(self.store.make_removals_durable, paths)

    async def _record_pruned(
        self, removed: Sequence[CopyRow], kept: Sequence[str], missing: Sequence[CopyRow] = ()
    ) -> None:
        """What was not there when it was to go is no pruned copy, but a missing one: as `verify` notes it."""
        result = self._batch()
        result.pruned = [copy.remote.key for copy in removed]
        result.audits = [Audit("pruned", copy.remote.key, _detail(copy)) for copy in removed]
        result.kept = [*kept, *(copy.remote.key for copy in missing)]
        result.pages.changed[None] = [copy.remote.key for copy in missing]
        for copy in missing:
            said = "it was not there when it was to be removed"
            log().error(
                "copy_missing", key=copy.remote.key, path=copy.local_path, message=f"{said}; see `ingest verify`"
            )
            result.failed.append((copy.remote, f"{Verdict.MISSING.value}: {said}"))
            detail: dict[str, object] = {"found": Verdict.MISSING.value, "detail": said, "digest": copy.digest}
            result.audits.append(Audit("damaged", copy.remote.key, detail))
        if missing:
            self.figures.missing = len(missing) + (self.figures.missing or 0)
        await self.run.catalog.commit(result)
        self.run.counts.pruned += len(removed)

    def _batch(self) -> Batch:
        return Batch(self.run.id, self.run.source.id, self.run.source.bucket, self.clock())

    def _say(self, verb: str, copy: CopyRow, reason: str) -> None:
        log().debug(verb, key=copy.remote.key, reason=reason)
        if self.options.dry_run and self.options.on_prune is not None:
            self.options.on_prune(verb, f"{copy.remote.key} ({reason})")


def _detail(copy: CopyRow) -> dict[str, object]:
    """Of what was the only copy, the audit trail says so."""
    gone = {"gone_at": copy.gone_at.isoformat()} if copy.gone_at is not None else {}
    return {"etag": copy.remote.etag, **gone}

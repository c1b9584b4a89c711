"""The catalog against the disk: copies that are missing or damaged, and files that nobody knows.

`sync` trusts the catalog; this is what makes it trustworthy. Without ``repair`` nothing is asked of the bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing, nullcontext
from dataclasses import dataclass, replace

from ingest.catalog import overview, pruning, runs
from ingest.catalog.batch import Batch
from ingest.catalog.copies import CopyRow, copies_after, copies_of
from ingest.engine.evidence import pruned_since
from ingest.engine.options import VerifyOptions
from ingest.engine.prefixes import read_recorded
from ingest.engine.record.places import Places
from ingest.engine.run import Run, execute
from ingest.engine.transfer.refetch import Refetch, refetching
from ingest.errors import DamageFound
from ingest.figures import Figures
from ingest.jobs.orphans import find_orphans
from ingest.model import Audit, Outcome, Reason, RunReport, State
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.store import folding
from ingest.store.inspection import Expected, Finding, Inspector, Verdict
from ingest.store.paths import is_place
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop
from ingest.tasks.threads import in_thread

READERS = 8
"""Threads that read and hash, each with one chunk in memory."""
_PAGE, _SLICE = 500, 25
"""Rows of one query, and copies that one thread looks at before it takes others."""
_LOOKS, _PAUSE = 5, 1.0
"""How often, and after how many seconds, a suspicious copy is looked at again while another run is at work."""
_SUSPICIOUS = frozenset({Verdict.MISSING, Verdict.DAMAGED, Verdict.UNSAFE})

Suspect = tuple[CopyRow, Finding]


@dataclass(slots=True)
class VerifyFigures(Figures):
    orphaned: int
    """Files without a row."""
    symlinks: int
    checked: int
    missing: int


async def verify(
    settings: Settings,
    options: VerifyOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Looks at every copy that the catalog says is present.

    The report's error is `DamageFound` when damage stays.
    """
    options = options or VerifyOptions()
    arguments: dict[str, object] = {"prefix": options.prefix, "repair": options.repair}

    async def work(run: Run) -> None:
        prefix = await read_recorded(run, options.prefix)
        taken = await in_thread(None, folding.opened, settings.data_dir, run.source.directory, discard=_close)
        with closing(taken) if taken is not None else nullcontext():
            places = Places(run.catalog, taken)
            async with AsyncExitStack() as stack:
                readers = stack.enter_context(ThreadPoolExecutor(READERS, "verify"))
                inspector = Inspector(settings.data_dir, run.source.directory, lambda: run.stop.requested)
                found = _Verify(run, replace(options, prefix=prefix), inspector, readers, places)
                transfers: Refetch | None = None
                if options.repair:
                    target = settings.verify_url
                    lines_up = target and await overview.hands_over(run.catalog, run.source.id, target)
                    opened = refetching(
                        run, settings.data_dir, found.repaired, called="repaired", deliver_to=target if lines_up else ""
                    )
                    transfers = await stack.enter_async_context(opened)
                await found.work(transfers)
            run.stop.raise_if_requested()
            await places.refresh()
            orphans = await find_orphans(run, prefix, taken)
        run.report.figures = VerifyFigures(orphans.files, orphans.symlinks, found.checked, found.missing)
        found.conclude()

    return await execute("verify", settings, arguments, work, lock="retention", progress=progress, stop=stop)


@dataclass
class _Verify:
    run: Run
    options: VerifyOptions
    inspector: Inspector
    readers: ThreadPoolExecutor
    places: Places
    checked: int = 0
    missing: int = 0

    async def work(self, transfers: Refetch | None) -> None:
        after = ""
        while rows := await self._next(after):
            failpoint("verify.read")
            await self.places.refresh()
            after = rows[-1].remote.key
            suspects = await self._suspects(rows)
            failpoint("verify.looked")
            self.run.stop.raise_if_requested()
            self.checked += len(rows)
            self.run.progress.listed(len(rows))
            suspects = await self._without_pruned(suspects)
            if transfers is not None:
                suspects = [one for one in suspects if not await self._is_newer(*one, transfers)]
            await self._note(suspects)
            for row, finding in suspects if transfers is not None else ():
                if transfers is not None and self._is_mendable(row, finding):
                    await transfers.submit(row, Reason.REPAIR)
        self.run.progress.listing_done()

    def repaired(self, outcome: Outcome) -> None:
        """Counts one committed repair."""
        if outcome.adopted:
            self.run.counts.adopted += 1
        elif outcome.copy is not None:
            self.run.counts.repaired += 1
            self.run.counts.bytes += outcome.received
        else:
            self.run.counts.failed += 1

    def conclude(self) -> None:
        """
        Raises:
            DamageFound: some of it stays.
        """
        counts = self.run.counts
        staying = self.missing + counts.damaged - counts.repaired
        if staying:
            said = f"{staying} of {self.checked} copies are missing or damaged"
            raise DamageFound(said, hint=DamageFound.after_repair if self.options.repair else None)

    async def _next(self, after: str) -> Sequence[CopyRow]:
        catalog, source_id = self.run.catalog, self.run.source.id
        return await copies_after(
            catalog, source_id, [State.PRESENT], after=after, limit=_PAGE, prefix=self.options.prefix
        )

    async def _suspects(self, rows: Sequence[CopyRow]) -> list[Suspect]:
        """The copies that are not what their rows say, also when row and file are read once more.

        Another run may have put a newer version in place and not have committed its row yet.
        """
        catalog, source_id = self.run.catalog, self.run.source.id
        suspects = await self._inspect(rows)
        await self._forget_damage(rows, suspects)
        for _ in range(_LOOKS):
            if not suspects or self.run.stop.requested:
                break
            busy = await runs.others_at_work(catalog.driver, source_id, self.run.id)
            fresh = await copies_of(catalog, source_id, [row.remote.key for row, _ in suspects])
            suspects = await self._inspect([row for row in fresh.values() if row.state == State.PRESENT])
            if not busy:
                break
            await asyncio.sleep(_PAUSE if suspects else 0)
        for row, finding in suspects:
            if finding.verdict is Verdict.UNREADABLE:
                self.run.counts.failed += 1
                log().error("copy_unreadable", key=row.remote.key, path=row.local_path, message=finding.detail)
        return [(row, finding) for row, finding in suspects if finding.verdict in _SUSPICIOUS]

    async def _forget_damage(self, rows: Sequence[CopyRow], suspects: Sequence[Suspect]) -> None:
        """Copies that were damaged when they were last looked at, and are not: a repair was killed before its row was
        written, or somebody brought the file back."""
        dubious = {row.remote.key for row, _ in suspects}
        sound = [row for row in rows if _was_damaged(row) and not row.pruning and row.remote.key not in dubious]
        if sound:
            batch = self._batch()
            batch.sound = [row.remote.key for row in sound]
            batch.audits = [
                Audit("repaired", row.remote.key, {"found": "intact", "digest": row.digest}) for row in sound
            ]
            await self.run.catalog.commit(batch)

    async def _inspect(self, rows: Sequence[CopyRow]) -> list[Suspect]:
        """Reads these copies in several threads; returns those that are not intact."""
        loop = asyncio.get_running_loop()
        slices = [rows[start : start + _SLICE] for start in range(0, len(rows), _SLICE)]
        expected = [[Expected(row.local_path or "", row.remote.size, row.digest) for row in part] for part in slices]
        found = await asyncio.gather(
            *(loop.run_in_executor(self.readers, self.inspector.inspect, part) for part in expected)
        )
        findings = [finding for part in found for finding in part]
        looked_at = zip(rows, await self._parted(rows, findings), strict=True)
        return [(row, finding) for row, finding in looked_at if not _as_it_should_be(row, finding)]

    async def _parted(self, rows: Sequence[CopyRow], findings: Sequence[Finding]) -> list[Finding]:
        """Of keys of which a disk made one file, one has it: the one whose bytes it holds, of equal ones the first."""
        found = list(findings)
        if self.places.taken is None:
            return found
        intact = {
            row.local_path: number
            for number, (row, finding) in enumerate(zip(rows, findings, strict=True))
            if finding.verdict is Verdict.INTACT and row.local_path is not None
        }
        data_dir, taken = self.run.settings.data_dir, self.places.taken
        for path, others in (await asyncio.to_thread(folding.shared, data_dir, taken, tuple(intact))).items():
            if any(other.digest == rows[intact[path]].digest and other.path < path for other in others):
                found[intact[path]] = Finding(Verdict.DAMAGED, "its file is another key's as well on this disk")
        return found

    async def _is_newer(self, row: CopyRow, finding: Finding, transfers: Refetch) -> bool:
        """Whether it is no damage, but what the bucket holds, and its row is behind: that is mended then."""
        if finding.verdict is not Verdict.DAMAGED or not await transfers.take_up(row):
            return False
        log().warning(
            "row_behind", key=row.remote.key, path=row.local_path, message="the copy is what the bucket holds: recorded"
        )
        return True

    def _is_mendable(self, row: CopyRow, finding: Finding) -> bool:
        """Not what a symlink stands in the way of; but what is recorded at no place at all gets its own."""
        return finding.verdict is not Verdict.UNSAFE or not is_place(row.local_path or "", self.run.source.directory)

    async def _without_pruned(self, suspects: list[Suspect]) -> list[Suspect]:
        """A catalog that was put back from a backup does not know what was pruned since: that is made good, and no
        damage."""
        missing = [row for row, finding in suspects if finding.verdict is Verdict.MISSING]
        if not missing:
            return suspects
        catalog, source_id = self.run.catalog, self.run.source.id
        since = await asyncio.to_thread(pruned_since, self.run.settings.data_dir, missing)
        gone = [row for row in missing if row.remote.key in since]
        if gone:
            batch = self._batch()
            intended = await pruning.intend(catalog, source_id, gone, at=batch.at, delivering=False)
            batch.pruned = sorted(intended)
            batch.audits = [
                Audit("pruned", row.remote.key, {"etag": row.remote.etag, "found": "noted on the disk"})
                for row in gone
                if row.remote.key in intended
            ]
            await catalog.commit(batch)
            self.run.counts.pruned += len(intended)
            since = since & intended
        return [(row, finding) for row, finding in suspects if row.remote.key not in since]

    async def _note(self, suspects: Sequence[Suspect]) -> None:
        """Writes down what is damaged. The state stays; the failed attempt says why, and unsettles the row."""
        if not suspects:
            return
        batch = self._batch()
        batch.pages.changed[None] = [row.remote.key for row, _ in suspects]
        for row, finding in suspects:
            verdict, key = finding.verdict.value, row.remote.key
            log().error("copy_damaged", key=key, path=row.local_path, found=verdict, message=finding.detail)
            batch.failed.append((row.remote, f"{verdict}: {finding.detail}"))
            detail: dict[str, object] = {"found": verdict, "detail": finding.detail, "digest": row.digest}
            batch.audits.append(Audit("damaged", key, detail))
        await self.run.catalog.commit(batch)
        failpoint("verify.noted")
        missing = sum(finding.verdict is Verdict.MISSING for _, finding in suspects)
        self.missing += missing
        self.run.counts.damaged += len(suspects) - missing

    def _batch(self) -> Batch:
        return Batch(self.run.id, self.run.source.id, self.run.source.bucket, self.run.clock.now())


def _close(taken: folding.TakenPlaces | None) -> None:
    if taken is not None:
        taken.close()


def _was_damaged(row: CopyRow) -> bool:
    """By what `_note` wrote: the error of a download that failed is another matter."""
    return row.last_error is not None and row.last_error.partition(":")[0] in _SUSPICIOUS


def _as_it_should_be(row: CopyRow, finding: Finding) -> bool:
    # A cleanup that was killed between its intent and its end leaves a row whose file is gone: the next one ends it.
    return finding.verdict is Verdict.INTACT or (row.pruning and finding.verdict is Verdict.MISSING)

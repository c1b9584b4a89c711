"""Prunes local copies that were downloaded long ago; the rows stay, so that every copy can be brought back.

Intent in the catalog, unlink, done: a kill in between is finished by the next cleanup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.catalog import queries
from ingest.catalog.batch import Batch
from ingest.catalog.queries import CopyRow
from ingest.crashpoints import here
from ingest.errors import DiskError, IngestError, NoSuchKey
from ingest.jobs.options import CleanupOptions
from ingest.jobs.run import Run, execute
from ingest.jobs.stop import Stop
from ingest.model import Audit, RunReport, State
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.plan.retention import clock_fault, reason_to_keep
from ingest.settings import Settings
from ingest.source.bucket import Bucket
from ingest.store.files import FileStore

_BATCH = 500
_HEADS_AT_ONCE = 32


async def cleanup(settings: Settings, options: CleanupOptions, *, progress: Progress, stop: Stop) -> RunReport:
    """Removes copies older than the retention, unless they are held or the only ones."""
    age = options.older_than if options.older_than is not None else settings.retention
    arguments: dict[str, object] = {"older_than": age.total_seconds(), "trust_catalog": options.trust_catalog}

    async def work(run: Run) -> None:
        store = FileStore(settings.data_dir, settings.required("bucket"))
        try:
            async with Bucket.open(settings, connections=_HEADS_AT_ONCE) as bucket:
                await _Cleanup(run, options, store, bucket, datetime.now(UTC) - age).work()
        finally:
            store.close()

    return await execute("cleanup", settings, arguments, work, lock="retention", progress=progress, stop=stop)


@dataclass
class _Cleanup:
    run: Run
    options: CleanupOptions
    store: FileStore
    bucket: Bucket
    cutoff: datetime

    async def work(self) -> None:
        await self._check_clock()
        if self.options.dry_run:
            self.run.report.notes["dry_run"] = True
        after = ""
        while rows := await self._next(after):
            self.run.stop.raise_if_requested()
            after = rows[-1].remote.key
            reasons = await self.run.stop.during(asyncio.gather(*(self._reason_to_keep(row) for row in rows)))
            doomed = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
            room = self._room()
            for row, reason in zip(rows, reasons, strict=True):
                if reason is not None:
                    self._say("keep", row, reason)
            self.run.counts.kept += len(rows) - len(doomed) + len(doomed[room:])
            await self._prune(doomed[:room])
            if room <= len(doomed) and self.options.max_delete is not None:
                log().warning("max_delete_reached", max_delete=self.options.max_delete)
                return

    async def _check_clock(self) -> None:
        earlier = await queries.recent_runs(self.run.catalog, self.run.source.id, 2)
        last_run = next((row["started_at"] for row in earlier if row["id"] != self.run.id), None)
        server = None if self.options.trust_catalog else await self.run.stop.during(self.bucket.server_time())
        fault = clock_fault(datetime.now(UTC), last_run, server)
        if fault is not None:
            raise IngestError(f"{fault}; no copy was removed", hint="Set the clock (NTP), then run again.")

    async def _next(self, after: str) -> Sequence[CopyRow]:
        return await queries.copies(
            self.run.catalog,
            self.run.source.id,
            [State.PRESENT],
            after=after,
            limit=_BATCH,
            downloaded_before=self.cutoff,
        )

    def _room(self) -> int:
        most = self.options.max_delete
        return _BATCH if most is None else max(0, most - self.run.counts.pruned)

    async def _reason_to_keep(self, row: CopyRow) -> str | None:
        found: str | None = None
        asked = not (self.options.trust_catalog or row.hold or row.gone)
        if asked:
            try:
                found = (await self.bucket.head(row.remote.key)).etag
            except NoSuchKey:
                found = None
        return reason_to_keep(
            hold=row.hold, gone=row.gone, listed_etag=row.remote.etag, found_etag=found, confirmed=asked
        )

    async def _prune(self, rows: Sequence[CopyRow]) -> None:
        for row in rows:
            self._say("prune", row, f"downloaded {row.downloaded_at:%Y-%m-%d}")
        if self.options.dry_run:
            self.run.counts.pruned += len(rows)
            return
        if not rows:
            return
        intent = self._batch()
        intent.pruning = [row.remote.key for row in rows]
        here("cleanup.decided")
        await self.run.catalog.commit(intent)
        here("cleanup.intended")
        result = self._batch()
        for row in rows:
            try:
                if row.local_path is not None:
                    await asyncio.to_thread(self.store.remove, row.local_path)
            except DiskError as error:
                log().error("prune_failed", key=row.remote.key, error=error.code, message=error.message)
                result.kept.append(row.remote.key)
                self.run.counts.failed += 1
                continue
            here("cleanup.unlinked")
            result.pruned.append(row.remote.key)
            result.audits.append(Audit("pruned", row.remote.key, {"etag": row.remote.etag}))
        here("cleanup.all-unlinked")
        await self.run.catalog.commit(result)
        here("cleanup.done")
        self.run.counts.pruned += len(result.pruned)

    def _batch(self) -> Batch:
        return Batch(self.run.id, self.run.source.id, self.run.source.bucket, datetime.now(UTC))

    def _say(self, verb: str, row: CopyRow, reason: str) -> None:
        log().debug(verb, key=row.remote.key, reason=reason)
        if self.options.dry_run and self.options.on_prune is not None:
            self.options.on_prune(verb, f"{row.remote.key} ({reason})")

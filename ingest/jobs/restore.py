"""Brings pruned copies back by their source path, and says plainly what cannot be brought back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from ingest.catalog import queries
from ingest.catalog.queries import CopyRow
from ingest.crashpoints import here
from ingest.errors import RowNotFound
from ingest.jobs.options import RestoreOptions
from ingest.jobs.prefixes import read_recorded
from ingest.jobs.refetch import refetching
from ingest.jobs.run import Run, execute
from ingest.jobs.stop import Stop
from ingest.model import HAD_A_COPY, Outcome, RunReport, State
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.source.paths import spellings
from ingest.store.apart import require_apart

_BATCH = 500


async def restore(settings: Settings, options: RestoreOptions, *, progress: Progress, stop: Stop) -> RunReport:
    """Restores the copies of `options`. A key that the catalog does not know ends the run before any download.

    Raises:
        SettingsError: the directory to write to is the data directory, or in it, or above it.
    """
    spelled = [spellings(key, settings.required("bucket")) for key in options.keys]
    arguments: dict[str, object] = {"keys": list(options.keys), "prefix": options.prefix, "to": options.to}

    if options.to:
        require_apart(Path(options.to).expanduser(), settings.data_dir)

    async def work(run: Run) -> None:
        target = Path(options.to).expanduser().absolute() if options.to else settings.data_dir

        def committed(outcome: Outcome) -> None:
            if outcome.copy is not None:
                run.counts.restored += 1
                run.counts.bytes += outcome.received
            else:
                run.counts.failed += 1

        refetch = refetching(
            run, target, committed, called="restored", keeps_rows=bool(options.to), bwlimit=options.bwlimit
        )
        async with refetch as transfers:
            async for row in _wanted(run, options, spelled):
                run.stop.raise_if_requested()
                await transfers.submit(row, "restore")

    return await execute("restore", settings, arguments, work, lock="retention", progress=progress, stop=stop)


async def _wanted(run: Run, options: RestoreOptions, spelled: list[list[str]]) -> AsyncIterator[CopyRow]:
    catalog, source_id = run.catalog, run.source.id
    if spelled:
        found = await queries.copies_of(catalog, source_id, [key for keys in spelled for key in keys])
        known = [next((key for key in keys if key in found), None) for keys in spelled]
        here("restore.read")
        unknown = [keys[0] for keys, key in zip(spelled, known, strict=True) if key is None]
        if unknown:
            raise RowNotFound(f"{unknown[0]!r} is not in the catalog; nothing was restored")
        for key in dict.fromkeys(key for key in known if key is not None):
            row = found[key]
            if row.state == State.PRESENT and not row.pruning and not options.to:
                run.counts.kept += 1
                log().info("already_present", key=key)
                continue
            if row.remote.is_directory_marker and row.state not in HAD_A_COPY:
                run.counts.kept += 1
                log().info("nothing_to_restore", key=key, message="a directory marker, which has no file")
                continue
            yield row
    if options.prefix is None:
        return
    after, prefix = "", await read_recorded(run, options.prefix)
    states = [State.PRUNED, State.PRESENT] if options.to else [State.PRUNED]
    while rows := await queries.copies(catalog, source_id, states, after=after, limit=_BATCH, prefix=prefix):
        here("restore.read")
        after = rows[-1].remote.key
        for row in rows:
            yield row

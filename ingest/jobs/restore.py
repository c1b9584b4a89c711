"""Brings pruned copies back by their source path, and says plainly what cannot be brought back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ingest.catalog.copies import CopyRow, copies_after, copies_of
from ingest.engine.options import RestoreOptions, require_choice
from ingest.engine.prefixes import read_recorded
from ingest.engine.run import Run, execute
from ingest.engine.transfer.refetch import Refetch, refetching
from ingest.errors import RowNotFound
from ingest.figures import Figures
from ingest.model import HAD_A_COPY, Outcome, Reason, RunReport, State
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.source.paths import spellings
from ingest.store.apart import require_apart
from ingest.store.inspection import Expected, Inspector, Verdict
from ingest.store.placing import Strangers, in_the_way
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop
from ingest.tasks.threads import in_thread

_BATCH = 500


@dataclass(slots=True)
class RestoreFigures(Figures):
    written_below: str
    """The directory, where it is none of the catalog's."""


async def restore(
    settings: Settings,
    options: RestoreOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Restores the copies of `options`. A key that the catalog does not know ends the run before any download.

    Raises:
        SettingsError: neither keys nor a prefix are named, or both; the directory to write to is the data directory, or
            in it, or above it.
    """
    options = options or RestoreOptions()
    require_choice(options)
    spelled = [spellings(key, settings.required("bucket")) for key in options.keys]
    arguments: dict[str, object] = {"keys": list(options.keys), "prefix": options.prefix, "to": options.to}
    if options.overwrite:
        arguments["overwrite"] = True
    target, strangers = settings.data_dir, Strangers.NONE
    if options.to:
        target = Path(options.to).expanduser()
        require_apart(target, settings.data_dir)
        target, strangers = target.absolute(), Strangers.REPLACED if options.overwrite else Strangers.KEPT

    async def work(run: Run) -> None:
        def committed(outcome: Outcome) -> None:
            if outcome.copy is not None:
                run.counts.restored += 1
                run.counts.bytes += outcome.received
            else:
                run.counts.failed += 1

        named = await _named(run, spelled)
        refetch = refetching(run, target, committed, called="restored", strangers=strangers, bwlimit=options.bwlimit)
        if options.to:
            run.report.figures = RestoreFigures(str(target / run.source.directory))
        async with refetch as transfers:
            async for row in _wanted(run, options, named):
                run.stop.raise_if_requested()
                if not options.to or await _is_missing(run, row, transfers, strangers):
                    await transfers.submit(row, Reason.RESTORE)

    return await execute("restore", settings, arguments, work, lock="retention", progress=progress, stop=stop)


async def _is_missing(run: Run, row: CopyRow, transfers: Refetch, strangers: Strangers) -> bool:
    """Whether a copy that goes elsewhere has to be brought. Not where it is already, nor where a file that is not it is
    to be kept; where other names may lead to a file, that shows when the copy is put in its place."""
    store = transfers.session.store
    expected = Expected(store.placing.first_path(row.remote.key), row.remote.size, row.digest)
    inspector = Inspector(store.data_dir, store.directory, lambda: run.stop.requested)
    (found,) = await in_thread(None, inspector.inspect, [expected])
    if found.verdict is Verdict.INTACT and row.digest is not None:
        run.counts.kept += 1
        log().info("already_present", key=row.remote.key)
        return False
    if found.verdict is Verdict.DAMAGED and strangers is Strangers.KEPT and store.taken is None:
        await transfers.refuse(row, Reason.RESTORE, in_the_way(expected.local_path))
        return False
    return True


async def _named(run: Run, spelled: list[list[str]]) -> list[CopyRow]:
    """The rows of the keys, each in the spelling that the catalog knows. Raises `RowNotFound`."""
    if not spelled:
        return []
    found = await copies_of(run.catalog, run.source.id, [key for keys in spelled for key in keys])
    known = [next((key for key in keys if key in found), None) for keys in spelled]
    failpoint("restore.read")
    unknown = [keys[0] for keys, key in zip(spelled, known, strict=True) if key is None]
    if unknown:
        raise RowNotFound(f"{unknown[0]!r} is not in the catalog; nothing was restored")
    return [found[key] for key in dict.fromkeys(known) if key is not None]


async def _wanted(run: Run, options: RestoreOptions, named: list[CopyRow]) -> AsyncIterator[CopyRow]:
    for row in named:
        if row.state == State.PRESENT and not row.pruning and not options.to:
            run.counts.kept += 1
            log().info("already_present", key=row.remote.key)
        elif row.remote.is_directory_marker and row.state not in HAD_A_COPY:
            run.counts.kept += 1
            log().info("nothing_to_restore", key=row.remote.key, message="a directory marker, which has no file")
        else:
            yield row
    if options.prefix is None:
        return
    after, prefix = "", await read_recorded(run, options.prefix)
    states = [State.PRUNED, State.PRESENT] if options.to else [State.PRUNED]
    while rows := await copies_after(run.catalog, run.source.id, states, after=after, limit=_BATCH, prefix=prefix):
        failpoint("restore.read")
        after = rows[-1].remote.key
        for row in rows:
            yield row

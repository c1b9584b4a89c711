"""Goes on where another run of the same command and selection has stopped (see `plan.resuming`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest.engine.options import SyncOptions
from ingest.engine.run import Run
from ingest.model import ListingOrder
from ingest.observe.logs import log
from ingest.plan.resuming import Cursor, taken_over, window_of


async def take_up(run: Run, options: SyncOptions) -> tuple[SyncOptions, Sequence[Cursor]]:
    """What is left to list, and under which window; no plan at all to start anew."""
    if not options.resume:
        return options, ()
    earlier = await run.catalog.to_go_on(run.source.id, run.report.command, options.arguments, run.id)
    plan = taken_over(await run.catalog.cursors(earlier.id)) if earlier is not None else []
    if run.source.order is not ListingOrder.BYTES and any(shard.end is not None for shard, _, _ in plan):
        plan = []  # ranges of a server that turned out not to list in byte order
    left = sum(not cursor.done for cursor in plan)
    if earlier is None or not left:
        said = "there is no unfinished run with the same window and prefixes: this one starts anew"
        log().info("nothing_to_resume", message=said)
        return options, ()
    since, until = window_of(earlier.told)
    options = replace(options, selection=replace(options.selection, since=since, until=until))
    told = options.arguments | {name: earlier.told[name] for name in ("window",) if name in earlier.told}
    if not options.dry_run:
        await run.catalog.take_over(run.id, told | {"resumes": earlier.id}, plan)
    log().info(
        "resuming",
        of_run=earlier.id,
        shards=left,
        finished=len(plan) - left,
        since=since and since.isoformat(),
        until=until and until.isoformat(),
    )
    return options, plan

"""Takes what is old out of the bookkeeping, a part of it each night; the audit trail stays (`catalog.trimming`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from ingest.catalog import trimming
from ingest.catalog.sql.driver import Dialect, Steps
from ingest.engine.run import Run
from ingest.observe.logs import log

_REMOVE: dict[str, Callable[[list[int], Dialect], Steps[None]]] = {
    "runs": trimming.remove_runs,
    "deliveries": trimming.remove_deliveries,
    "answers": trimming.remove_answers,
    "letters": trimming.remove_letters,
}


async def trim(run: Run, now: datetime, *, dry_run: bool) -> None:
    """Removes what is older than the settings say and nobody needs, and notes in the report how much that was."""
    driver, settings = run.catalog.driver, run.settings
    found = await trimming.find_old(driver, run.source.id, now - settings.keep_runs, now - settings.keep_letters)
    for name, ids in found._asdict().items():
        for batch in [] if dry_run else trimming.batches(ids):
            run.stop.raise_if_requested()
            await driver.write(partial(_REMOVE[name], batch))
        if ids:
            setattr(run.report.figures, f"trimmed_{name}", len(ids))
            log().info("trimmed", what=name, number=len(ids), more=len(ids) == trimming.MOST, dry_run=dry_run)

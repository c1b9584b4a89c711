"""``ingest cleanup``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from ingest.cli.output import say
from ingest.cli.params import Count, Duration
from ingest.cli.runner import Context, command_options, run_job


@click.command("cleanup")
@click.option("--older-than", type=Duration(), help="Copies downloaded longer ago; the default is INGEST_RETENTION.")
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@click.option("--max-delete", type=Count(least=0), metavar="N", help="Remove at most N copies, the oldest first.")
@click.option(
    "--gone-after",
    type=Duration(),
    help="Also only copies, of objects that are gone for so long; the default is INGEST_GONE_AFTER, or never.",
)
@click.option("--trust-catalog", is_flag=True, help="Do not ask the bucket whether it still holds each object.")
@click.option("--trust-clock", is_flag=True, help="The clock is right, whatever it said in earlier runs.")
@command_options
def command(
    context: Context, older_than: timedelta | None, max_delete: int | None, gone_after: timedelta | None, **flags: Any
) -> None:
    """Remove local copies older than the retention; their rows and source paths stay.

    Copies that are held, not yet delivered where delivery is on, or that the bucket no longer has in the same version,
    are kept. Nothing is removed while the clock contradicts earlier runs or the server. Runs and settled deliveries
    that are old go as well (INGEST_KEEP_RUNS), and so do messages that were given up (INGEST_KEEP_LETTERS).

    Example: ingest cleanup --older-than 30d --dry-run
    """
    from ingest.engine.options import CleanupOptions
    from ingest.jobs.cleanup import cleanup
    from ingest.observe.escape import escape_key

    def show(verb: str, line: str) -> None:
        say(f"{verb} {escape_key(line)}")

    on_prune = None if context.json else show
    options = CleanupOptions(older_than, max_delete=max_delete, gone_after=gone_after, **flags, on_prune=on_prune)
    run_job(context, lambda progress, stop: cleanup(context.settings, options, progress=progress, stop=stop))

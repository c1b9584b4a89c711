"""``ingest backfill``."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.params import Moment, Text, Told
from ingest.cli.runner import Context, command_options, run_job
from ingest.cli.sync import engine_options, sync_options


@click.command("backfill")
@click.option("--since", type=Moment(), required=True, help="Objects modified on or after this date.")
@click.option("--until", type=Moment(), help="Objects modified before this date.")
@click.option("--prefix", type=Text(), multiple=True, metavar="P", help="Only keys that start with P; may be repeated.")
@click.option("--resume", is_flag=True, help="Go on where the last run with the same window and prefixes stopped.")
@engine_options
@command_options
def command(context: Context, since: Told, until: Told | None, resume: bool, **values: Any) -> None:
    """Download historical objects of a window by last-modified; what lies outside is recorded, and left.

    Example: ingest backfill --since 2024-01-01 --until 2025-01-01 --resume
    """
    options = sync_options(context, {"since": since, "until": until}, resume=resume, **values)

    from ingest.jobs.sync import backfill

    run_job(context, lambda progress, stop: backfill(context.settings, options, progress=progress, stop=stop))

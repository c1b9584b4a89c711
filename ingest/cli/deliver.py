"""``ingest deliver``."""

from __future__ import annotations

import click

from ingest.cli.params import Count
from ingest.cli.runner import Context, command_options, run_job


@click.command("deliver")
@click.option("--limit", type=Count(), metavar="N", help="Conclude at most N deliveries.")
@click.option(
    "--again", type=click.Choice(["rejected", "dead"]), multiple=True, help="Also what was rejected, or given up."
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Also what waits for an earlier VERIFY_URL, and with --again what was refused there: send it to this one.",
)
@command_options
def command(context: Context, limit: int | None, again: tuple[str, ...], take_over: bool) -> None:
    """Hand what is in line to the verification service at VERIFY_URL.

    What the service cannot take now stays in line for the next run.

    Example: ingest deliver --limit 10000 --json
    """
    from ingest.engine.options import DeliverOptions
    from ingest.jobs.deliver import deliver
    from ingest.model import DeliveryState

    options = DeliverOptions(limit, tuple(DeliveryState(state) for state in again), take_over)
    run_job(context, lambda progress, stop: deliver(context.settings, options, progress=progress, stop=stop))

"""``ingest consume``."""

from __future__ import annotations

from datetime import timedelta

import click

from ingest.cli.params import AutoOr, Duration, ListenAddress
from ingest.cli.runner import Context, command_options, run_job


@click.command("consume")
@click.option("--patience", type=Duration(), default="15m", show_default=True,
              help="How long to wait for an object that does not exist, before its message is given up.")  # fmt: skip
@click.option("--until-idle", type=Duration(), help="End when there was nothing to do for so long, for example 10s.")
@click.option("--listen", type=ListenAddress(), metavar="[HOST:]PORT", help="Answer /healthz, /readyz and /metrics.")
@click.option("--transfers", type=AutoOr(1024), default="auto", help="Downloads at once; auto finds its level.")
@command_options
def command(
    context: Context, patience: timedelta, until_idle: timedelta | None, listen: str | None, transfers: int | None
) -> None:
    """Follow KAFKA_TOPIC: download and record what its events name, and deliver it where VERIFY_URL is set.

    Runs until it is told to stop (SIGTERM), and loses nothing by that. What cannot be carried out is kept as a dead
    letter.

    Example: ingest consume --listen 127.0.0.1:9180
    """
    from ingest.engine.options import ConsumeOptions
    from ingest.jobs.consume import consume

    options = ConsumeOptions(transfers, patience, until_idle, listen)
    run_job(context, lambda progress, stop: consume(context.settings, options, progress=progress, stop=stop))

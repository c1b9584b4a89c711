"""``ingest verify``."""

from __future__ import annotations

import click

from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_job


@click.command("verify")
@click.option("--prefix", type=Text(), default="", metavar="P", help="Only copies whose key starts with P.")
@click.option("--repair", is_flag=True, help="Download what is missing or damaged again.")
@command_options
def command(context: Context, prefix: str, repair: bool) -> None:
    """Compare every copy with what the catalog says of it, byte for byte.

    Names what is missing, damaged or orphaned (a file that no row names: it is left alone). Ends with 7 when damage
    stays. --repair takes the recorded version only: what changed or is gone at its source is named.

    Example: ingest verify --prefix statements/2026/ --repair
    """
    from ingest.engine.options import VerifyOptions
    from ingest.jobs.verify import verify

    options = VerifyOptions(prefix, repair)
    run_job(context, lambda progress, stop: verify(context.settings, options, progress=progress, stop=stop))

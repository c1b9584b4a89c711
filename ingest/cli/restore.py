"""``ingest restore``."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.params import PathText, Rate, Text
from ingest.cli.runner import Context, command_options, run_job


@click.command("restore")
@click.argument("keys", type=Text(), nargs=-1, metavar="[KEY]...")
@click.option("--prefix", type=Text(), metavar="P", help="All pruned copies whose key starts with P; '' is everything.")
@click.option(
    "--to",
    type=PathText("directory"),
    metavar="DIR",
    help="Write the copies below DIR, and leave the catalog as it is.",
)
@click.option("--overwrite", is_flag=True, help="With --to: replace files that stand in the way of a copy.")
@click.option("--bwlimit", type=Rate(), metavar="RATE", help="At most so many bytes a second in all, such as 10MiB.")
@command_options
def command(context: Context, keys: tuple[str, ...], prefix: str | None, to: str | None, **flags: Any) -> None:
    """Bring pruned copies back from where they came.

    An object that changed or is gone at its source is named, and not replaced by anything else. Nor does --to replace a
    file that stands where a copy would go, unless it holds the same bytes.

    Example: ingest restore --prefix statements/2026/03/
    """
    if bool(keys) == (prefix is not None):
        raise click.UsageError("name keys, or give --prefix P (--prefix '' is everything), one of the two")

    if flags["overwrite"] and to is None:
        raise click.UsageError("--overwrite goes with --to: the data directory's own copies are replaced by themselves")

    from ingest.engine.options import RestoreOptions
    from ingest.jobs.restore import restore

    options = RestoreOptions(keys, prefix, to, **flags)
    run_job(context, lambda progress, stop: restore(context.settings, options, progress=progress, stop=stop))

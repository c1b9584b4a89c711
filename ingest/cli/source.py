"""``ingest source list|rename|attach|forget``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ingest.cli.output import say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.cli.tables import show_table

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.group("source")
def command() -> None:
    """Say what belongs together: endpoints, buckets, data directories, and the catalog.

    Example: ingest source rename minio.example.com:9000 new.example.com:9000
    """


@command.command("list")
@command_options
def list_(context: Context) -> None:
    """Show every source of the catalog, and where its copies lie.

    Example: ingest source list --json
    """
    from ingest.jobs.sources import listed

    found = run_async(lambda _stop: listed(context.settings), at_once=True)
    if context.json:
        context.emit({"sources": found})
        return
    columns = ("id", "endpoint", "bucket", "directory", "data_dir", "objects", "present")
    heads = ("id", "endpoint", "bucket", "directory", "data directory", "objects", "copies")
    show_table(heads, [[source[column] for column in columns] for source in found])


@command.command("rename")
@click.argument("old", type=Text())
@click.argument("new", type=Text())
@_DRY_RUN
@command_options
def rename(context: Context, old: str, new: str, dry_run: bool) -> None:
    """The endpoint OLD (or the source of this number) is called NEW from now on: the same buckets, the same copies.

    Example: ingest source rename minio.example.com:9000 new.example.com:9000
    """
    from ingest.jobs import sources

    _say(context, dry_run, lambda: sources.rename(context.settings, old, new, dry_run=dry_run))


@command.command("attach")
@click.option("--directory", type=Text(), metavar="NAME", help="Where the bucket's copies lie in the data directory.")
@_DRY_RUN
@command_options
def attach(context: Context, directory: str | None, dry_run: bool) -> None:
    """The data directory, the catalog and the bucket that the settings name belong together from now on.

    For a data directory that was moved, one that is to begin anew, a catalog that is lost, and a bucket whose name
    another source's directory has. No file is touched.

    Example: ingest source attach --dry-run
    """
    from ingest.jobs import sources

    _say(context, dry_run, lambda: sources.attach(context.settings, directory, dry_run=dry_run))


@command.command("forget")
@click.argument("source", type=Text())
@click.option("--force", is_flag=True, help="Also one with objects on record; the copies stay, known to nobody.")
@_DRY_RUN
@command_options
def forget(context: Context, source: str, force: bool, dry_run: bool) -> None:
    """Remove a source, as `list` shows it, and what is known of its objects. Its runs and audit trail stay.

    Example: ingest source forget 2
    """
    from ingest.jobs import sources

    _say(context, dry_run, lambda: sources.forget(context.settings, source, force=force, dry_run=dry_run))


def _say(context: Context, dry_run: bool, work: Callable[[], Any]) -> None:
    steps: list[str] = run_async(lambda _stop: work(), at_once=True)
    if context.json:
        context.emit({"dry_run": dry_run, "steps": steps})
        return
    for step in steps:
        say(f"{'would be: ' if dry_run else ''}{step}")

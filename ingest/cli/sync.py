"""``ingest sync``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ingest.cli.output import say
from ingest.cli.params import AutoOr, GoneAtOnce, Moment, Rate, Text, Told
from ingest.cli.runner import Context, command_options, run_job

if TYPE_CHECKING:
    from ingest.engine.options import SyncOptions

_ENGINE = (
    click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing."),
    click.option("--deliver", is_flag=True, help="Put what is downloaded in line for `ingest deliver`."),
    click.option("--transfers", type=AutoOr(1024), default="auto", help="Downloads at once; auto finds its level."),
    click.option("--listers", type=AutoOr(64), default="auto", help="Listings at once."),
    click.option(
        "--no-page-memory", is_flag=True, help="Read every page of the listing, also those that did not change."
    ),
    click.option(
        "--max-gone",
        type=GoneAtOnce(),
        help="Mark nothing as gone where more objects are missing than N, or than P% of those on record. "
        "[default: 50% of 100 or more]",
    ),
    click.option(
        "--bwlimit", type=Rate(), metavar="RATE", help="At most so many bytes a second in all, such as 10MiB."
    ),
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that sync and backfill share, in this order; `sync_options` takes their values."""
    for option in reversed(_ENGINE):
        function = option(function)
    return function


@click.command("sync")
@click.option("--prefix", type=Text(), multiple=True, metavar="P", help="Only keys that start with P; may be repeated.")
@click.option("--include", type=Text(), multiple=True, metavar="GLOB", help="Only keys that match one of these.")
@click.option("--exclude", type=Text(), multiple=True, metavar="GLOB", help="Not the keys that match one of these.")
@click.option(
    "--filter",
    type=Text(),
    multiple=True,
    metavar="RULE",
    help="Not what a .gitignore of these lines ignores: the last RULE that matches counts, and !RULE takes back.",
)
@click.option(
    "--newer-than", type=Moment(), help="Only objects modified on or after this date, or at most so long ago (30d)."
)
@click.option("--older-than", type=Moment(), help="Only objects modified before this date, or longer ago.")
@engine_options
@command_options
def command(context: Context, **values: Any) -> None:
    """Download what is new or changed, and record everything listed.

    A copy that cleanup removed is never downloaded again, unless its object changes.

    A GLOB is of the whole key: `*` and `**` cross `/`, `{a,b}` and a `/` in front are literal, and `dir/` is that one
    key: say `dir/*`. A RULE is a line of a .gitignore.

    Example: ingest sync --prefix statements/2026/ --newer-than 30d
    """
    window = {name: values.pop(name) for name in ("newer_than", "older_than")}
    options = sync_options(context, window, resume=False, **values)

    from ingest.jobs.sync import sync

    run_job(context, lambda progress, stop: sync(context.settings, options, progress=progress, stop=stop))


def sync_options(context: Context, window: dict[str, Told | None], *, resume: bool, **values: Any) -> SyncOptions:
    """The options of sync and backfill from their flags; `window` are those for its two bounds."""
    from ingest.engine.options import SyncOptions
    from ingest.observe.escape import escape_key
    from ingest.plan.selection import Selection

    since, until = (told and told.moment for told in window.values())
    if since and until and since >= until:
        raise click.UsageError(f"the window is empty: it begins {since:%Y-%m-%d %H:%M} and ends {until:%Y-%m-%d %H:%M}")
    selection = Selection(
        prefixes=tuple(values["prefix"]),
        include=tuple(values.get("include", ())),
        exclude=tuple(values.get("exclude", ())),
        filter=tuple(values.get("filter", ())),
        since=since,
        until=until,
    )
    return SyncOptions(
        selection=selection,
        dry_run=values["dry_run"],
        transfers=values["transfers"],
        listers=values["listers"],
        bwlimit=values["bwlimit"],
        resume=resume,
        page_memory=not values["no_page_memory"],
        max_gone=values["max_gone"],
        arguments={name: told.words for name, told in window.items() if told},
        deliver_to=context.settings.required("verify_url") if values["deliver"] else "",
        on_action=None if context.json else lambda action: say(escape_key(str(action))),
    )

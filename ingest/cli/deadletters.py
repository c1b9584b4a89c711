"""``ingest deadletters``."""

from __future__ import annotations

import click

from ingest.cli.output import say
from ingest.cli.params import Count
from ingest.cli.runner import Context, command_options, run_async, run_job
from ingest.cli.tables import show_table

_SHOWN = 60


@click.group("deadletters")
def command() -> None:
    """Messages that could not be carried out: those that wait for another try, and those that were given up."""


@command.command("list")
@click.option("--limit", type=Count(), metavar="N", help="How many; all, if not given.")
@command_options
def list_(context: Context, limit: int | None) -> None:
    """Show them, oldest first; --json shows the whole message and every attempt.

    Example: ingest deadletters list --json
    """
    from ingest.jobs.deadletters import list_letters
    from ingest.observe.escape import escape_key

    found = run_async(lambda _stop: list_letters(context.settings, limit))
    if context.json:
        context.emit({"command": "deadletters", "status": "ok", "letters": found})
        return
    if not found:
        say("No dead letters.")
        return
    show_table(
        ("id", "state", "reason", "tries", "since (UTC)", "key or message"),
        [
            (
                letter["id"],
                letter["state"],
                letter["reason"],
                len(letter["attempts"]),
                letter["first_at"],
                escape_key(letter["key"] or letter["message"] or "")[:_SHOWN],
            )
            for letter in found
        ],
    )


@command.command("retry")
@click.argument("ids", nargs=-1, type=Count(), metavar="[ID]...")
@click.option("--all", "all_", is_flag=True, help="All that were given up.")
@command_options
def retry(context: Context, ids: tuple[int, ...], all_: bool) -> None:
    """Carry out the original messages once more.

    Example: ingest deadletters retry --all
    """
    from ingest.jobs.deadletters import retry_letters

    if bool(ids) == all_:
        raise click.UsageError("give the IDs of letters, or --all")
    chosen = None if all_ else ids
    run_job(context, lambda progress, stop: retry_letters(context.settings, chosen, progress=progress, stop=stop))

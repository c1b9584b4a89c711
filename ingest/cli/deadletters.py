"""``ingest deadletters``."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import click

from ingest.cli.failures import fail, told_of
from ingest.cli.output import Listed, say
from ingest.cli.params import Count, Duration, Text
from ingest.cli.runner import Context, command_options, run_async, run_job
from ingest.errors import IngestError, ReaderGone

_SHOWN = 60
_HEAD = {"id": "id", "state": "state", "reason": "reason", "tries": "tries"}
_HEAD |= {"since": "since (UTC)", "text": "key or message"}
_LINE = "{id:>8}  {state:<7}  {reason:<18}  {tries:>5}  {since:<19}  {text}"


@click.group("deadletters")
def command() -> None:
    """Messages that could not be carried out: those that wait for another try, and those that were given up."""


@command.command("list")
@click.option("--limit", type=Count(), metavar="N", help="How many; all, if not given.")
@click.option("--after", type=Count(0), default=0, metavar="ID", help="Only those behind this one, for the next page.")
@command_options
def list_(context: Context, limit: int | None, after: int) -> None:
    """Show them, oldest first; --json shows the whole message and every attempt.

    Example: ingest deadletters list --json
    """
    from ingest.jobs.deadletters import letters

    listed = Listed({"command": "deadletters list", "run_id": None}, "letters") if context.json else None
    shown = 0

    async def show_all() -> None:
        nonlocal shown
        found = letters(context.settings, after=after, limit=limit, begun=not context.json)
        async with aclosing(found) as kept:
            async for letter in kept:
                if listed is not None:
                    listed.add(letter)
                else:
                    _show(letter, head=not shown)
                shown += 1

    try:
        run_async(lambda _stop: show_all(), at_once=True)
    except IngestError as error:
        if listed is None or not shown or isinstance(error, ReaderGone):
            raise
        listed.end(told_of(error))
        fail(error, as_json=False, verbose=context.verbose)
    if listed is not None:
        listed.end({"status": "ok", "exit_code": 0, "error": None})
    elif not shown:
        say("No dead letters.")


def _show(letter: dict[str, Any], *, head: bool) -> None:
    from ingest.observe.escape import escape_key

    if head:
        say(_LINE.format(**_HEAD))
    text = escape_key(letter["key"] or letter["message"] or "")[:_SHOWN]
    since, tries = f"{letter['first_at']:%Y-%m-%d %H:%M:%S}", len(letter["attempts"])
    say(_LINE.format(**{**letter, "tries": tries, "since": since, "text": text}).rstrip())


@command.command("retry")
@click.argument("ids", nargs=-1, type=Count(), metavar="[ID]...")
@click.option("--all", "all_", is_flag=True, help="All that were given up.")
@command_options
def retry(context: Context, ids: tuple[int, ...], all_: bool) -> None:
    """Carry out the original messages once more.

    Example: ingest deadletters retry --all
    """
    from ingest.engine.options import LetterOptions
    from ingest.jobs.deadletters import retry_letters

    if bool(ids) == all_:
        raise click.UsageError("give the IDs of letters, or --all")
    options = LetterOptions(None if all_ else ids)
    run_job(context, lambda progress, stop: retry_letters(context.settings, options, progress=progress, stop=stop))


@command.command("discard")
@click.argument("ids", nargs=-1, type=Count(), metavar="[ID]...")
@click.option("--all", "all_", is_flag=True, help="All that were given up.")
@click.option(
    "--reason", type=Text(), metavar="REASON", help="Those that were given up for this, for example not_json."
)
@click.option("--older-than", type=Duration(), help="Those that were given up and came longer ago, for example 30d.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@command_options
def discard(context: Context, ids: tuple[int, ...], all_: bool, **told: Any) -> None:
    """Remove messages for good: nobody will carry them out. Each is noted in the audit trail.

    Example: ingest deadletters discard --reason not_json --older-than 30d
    """
    from ingest.engine.options import LetterOptions
    from ingest.jobs.deadletters import discard_letters

    if bool(ids) == (all_ or told["reason"] is not None or told["older_than"] is not None):
        raise click.UsageError("give the IDs of letters, or --all, --reason or --older-than")
    options = LetterOptions(ids or None, **told)
    run_job(context, lambda progress, stop: discard_letters(context.settings, options, progress=progress, stop=stop))

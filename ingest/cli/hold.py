"""``ingest hold add|remove|list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ingest.cli.output import say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async, run_job
from ingest.cli.tables import show_table

if TYPE_CHECKING:
    from ingest.engine.options import HoldOptions


@click.group("hold")
def command() -> None:
    """Exempt copies from cleanup: by key, or by prefix for all that is there and all that comes.

    Example: ingest hold add --prefix statements/2026/03/ --reason "audit 2026-17"
    """


@command.command("add")
@click.argument("keys", type=Text(), nargs=-1, metavar="[KEY]...")
@click.option(
    "--prefix", type=Text(), metavar="P", help="All keys that start with P, also later ones; '' is everything."
)
@click.option(
    "--reason", type=Text(), required=True, metavar="TEXT", help="Why; shown by `list` and kept in the audit trail."
)
@command_options
def add(context: Context, keys: tuple[str, ...], prefix: str | None, reason: str) -> None:
    """Hold copies until they are released. Keys and prefixes are literal.

    Example: ingest hold add statements/2026/03/ACC-00017-2026-03.pdf --reason "complaint 4711"
    """
    from ingest.jobs import hold

    if not reason.strip():
        raise click.UsageError("say why: --reason wants a text")
    options = _options(keys, prefix, reason)
    run_job(context, lambda _progress, stop: hold.hold(context.settings, options, stop=stop))


@command.command("remove")
@click.argument("keys", type=Text(), nargs=-1, metavar="[KEY]...")
@click.option("--prefix", type=Text(), metavar="P", help="The hold on this prefix, as it was added.")
@command_options
def remove(context: Context, keys: tuple[str, ...], prefix: str | None) -> None:
    """Release what was held; cleanup may remove it again.

    Example: ingest hold remove --prefix statements/2026/03/
    """
    from ingest.jobs import hold

    options = _options(keys, prefix)
    run_job(context, lambda _progress, stop: hold.release(context.settings, options, stop=stop))


@command.command("list")
@command_options
def show(context: Context) -> None:
    """Show every hold: what, why, by whom and since when.

    Example: ingest hold list --json
    """
    from ingest.jobs.hold import holds

    found = run_async(lambda _stop: holds(context.settings), at_once=True)
    if context.json:
        context.emit({"holds": [hold._asdict() for hold in found]})
    elif not found:
        say("Nothing is held.")
    else:
        lines = [
            ("prefix" if hold.is_prefix else "key", hold.key, hold.placed_at, hold.placed_by, hold.reason)
            for hold in found
        ]
        show_table(("kind", "held", "since (UTC)", "by", "reason"), lines)


def _options(keys: tuple[str, ...], prefix: str | None, reason: str = "") -> HoldOptions:
    from ingest.engine.options import HoldOptions

    if bool(keys) == (prefix is not None):
        raise click.UsageError("name keys, or give --prefix P (--prefix '' is everything), one of the two")
    return HoldOptions(keys, prefix, reason)

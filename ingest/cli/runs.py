"""``ingest runs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ingest.cli.output import say
from ingest.cli.params import Count, Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.cli.tables import show_table
from ingest.model import RunStatus

if TYPE_CHECKING:
    from ingest.jobs.answers import RunRecord

_UNNAMED = ""


class _ListedByDefault(click.Group):
    """Without the name of a command it lists, and is called by its own name alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = args and args[0] in ctx.help_option_names
        named = args and args[0] in self.commands
        return super().parse_args(ctx, args if asks_for_help or named else [_UNNAMED, *args])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name or "list")


@click.group("runs", cls=_ListedByDefault)
def command() -> None:
    """Show the last runs, newest first, or one of them: `ingest runs` is `ingest runs list`.

    Example: ingest runs --limit 5
    """


@command.command("list")
@click.option("--limit", type=Count(), default=20, show_default=True, metavar="N", help="How many.")
@command_options
def listed(context: Context, limit: int) -> None:
    """Show the last runs, newest first.

    Example: ingest runs --limit 5
    """
    from ingest.jobs.show import runs

    found = run_async(lambda _stop: runs(context.settings, limit), at_once=True)
    if context.json:
        context.emit({"runs": found})
        return
    show_runs(found)


@command.command("show")
@click.argument("number", type=Count(), metavar="N")
@click.option("--limit", type=Count(), default=10_000, show_default=True, metavar="N", help="How many objects.")
@click.option("--key", type=Text(), metavar="KEY", help="Also say why the run took this object, or left it.")
@command_options
def show(context: Context, number: int, limit: int, key: str | None) -> None:
    """Show one run: what it was told, and the objects that failed in it, each with its reason.

    Example: ingest runs show 4711 --key statements/2024/01/ACC-00017.pdf
    """
    from ingest.jobs.show import run_shown
    from ingest.observe.escape import escape_key

    found = run_async(lambda _stop: run_shown(context.settings, number, limit, key), at_once=True)
    if context.json:
        context.emit(found)
        return
    show_runs([found["run"]])
    if found["run"]["arguments"]:
        say()
        show_table(("told", "value"), [(name, _as_text(told)) for name, told in found["run"]["arguments"].items()])
    if key is not None:
        it = found["object"]
        say(f"\n{escape_key(it['key'])} ({it['state']}): {escape_key(it['why'])}")
    if found["failures"]:
        say()
        show_table(
            ("what", "key", "error", "message"),
            [(each["what"], each["key"], each["error"], each["message"]) for each in found["failures"]],
        )
    counts = found["run"]["counts"]
    unnamed = sum(counts.get(name, 0) for name in ("failed", "damaged", "missing")) - len(found["failures"])
    if unnamed > 0 and len(found["failures"]) < limit:
        say(f"\n{unnamed} more are in the log of the run only: no catalog keeps their names.")


def _as_text(told: object) -> str:
    return ", ".join(map(str, told)) if isinstance(told, list) else str(told)


def show_runs(found: Sequence[RunRecord]) -> None:
    """The table of runs."""
    if not found:
        say("No runs yet.")
        return
    show_table(
        ("run", "command", "started (UTC)", "status", "what"),
        [(run["id"], run["command"], run["started_at"], run["status"], _what(run)) for run in found],
    )


_UNCOUNTED: dict[str, str] = {RunStatus.RUNNING: "under way", RunStatus.INTERRUPTED: "killed before it counted"}
"""What is said of a run without counts, unless it found nothing to do: they are written with each heartbeat."""


def _what(run: RunRecord) -> str:
    counts = {name: count for name, count in (run["counts"] or {}).items() if count and name != "bytes"}
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    said = said or ("nothing was done" if run["error"] else _UNCOUNTED.get(run["status"], "nothing to do"))
    if (run["arguments"] or {}).get("dry_run"):
        said = f"dry run: {said}"  # its counts tell what would have been
    return f"{said}; {run['error']}" if run["error"] else said

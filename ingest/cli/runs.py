"""``ingest runs``."""

from __future__ import annotations

from typing import Any

import click

from ingest.cli.output import say
from ingest.cli.params import Count
from ingest.cli.runner import Context, command_options, run_async
from ingest.cli.tables import show_table


@click.command("runs")
@click.option("--limit", type=Count(), default=20, show_default=True, metavar="N", help="How many.")
@command_options
def command(context: Context, limit: int) -> None:
    """Show the last runs, newest first.

    Example: ingest runs --limit 5
    """
    from ingest.jobs.ask import runs

    found = run_async(lambda _stop: runs(context.settings, limit))
    if context.json:
        context.emit({"command": "runs", "status": "ok", "runs": found})
        return
    show_runs(found)


def show_runs(found: list[dict[str, Any]]) -> None:
    """The table of runs."""
    if not found:
        say("No runs yet.")
        return
    show_table(
        ("run", "command", "started (UTC)", "status", "what"),
        [(run["id"], run["command"], run["started_at"], run["status"], _what(run)) for run in found],
    )


def _what(run: dict[str, Any]) -> str:
    counts = {name: count for name, count in (run["counts"] or {}).items() if count and name != "bytes"}
    said = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do"
    if (run["arguments"] or {}).get("dry_run"):
        said = f"dry run: {said}"  # its counts tell what would have been
    return f"{said}; {run['error']}" if run["error"] else said

"""``ingest ls``."""

from __future__ import annotations

import click

from ingest.cli.output import say
from ingest.cli.params import Count, Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.model import RemoteObject
from ingest.system.units import format_size


@click.command("ls")
@click.argument("prefix", type=Text(), default="")
@click.option("--limit", type=Count(), metavar="N", help="Stop after N objects.")
@command_options
def command(context: Context, prefix: str, limit: int | None) -> None:
    """List the bucket's objects, with size, date and key.

    Example: ingest ls statements/2026/ --limit 20
    """
    from ingest.jobs.show import ls
    from ingest.observe.escape import escape_key

    shown: list[RemoteObject] = []
    total = 0

    async def work(_stop: object) -> int:
        size = 0
        async for remote in ls(context.settings, prefix, limit):
            size += remote.size
            shown.append(remote) if context.json else say(
                f"{format_size(remote.size):>10}  {remote.last_modified:%Y-%m-%d %H:%M:%S}  {escape_key(remote.key)}"
            )
        return size

    total = run_async(work, at_once=True)
    if context.json:
        context.emit({"bytes": total, "objects": [remote._asdict() for remote in shown]})

"""``ingest history``."""

from __future__ import annotations

import json
from typing import Any

import click

from ingest.cli.output import say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.cli.tables import show_table

_SHOWN = 500


@click.command("history")
@click.argument("key", type=Text())
@command_options
def command(context: Context, key: str) -> None:
    """Show one object's row and everything that happened to it.

    Example: ingest history statements/2026/03/ACC-00017-2026-03.pdf
    """
    from ingest.jobs.show import history
    from ingest.observe.escape import escape_key

    found = run_async(lambda _stop: history(context.settings, key), at_once=True)
    if context.json:
        context.emit(found)
        return
    row = found["object"]
    for name in ("source_s3_path", "state", "size", "etag", "version", "last_modified", "local_path", "digest",
                 "downloaded_at", "pruned_at", "gone_at", "last_error"):  # fmt: skip
        if row[name] is not None:
            say(f"{name:>14}: {escape_key(str(row[name]))}")
    for delivery in found["deliveries"]:
        say(f"{'delivery':>14}: {_delivered(delivery)}")
    say()
    show_table(
        ("when (UTC)", "run", "what", "detail"),
        [(event["at"], event["run_id"], event["what"], _detail(event["detail"])) for event in found["events"]],
    )


def _detail(text: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in json.loads(text).items())


def _delivered(delivery: dict[str, Any]) -> str:
    """``delivered to URL (etag …), status 200: {…}``; the response in full is in ``--json``."""
    from ingest.observe.escape import escape_key

    said = f"{delivery['state']} to {delivery['target']} (etag {delivery['etag']})"
    if delivery["response_status"] is not None:
        said += f", status {delivery['response_status']}: {(delivery['response'] or '')[:_SHOWN]}"
    if delivery["last_error"] is not None:
        said += f", {delivery['last_error']}"
    return escape_key(said)

"""``ingest status``."""

from __future__ import annotations

import click

from ingest.cli.output import say
from ingest.cli.runner import Context, command_options, run_async
from ingest.cli.runs import show_runs
from ingest.cli.tables import show_table
from ingest.system.units import format_size


@click.command("status")
@command_options
def command(context: Context) -> None:
    """Show how many objects are in which state, and the last run of each command.

    Example: ingest status --json
    """
    from ingest.jobs.show import status
    from ingest.model import ListingOrder

    found = run_async(lambda _stop: status(context.settings), at_once=True)
    if context.json:
        context.emit(found)
        return
    say(f"{found['source']}: {found['objects']} objects in the catalog, {found['gone']} gone from the bucket\n")
    show_table(
        ("state", "objects", "size"),
        [(state, row["objects"], format_size(row["bytes"])) for state, row in sorted(found["states"].items())],
    )
    if found["listing_order"] == ListingOrder.DIRECTORY:
        since = f" since {found['listing_order_since']:%Y-%m-%d %H:%M} UTC" if found["listing_order_since"] else ""
        why = f" ({found['listing_order_reason']})" if found["listing_order_reason"] else ""
        say(f"\nListed directory by directory{since}{why}: no page is remembered, every one is read each night.")
    if found["only_copies"]["objects"]:
        number, size = found["only_copies"]["objects"], format_size(found["only_copies"]["bytes"])
        say(f"\n{number} of the copies ({size}) are the only ones: the bucket has their objects no longer.")
    if found["deliveries"]:
        say("\nDeliveries")
        show_table(("state", "objects"), sorted(found["deliveries"].items()))
    if any(found["dead_letters"].values()):
        say("\nMessages that were not carried out")
        show_table(("state", "messages"), sorted(found["dead_letters"].items()))
        if found["unpublished_letters"]:
            say(f"{found['unpublished_letters']} of them are still to be written to the topic of dead letters.")
        if found["lost_messages"]:
            say(f"The broker removed {found['lost_messages']} messages before they were read.")
    if found["unannounced"] is not None:
        say(f"\nThe last sync downloaded {found['unannounced']} objects that no event has announced.")
    say("\nLast runs")
    show_runs(found["last_runs"])

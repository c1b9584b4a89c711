"""``ingest db upgrade|current|check``."""

from __future__ import annotations

import click

from ingest.cli.output import say
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import DatabaseError


@click.group("db")
def command() -> None:
    """Create, migrate and check the catalog's database."""


@command.command("upgrade")
@command_options
def upgrade(context: Context) -> None:
    """Migrate the schema to what this version needs; creates it where there is none."""
    from ingest.catalog import schema
    from ingest.jobs.installation import admit

    async def work(_stop: object) -> None:
        await admit(context.settings)
        await schema.upgrade(context.settings.database_url.get_secret_value())

    run_async(work)
    _say(context, f"The schema is at {schema.revisions()[-1]}.", revision=schema.revisions()[-1])


@command.command("current")
@command_options
def current(context: Context) -> None:
    """Show which revision the schema is at."""
    from ingest.catalog import schema

    found = run_async(lambda _stop: schema.current(context.settings.database_url.get_secret_value()))
    newest = schema.revisions()[-1]
    where = "there is no schema" if found is None else f"the schema is at {found}"
    _say(context, f"{where}; this version of ingest needs {newest}.", revision=found, needed=newest)


@command.command("check")
@command_options
def check(context: Context) -> None:
    """Check that the schema fits, that a SQLite file is sound, and that the audit trail's chain is unbroken."""
    from ingest.catalog import queries, schema
    from ingest.catalog.catalog import Catalog
    from ingest.jobs.installation import admit

    async def work(_stop: object) -> list[int]:
        await admit(context.settings, must_exist=True)
        async with Catalog.open(context.settings.database_url.get_secret_value(), asked=True) as catalog:
            await schema.require_sound(catalog.lane, catalog.target.shown)
            return await queries.check_chain(catalog)

    broken = run_async(work)
    if broken:
        raise DatabaseError(
            f"the audit trail is broken at event {broken[0]} ({len(broken)} in all): edited, dropped or reordered",
            hint="Compare the events table with a backup.",
        )
    _say(context, "The schema fits, and the audit trail is unbroken.", revision=schema.revisions()[-1])


def _say(context: Context, line: str, **fields: object) -> None:
    if context.json:
        context.emit(fields)
    else:
        say(line)

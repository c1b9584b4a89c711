"""``ingest db upgrade|downgrade|current|check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ingest.cli.output import say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import DatabaseError, LockedError, SchemaMissing

if TYPE_CHECKING:
    from ingest.catalog.schema.migrations import Step

_WAIT = "Wait for them, or end them (`ingest runs`). One that was killed counts until it was silent for long."


@click.group("db")
def command() -> None:
    """Create, migrate and check the catalog's database."""


class _Way(NamedTuple):
    """What is to be done, and what came of it."""

    found: str | None
    to: str
    steps: Sequence[Step]
    at_work: Sequence[str]
    kept: Path | None = None


@command.command("upgrade")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@command_options
def upgrade(context: Context, dry_run: bool) -> None:
    """Migrate the schema to what this version needs; creates it where there is none.

    Says what each step does. Of a SQLite catalog a copy is kept beside it, as it was before.
    """
    from ingest.catalog import runs
    from ingest.catalog.schema import migrations, schema
    from ingest.engine.installation import admit

    async def work(_stop: object) -> _Way:
        await admit(context.settings)
        url, newest = context.settings.database_url.get_secret_value(), migrations.revisions()[-1]
        found = await schema.current(url)
        migrations.require_known(found)
        way = _Way(found, newest, migrations.way_up(found), await runs.at_work(url) if found != newest else ())
        if way.found is not None:
            _announce(context, way, [f"{step.revision}: {step.does}" for step in way.steps])
        for run in way.at_work:
            say(f"at work with the earlier schema; end it, and start it again with this version: {run}", err=True)
        return way if dry_run else way._replace(kept=await schema.upgrade(url))

    way = run_async(work, at_once=True)
    line = f"The schema would be at {way.to}." if dry_run else f"The schema is at {way.to}."
    _conclude(context, line, way, dry_run=dry_run)


@command.command("downgrade")
@click.argument("to", type=Text(), metavar="[REVISION]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked, and for `base`.")
@click.option("--dry-run", is_flag=True, help="Show what would be done and lost, and change nothing.")
@command_options
def downgrade(context: Context, to: str | None, yes: bool, dry_run: bool) -> None:
    """Take the schema back to REVISION, for an earlier version of ingest; without one, by a single step.

    Says what is lost by it. Refused while runs are at work. Of a SQLite catalog a copy is kept beside it, as it was
    before. `base` leaves no table at all. Use the earlier version afterwards: this one would migrate it anew.
    """
    from ingest.catalog import runs
    from ingest.catalog.schema import migrations, schema
    from ingest.engine.installation import admit

    url = context.settings.database_url.get_secret_value()

    async def look(_stop: object) -> _Way:
        await admit(context.settings, must_exist=True)
        found = await schema.current(url)
        migrations.require_known(found)
        if found is None:
            raise SchemaMissing("there is no schema to take back")
        known = [migrations.BASE, *migrations.revisions()]
        target = to or known[known.index(found) - 1]
        return _Way(found, target, migrations.way_down(found, target), await runs.at_work(url))

    way = run_async(look, at_once=True)
    _announce(context, way, [f"{step.revision} is undone, and with it is lost: {step.loses}" for step in way.steps])
    if dry_run:
        _conclude(context, f"The schema would be at {way.to}.", way, dry_run=True)
        return
    if way.at_work:
        raise LockedError(f"runs are at work: {', '.join(way.at_work)}", hint=_WAIT)
    if not yes and (to is None or to == migrations.BASE):
        _confirm(context, way)
    way = way._replace(kept=run_async(lambda _stop: schema.downgrade(url, way.to), at_once=True))
    _conclude(context, f"The schema is at {way.to}.", way, dry_run=False)


@command.command("current")
@command_options
def current(context: Context) -> None:
    """Show which revision the schema is at."""
    from ingest.catalog.schema import migrations, schema

    found = run_async(lambda _stop: schema.current(context.settings.database_url.get_secret_value()), at_once=True)
    newest = migrations.revisions()[-1]
    where = "there is no schema" if found is None else f"the schema is at {found}"
    _say(context, f"{where}; this version of ingest needs {newest}.", revision=found, needed=newest)


@command.command("check")
@command_options
def check(context: Context) -> None:
    """Check that the schema fits, that a SQLite file is sound, and that the audit trail's chain is unbroken."""
    from ingest.catalog import audit
    from ingest.catalog.catalog import Catalog
    from ingest.catalog.schema import migrations, schema
    from ingest.engine.installation import admit

    async def work(_stop: object) -> list[int]:
        await admit(context.settings, must_exist=True)
        async with Catalog.open(context.settings.database_url.get_secret_value(), read_only=True) as catalog:
            await schema.require_sound(catalog.driver, catalog.target.shown)
            return await audit.broken_links(catalog.driver)

    broken = run_async(work, at_once=True)
    if broken:
        raise DatabaseError(
            f"the audit trail is broken at event {broken[0]} ({len(broken)} in all): edited, dropped or reordered",
            hint="Compare the events table with a backup.",
        )
    revision = migrations.revisions()[-1]
    if context.json or not context.quiet:
        _say(context, "The schema fits, and the audit trail is unbroken.", revision=revision)


def _announce(context: Context, way: _Way, lines: Sequence[str]) -> None:
    """Before anything is done."""
    if way.steps:
        for line in (f"The schema goes from {way.found} to {way.to}:", *(f"  {line}" for line in lines)):
            say(line, err=context.json)


def _confirm(context: Context, way: _Way) -> None:
    """
    Raises:
        click.UsageError: nobody can be asked. click.Abort: no.
    """
    if context.json or not sys.stdin.isatty():
        raise click.UsageError(f"to go from {way.found} to {way.to} loses what is said above: say --yes")
    click.confirm("Go on?", abort=True, err=True)


def _conclude(context: Context, line: str, way: _Way, *, dry_run: bool) -> None:
    steps = [{"revision": step.revision, "does": step.does, "loses": step.loses} for step in way.steps]
    kept = str(way.kept) if way.kept is not None else None
    if kept is not None:
        line = f"{line} As it was before, the catalog is kept in {kept}"
    at_work, done = list(way.at_work), None if way.to == "base" else way.to
    _say(
        context, line, revision=way.found if dry_run else done, steps=steps, copy=kept, at_work=at_work,
        dry_run=dry_run, **{"from": way.found, "to": way.to},
    )  # fmt: skip


def _say(context: Context, line: str, **fields: object) -> None:
    if context.json:
        context.emit(fields)
    else:
        say(line)

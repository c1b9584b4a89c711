"""The schema's version: checked at every start, upgraded by ``ingest db upgrade`` (SQLite: on first use)."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.catalog.schema.keeping import keep_copy
from ingest.catalog.schema.migrations import migrations_dir, require_known
from ingest.catalog.schema.migrations import revisions as revisions  # noqa: PLC0414 - asked of the schema, too
from ingest.catalog.sql.connect import is_read_only, open_driver
from ingest.catalog.sql.driver import Dialect, Driver, Statement, Steps
from ingest.catalog.sql.strangers import elsewhere, revision
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseDamaged, DatabaseError, SchemaMissing, too_many_files
from ingest.observe.logs import log
from ingest.system.private_dirs import hand_over, make_directories

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

SNAPSHOT = Path(__file__).with_name("schema.sql")
"""What the migrations end in on SQLite (see `snapshot`)."""
_HINTS = {
    errno.EISDIR: "DATABASE_URL names a directory; it wants a file in it.",
    errno.EROFS: "The file system is read-only: name a file elsewhere in DATABASE_URL, as a catalog has to be written.",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space where the SQLite file is, then run again."),
}
"""Why no SQLite file can be made, where it is not for want of permission."""
_TAKE_TURNS_POSTGRES = (
    "SET LOCAL lock_timeout = 0",
    "SET LOCAL statement_timeout = 0",
    "SELECT pg_advisory_xact_lock(hashtextextended('ingest schema', 0))",
)
"""One migration at a time, however long it takes."""
_TABLE_POSTGRES = "SELECT 1 WHERE to_regclass(?) IS NOT NULL"
_TABLE_SQLITE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
CATALOG_ID = "SELECT catalog_id FROM installation"
_COUNT_TABLES_SQLITE = "SELECT count(*) FROM sqlite_master"


async def current(url: str) -> str | None:
    """The revision that the database is at; None without a schema.

    Raises:
        DatabaseError: it cannot be reached or read.
    """
    async with as_it_is(url) as driver:
        return None if driver is None else await revision(driver, Target.of(url).shown, our_tables)


def our_tables() -> list[str]:
    from ingest.catalog.schema.tables import metadata

    return list(metadata.tables)


async def has_table(driver: Driver, name: str) -> bool:
    return bool(await driver.fetch(_TABLE_POSTGRES if driver.dialect.is_postgres else _TABLE_SQLITE, name))


Admission = Callable[[str | None], None]
"""Looks at the id of a catalog, None where there is none, before anything is written to it; raises to refuse it."""


def admit_any(_catalog_id: str | None) -> None:
    """Whatever it is called: it is what the settings name."""


async def upgrade(url: str, to: str = "head") -> Path | None:
    """Migrates up to revision `to`; a SQLite file is created, readable by its owner and group only. Returns the copy
    that was kept of one that was there and is changed.

    Several at once wait for one another, and what the first has done the others find done.

    Raises:
        DatabaseUnfit: it is another application's, or no place for a catalog. SchemaAhead: made by a newer version.
    """
    return await _migrate(url, to, down=False)


async def downgrade(url: str, to: str) -> Path | None:
    """Migrates down to revision `to` (``base`` drops the schema), which loses what later ones have added. Returns the
    copy that was kept of a SQLite file.

    Raises:
        As `upgrade`.
    """
    return await _migrate(url, to, down=True)


async def require_sound(driver: Driver, where: str) -> None:
    """Reads the whole of a SQLite file; PostgreSQL has checksums of its own.

    Raises:
        DatabaseDamaged: its pages do not fit together.
    """
    if not driver.dialect.is_postgres and (said := (await driver.fetch("PRAGMA quick_check(1)"))[0][0]) != "ok":
        raise DatabaseDamaged(f"{where}: {str(said).splitlines()[0]}")


@asynccontextmanager
async def fitting(url: str, admit: Admission = admit_any, *, read_only: bool = False) -> AsyncIterator[Driver]:
    """A driver of a database whose schema fits: SQLite is migrated, PostgreSQL is checked; `read_only` as in `Target`.

    Raises:
        SchemaMissing: missing or behind. SchemaAhead: made by a newer version. DatabaseUnfit: another application's.
        DatabaseError: unreachable. Whatever `admit` raises, and then nothing is written.
    """
    target = Target.of(url, read_only=read_only)
    if not target.is_postgres:
        if is_absent(target.file):
            admit(None)
        if not (read_only and is_read_only(target.file)):
            _create_file(target.file)
    async with open_driver(target) as driver:
        await _fit(url, target, driver, admit)
        yield driver


@asynccontextmanager
async def as_it_is(url: str) -> AsyncIterator[Driver | None]:
    """A driver of a database that is only looked at, whatever its schema; None where there is no file, or an empty one.

    Raises:
        DatabaseError: it cannot be reached or read.
    """
    target = Target.of(url, read_only=True)
    if not target.is_postgres and is_absent(target.file):
        yield None
        return
    async with open_driver(target) as driver:
        yield driver


def is_absent(file: str) -> bool:
    """Whether there is no SQLite file, or one without a byte: SQLite takes that for a new database."""
    try:
        return os.stat(file).st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it cannot be looked at: opening it says why


async def admitted(url: str, admit: Admission) -> None:
    """Has `admit` look at the catalog as it is; nothing is made or migrated. Raises what it raises, `DatabaseError`."""
    async with as_it_is(url) as driver:
        if driver is None:
            admit(None)
        else:
            admit(await _catalog_id(driver, await revision(driver, Target.of(url).shown, our_tables)))


async def _catalog_id(driver: Driver, found: str | None) -> str | None:
    if found != revisions()[-1] and not await has_table(driver, "installation"):
        return None
    rows = await driver.fetch(CATALOG_ID)
    return str(rows[0][0]) if rows else None


async def _fit(url: str, target: Target, driver: Driver, admit: Admission) -> None:
    found, newest = await revision(driver, target.shown, our_tables), revisions()[-1]
    admit(await _catalog_id(driver, found))
    if found == newest:
        return
    require_known(found)
    if target.is_postgres or driver.is_read_only:
        state = "missing" if found is None else f"at {found}"
        if found is None and target.is_postgres and (schemas := await elsewhere(driver)):
            state = f"missing where search_path leads (there is a catalog in: {', '.join(schemas)})"
        raise SchemaMissing(f"the database's schema is {state}, this version of ingest needs {newest}")
    if found is not None or not await driver.write(_create):
        kept = await upgrade(url)
        if kept is not None:
            said = f"the catalog was brought from {found} to {newest}; as it was before, it is kept in {kept}"
            log().warning("catalog_migrated", message=said)


def _create(_dialect: Dialect) -> Steps[bool]:
    """Makes the schema of a new SQLite file at once. Returns whether the file was a new one."""
    if (yield Statement(_COUNT_TABLES_SQLITE))[0][0]:
        return False
    for statement in SNAPSHOT.read_text(encoding="utf-8").rstrip(";\n").split(";\n\n"):
        yield Statement(statement)
    return True


async def _migrate(url: str, to: str, *, down: bool) -> Path | None:
    from alembic import command
    from sqlalchemy import text

    from ingest.catalog.schema.engine import create_engine

    target = Target.of(url)
    if not target.is_postgres:
        _create_file(target.file)
    async with open_driver(target) as driver:  # what does not fit is left alone
        require_known(await revision(driver, target.shown, our_tables))

    def run(connection: Connection) -> Path | None:
        kept = None
        if target.is_postgres:
            for wait in _TAKE_TURNS_POSTGRES:
                connection.execute(text(wait))
        elif (found := _revision_now(connection)) not in (None, revisions()[-1] if to == "head" else to):
            kept = keep_copy(target.file, str(found))  # the write lock is ours: nobody changes anything meanwhile
        (command.downgrade if down else command.upgrade)(_config(connection), to)
        return kept

    engine = create_engine(url)
    try:
        with target.translated():
            async with engine.begin() as connection:
                return await connection.run_sync(run)
    finally:
        await engine.dispose()


def _revision_now(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _create_file(name: str) -> None:
    if not name or name == ":memory:":
        raise DatabaseError("SQLite needs a file: the catalog must outlive the run", hint="Set DATABASE_URL to a file.")
    path = Path(name)
    try:
        make_directories(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            hand_over(descriptor, path.parent)
        finally:
            os.close(descriptor)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "Check that the directory can be written by this user.")
        raise too_many_files(error) or DatabaseError(f"{path}: {error.strerror}", hint=hint) from error

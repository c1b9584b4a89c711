"""Whose a database is, before anything is written to it: a catalog's, nobody's yet, or another application's.

| found | is |
|---|---|
| no table (PostgreSQL: none of our names in the schema that new tables go to) | nobody's yet |
| ``alembic_version`` with one revision of four digits, and our ``objects`` | a catalog, of this version or another |
| ``alembic_version`` without a revision, and none of our tables | nobody's yet: it was downgraded |
| anything else | somebody else's: `DatabaseUnfit`, and it stays as it is |
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ingest.errors import DatabaseUnfit

if TYPE_CHECKING:
    from ingest.catalog.sql.driver import Driver

_REVISION = re.compile(r"\d{4}")
_COLUMN = "source_s3_path"
"""Of `objects`, from the first version on: nobody else's table of that name has it."""
_TABLES_SQLITE = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
_VERSIONS = "SELECT version_num FROM alembic_version"
_VERSIONED_SQLITE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
_HINT = "Give ingest a database of its own, as in docs/operations.md, or a schema; this one was left as it is."
_FILE_HINT = "Name a file of its own in DATABASE_URL, or leave it out; this file was left as it is."
_PLACE_POSTGRES = (
    "SELECT current_schema(), to_regclass('alembic_version')::text, (SELECT count(*) FROM pg_attribute "
    "WHERE attrelid = to_regclass('objects') AND attname = 'source_s3_path' AND NOT attisdropped)"
)
_NAMESAKES_POSTGRES = (
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = ANY (?) "
    "AND relkind <> 'i' ORDER BY 1"
)
_ELSEWHERE_POSTGRES = (
    "SELECT nspname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
    "WHERE relname = 'objects' AND attname = 'source_s3_path' AND NOT attisdropped ORDER BY 1"
)


async def revision(driver: Driver, where: str, tables: Callable[[], Sequence[str]]) -> str | None:
    """The revision that a catalog is at; None in a database that is nobody's yet. `where` is how it is called, and
    `tables` says what ours are called.

    Raises:
        DatabaseUnfit: it is another application's.
    """
    if not driver.dialect.is_postgres:
        return await _revision_in_file(driver)
    try:
        return await _revision_in_schema(driver, where, tables)
    except DatabaseUnfit:
        # What was made or dropped between two of its questions looks like neither: the second look sees it whole.
        return await _revision_in_schema(driver, where, tables)


async def _revision_in_schema(driver: Driver, where: str, tables: Callable[[], Sequence[str]]) -> str | None:
    ((schema, table, is_ours),) = await driver.fetch(_PLACE_POSTGRES)
    if schema is None:
        raise DatabaseUnfit(f"{where}: search_path names no schema that is there", hint="Create it: CREATE SCHEMA …;")
    found = [str(row[0]) for row in await driver.fetch(_VERSIONS)] if table is not None else []
    if is_ours and len(found) == 1 and _REVISION.fullmatch(found[0]):
        return found[0]
    if found:
        said = f"its alembic_version ({', '.join(found)}) is another application's"
        raise DatabaseUnfit(f"{where}: {said}", hint=_HINT)
    if taken := [str(row[0]) for row in await driver.fetch(_NAMESAKES_POSTGRES, tables())]:
        said = f"its schema {schema} has tables of our names that are none of a catalog: {', '.join(taken)}"
        raise DatabaseUnfit(f"{where}: {said}", hint=_HINT)
    return None


async def elsewhere(driver: Driver) -> list[str]:
    """The schemas of a PostgreSQL database that hold a catalog, whether or not search_path names them."""
    return [str(row[0]) for row in await driver.fetch(_ELSEWHERE_POSTGRES)]


async def _revision_in_file(driver: Driver) -> str | None:
    if not await driver.fetch(_VERSIONED_SQLITE):
        return None
    found = await driver.fetch(_VERSIONS)
    return str(found[0][0]) if found else None


def require_ours(connection: sqlite3.Connection, where: str) -> None:
    """Before the first statement that would change the file, be it only its journal's mode.

    Raises:
        DatabaseUnfit: it is another application's.
    """
    tables = dict(connection.execute(_TABLES_SQLITE))
    ((application,),) = connection.execute("PRAGMA application_id")
    versions = [str(row[0]) for row in connection.execute(_VERSIONS)] if "alembic_version" in tables else []
    if application == 0 and tables.keys() <= {"alembic_version"} and not versions:
        return
    if application == 0 and _COLUMN in tables.get("objects", "") and versions and _REVISION.fullmatch(versions[0]):
        return
    names = ", ".join(sorted(tables)[:5]) or "none yet"
    raise DatabaseUnfit(f"{where}: this SQLite file is another application's (its tables: {names})", hint=_FILE_HINT)

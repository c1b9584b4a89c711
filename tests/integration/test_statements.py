"""Every statement of the catalog against the schema, on both databases: a typo is found without running its way.

A statement is a constant of its module, or a part of one: text, an `Insert`, or several of them in a dict or a tuple. One
whose name ends in ``_SQLITE`` or ``_POSTGRES`` is for that engine only.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ingest.catalog import history, overview
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.tables import UtcTime, metadata
from ingest.catalog.sql.driver import Insert
from ingest.catalog.sql.postgres import POSTGRES
from ingest.catalog.sql.records import Records
from ingest.catalog.sql.sqlite import SQLITE
from ingest.errors import DatabaseError

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "ingest" / "catalog").rglob("*.py"))
VERB = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|LOCK)\s")
MAKERS = {"driver", "postgres", "records", "sessions", "snapshot"}
"""Those that make statements of an `Insert`, of `Records`, of settings, or of a whole schema."""
PLAIN = {"advisory", "postgres", "sessions"}
"""Modules that talk to asyncpg itself: their statements are PostgreSQL's, and number their values."""


def statements_of(value: object) -> Iterator[str]:
    if isinstance(value, Insert):
        yield value.row
    elif isinstance(value, str) and VERB.match(value):
        yield value
    elif isinstance(value, dict | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from statements_of(one)


def statements(engine: str) -> dict[str, str]:
    """By the names of their constants; of those that only another engine is told, none."""
    found: dict[str, str] = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for constant, value in vars(importlib.import_module(name)).items():
            told = "POSTGRES" if path.stem in PLAIN else constant.rpartition("_")[2]
            if told not in {"SQLITE", "POSTGRES"} - {engine}:
                found |= {f"{path.stem}.{constant}[{at}]": sql for at, sql in enumerate(statements_of(value))}
    return found


async def test_sqlite_knows_each(tmp_path: Path) -> None:
    found, wrong = statements("SQLITE"), []
    assert len(found) > 150
    async with Catalog.open(f"sqlite+aiosqlite:///{tmp_path}/catalog.db") as catalog:
        for name, sql in found.items():
            try:
                await catalog.driver.fetch(f"EXPLAIN {sql}", *[None] * SQLITE.spell(sql).count("?"))
            except DatabaseError as error:
                wrong.append(f"{name}: {error}")
    assert wrong == []


async def test_postgresql_knows_each(postgres_url: str) -> None:
    await schema.upgrade(postgres_url)
    found, wrong = statements("POSTGRES"), []
    assert len(found) > 150
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    for name, sql in found.items():
        try:
            await connection.prepare(POSTGRES.spell(sql))
        except asyncpg.PostgresError as error:
            wrong.append(f"{name}: {error}")
    await connection.close()
    assert wrong == []


def composed(path: Path) -> Iterator[str]:
    """Where a function writes a statement of its own, or puts one together: nothing would try that one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VERB.match(node.value):
            yield f"{path.name}:{node.lineno} {node.value!r}"
        if isinstance(node, ast.JoinedStr | ast.BinOp):
            used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} & constants
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            if any(list(statements_of(getattr(module, name))) for name in used):
                yield f"{path.name}:{node.lineno} {ast.unparse(node)}"


def test_no_function_puts_a_statement_together() -> None:
    assert [found for path in MODULES if path.stem not in MAKERS for found in composed(path)] == []


@pytest.mark.parametrize(
    "records", [history.OBJECTS, history.EVENTS, history.DELIVERIES, overview.RUNS], ids=lambda of: of.table
)
def test_what_is_shown_whole_is_read_as_the_tables_say(records: Records) -> None:
    """All columns in their order, but of runs some; and no time, document or truth value is shown as it is kept."""
    columns, shown = metadata.tables[records.table].columns, records.columns.split(", ")
    assert shown == [column.name for column in columns if column.name in shown]
    if records is not overview.RUNS:
        assert set(shown) == {column.name for column in columns}
    kinds = {name: type(columns[name].type).__name__ for name in shown}
    assert records.times == {name for name, kind in kinds.items() if kind == UtcTime.__name__}
    assert records.documents == {name for name, kind in kinds.items() if kind == "JSON"}
    assert records.flags == {name for name, kind in kinds.items() if kind == "Boolean"}

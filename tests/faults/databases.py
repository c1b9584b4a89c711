"""Databases as templates: migrated or filled once, then copied for each test in a few milliseconds."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_numbers = itertools.count(1)


class Template(NamedTuple):
    url: str


def sqlite_file(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite+aiosqlite:///")) if url.startswith("sqlite") else None


def template_on(url: str) -> Template:
    """What the database holds now; nobody may be connected, and nobody may write to it any more."""
    return Template(url)


async def copy_of(template: Template, file: Path) -> str:
    """The URL of a copy: `file` on SQLite, a database of its own on PostgreSQL."""
    original = sqlite_file(template.url)
    if original is not None:
        shutil.copy(original, file)
        return f"sqlite+aiosqlite:///{file}"
    parts = urlsplit(template.url)
    name = f"copy_{next(_numbers)}"
    connection = await asyncpg.connect(urlunsplit(parts._replace(scheme="postgresql", path="/postgres")))
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {parts.path.lstrip('/')} STRATEGY FILE_COPY")
    finally:
        await connection.close()
    return urlunsplit(parts._replace(path=f"/{name}"))


async def drop(url: str) -> None:
    """A copy on PostgreSQL that nobody needs any more: each takes as much room as a small bucket."""
    if sqlite_file(url) is None:
        parts = urlsplit(url)
        connection = await asyncpg.connect(urlunsplit(parts._replace(scheme="postgresql", path="/postgres")))
        try:
            await connection.execute(f"DROP DATABASE {parts.path.lstrip('/')} WITH (FORCE)")
        finally:
            await connection.close()

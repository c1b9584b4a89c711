"""A real PostgreSQL, for contenders that keep their catalog there: one server, and a database for each target."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ingest.catalog import schema


def url_of(server: str, target: Path) -> str:
    """The ``DATABASE_URL`` of a run into `target`, on the server at `server`."""
    return urlunsplit(urlsplit(server)._replace(scheme="postgresql+asyncpg", path=f"/{_name(target)}"))


async def make(server: str, target: Path, like: Path | None = None) -> None:
    """Makes the database of `target` anew: a copy of that of `like`, or an empty catalog."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_name(target)} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {_name(target)}" + (f" TEMPLATE {_name(like)}" if like else ""))
        await connection.execute("CHECKPOINT")  # nothing of it is to be written in somebody's time
    finally:
        await connection.close()
    if like is None:
        await schema.upgrade(url_of(server, target))


async def drop(server: str, target: Path) -> None:
    """Removes the database of `target`, if there is one."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_name(target)} WITH (FORCE)")
    finally:
        await connection.close()


def _name(target: Path) -> str:
    return "bench_" + re.sub(r"[^a-z0-9]", "_", target.name.lower())

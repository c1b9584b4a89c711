"""A real PostgreSQL, for contenders that keep their catalog there: one server, and a database for each target."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ingest.catalog.schema import schema

_OTHERS = r"SELECT datname FROM pg_database WHERE datname LIKE 'bench\_%' AND datname NOT LIKE 'bench\_known\_%'"
"""What is known before a run is kept: several runs begin with it."""


def url_of(server: str, target: Path) -> str:
    """The ``DATABASE_URL`` of a run into `target`, on the server at `server`."""
    return urlunsplit(urlsplit(server)._replace(scheme="postgresql+asyncpg", path=f"/{_name(target)}"))


async def make(server: str, target: Path, like: Path | None = None) -> None:
    """Makes the database of `target` anew: a copy of that of `like`, or an empty catalog. Those of other runs go."""
    connection = await asyncpg.connect(server)
    try:
        for name in await connection.fetch(_OTHERS):
            await connection.execute(f"DROP DATABASE {name[0]} WITH (FORCE)")
        await connection.execute(f"DROP DATABASE IF EXISTS {_name(target)} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {_name(target)}" + (f" TEMPLATE {_name(like)}" if like else ""))
        await connection.execute("CHECKPOINT")  # nothing of it is to be written in somebody's time
    finally:
        await connection.close()
    if like is None:
        await schema.upgrade(url_of(server, target))


def _name(target: Path) -> str:
    return "bench_" + re.sub(r"[^a-z0-9]", "_", target.name.lower())

"""Writes what the migrations end in on SQLite, as one script (`make docs` runs it).

A new SQLite catalog is made by that script in a few milliseconds; importing alembic and running every migration would
take longer than many a run. A test holds the two equal.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

from ingest.catalog.schema import schema


def dump(file: Path) -> str:
    """The statements that make an empty database like this one."""
    with sqlite3.connect(file) as connection:
        made = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
        statements = [str(row[0]) for row in made]
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')")
    tidy = ("\n".join(line.rstrip() for line in sql.strip().expandtabs().splitlines()) for sql in statements)
    return ";\n\n".join(tidy) + ";\n"


async def migrated() -> str:
    """The script, from a database that went through every migration."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "catalog.db"
        await schema.upgrade(f"sqlite+aiosqlite:///{file}")
        return dump(file)


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(migrated()))

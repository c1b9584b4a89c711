"""One history for both engines: up, down, and equal to the tables that the code uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from ingest.catalog import schema, snapshot
from ingest.catalog.engine import create_engine
from ingest.catalog.tables import metadata
from ingest.errors import SchemaAhead, SchemaMissing


async def test_up_and_down(database_url: str) -> None:
    await schema.upgrade(database_url)
    assert await schema.current(database_url) == schema.revisions()[-1]
    await schema.downgrade(database_url, "base")
    assert await schema.current(database_url) is None
    await schema.upgrade(database_url)
    assert await schema.current(database_url) == schema.revisions()[-1]


async def test_the_migrations_end_in_the_tables(database_url: str) -> None:
    await schema.upgrade(database_url)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    engine = create_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_new_sqlite_file_is_what_the_migrations_end_in(tmp_path: Path) -> None:
    assert schema.SNAPSHOT.read_text(encoding="utf-8") == await snapshot.migrated()
    file = tmp_path / "catalog.db"
    await schema.ensure(f"sqlite+aiosqlite:///{file}")
    assert snapshot.dump(file) == await snapshot.migrated()


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    await schema.upgrade(database_url)
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(SchemaAhead):
        await schema.ensure(database_url)


async def test_postgresql_is_never_migrated_by_itself(postgres_url: str) -> None:
    with pytest.raises(SchemaMissing, match="missing") as raised:
        await schema.ensure(postgres_url)
    assert "ingest db upgrade" in raised.value.hint

"""One history for both engines: up, down, and equal to the tables that the code uses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema, snapshot
from ingest.catalog.schema.engine import create_engine
from ingest.catalog.schema.tables import metadata, sources
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.url import Target
from ingest.errors import SchemaAhead, SchemaMissing
from ingest.model import Audit
from tests.fixtures.catalogs import opened_once, writing


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
    await opened_once(f"sqlite+aiosqlite:///{file}")
    assert snapshot.dump(file) == await snapshot.migrated()


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    await schema.upgrade(database_url)
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(SchemaAhead):
        await opened_once(database_url)


async def test_postgresql_is_never_migrated_by_itself(postgres_url: str) -> None:
    with pytest.raises(SchemaMissing, match="missing") as raised:
        await opened_once(postgres_url)
    assert "ingest db upgrade" in raised.value.hint


async def test_versions_are_named_in_a_catalog_that_has_objects(database_url: str) -> None:
    """What was recorded without an etag that names it is known again, and so is what was in line for delivery."""
    await schema.upgrade(database_url)
    await schema.downgrade(database_url, "0005")
    md5 = "5d41402abc4b2a76b9719d911017c592"
    etags = {"empty": "", "md5": md5, "parts": f"{md5}-12", "other": "opaque"}
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'e', 'b')"))
        for key, etag in etags.items():
            row = {"key": key, "etag": etag}
            await connection.execute(
                text(
                    "INSERT INTO objects (source_id, key, size, etag, last_modified, source_s3_path, state, announced_etag) "
                    "VALUES (1, :key, 5, :etag, '2026-11-24 07:10:18.123000+00:00', 's3://b/k', 'pruned', :etag)"
                ),
                row,
            )
            await connection.execute(
                text(
                    "INSERT INTO deliveries (source_id, key, etag, target, state) VALUES (1, :key, :etag, 't', 'pending')"
                ),
                row,
            )
    await schema.upgrade(database_url)
    names = "SELECT o.key, o.version, o.announced_etag, d.etag FROM objects o JOIN deliveries d ON d.key = o.key"
    async with engine.connect() as connection:
        found = {row[0]: tuple(row[1:]) for row in await connection.execute(text(names))}
    stamp = "@2026-11-24T07:10:18Z"
    assert found == {
        "empty": (stamp, stamp, stamp),
        "md5": (None, md5, md5),
        "parts": (None, f"{md5}-12", f"{md5}-12"),
        "other": (f"opaque{stamp}", f"opaque{stamp}", f"opaque{stamp}"),
    }
    await schema.downgrade(database_url, "0005")
    async with engine.connect() as connection:
        found = {row[0]: (row[1], row[2]) for row in await connection.execute(
            text("SELECT o.key, o.announced_etag, d.etag FROM objects o JOIN deliveries d ON d.key = o.key")
        )}  # fmt: skip
    await engine.dispose()
    assert found == {key: (etag, etag) for key, etag in etags.items()}


async def test_the_newest_run_is_believed_and_old_plans_are_not(database_url: str) -> None:
    await schema.upgrade(database_url)
    await schema.downgrade(database_url, "0011")
    engine = create_engine(database_url)
    run = "INSERT INTO runs (id, source_id, command, arguments, host, pid, started_at, heartbeat_at, status, counts) "
    times = ("2026-11-20 02:00:00.000000+00:00", "2026-11-24 02:00:00.000000+00:00")
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'e', 'b'), (2, 'e', 'c')"))
        for number, at in enumerate(times, 1):
            await connection.execute(
                text(f"{run} VALUES ({number}, 1, 'sync', '{{}}', 'h', 1, '2026-11-01', '{at}', 'ok', '{{}}')")
            )
        shard = (
            "INSERT INTO shards (run_id, prefix, level, start_after, cursor, done) VALUES (1, '', false, '', '', false)"
        )
        await connection.execute(text(shard))
    await schema.upgrade(database_url)
    async with engine.connect() as connection:
        found = [*await connection.execute(select(sources.c.clock_at).order_by(sources.c.id))]
        assert [row.clock_at for row in found] == [datetime(2026, 11, 24, 2, tzinfo=UTC), None]
        assert (await connection.execute(text("SELECT count(*) FROM shards"))).scalar_one() == 0
    await engine.dispose()


async def test_what_was_wrongly_given_up_is_put_back_in_line(database_url: str) -> None:
    """Only where its version is recorded and no address has had it; and a version that took another one's place."""
    await schema.upgrade(database_url)
    await schema.downgrade(database_url, "0012")
    superseded, missing = (
        "superseded: the object changed before it was delivered",
        "its copy is missing or damaged, and",
    )
    told: list[
        tuple[str, str, str, list[tuple[str, str, str, str | None]]]
    ] = [  # key, the recorded version, its state; etag, target, state and last error of each delivery
        ("came back", "a", "present", [("a", "t", "dead", superseded), ("b", "t", "dead", superseded)]),
        ("was being replaced", "a", "present", [("a", "t", "dead", missing)]),
        ("given up", "a", "present", [("a", "t", "dead", "given up after 30 attempts")]),
        ("lost", "a", "pruned", [("a", "t", "dead", missing)]),
        ("had elsewhere", "a", "present", [("a", "t", "dead", superseded), ("a", "u", "delivered", None)]),
        ("never in line", "b", "pruned", [("a", "t", "dead", superseded)]),
        ("delivered", "b", "present", [("a", "t", "dead", superseded), ("b", "t", "delivered", None)]),
    ]
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'e', 'b')"))
        for key, version, state, rows in told:
            await connection.execute(
                text(
                    "INSERT INTO objects (source_id, key, size, etag, last_modified, source_s3_path, state) "
                    "VALUES (1, :key, 5, :etag, '2026-11-24 07:10:18.123000+00:00', 's3://b/k', :state)"
                ),
                {"key": key, "etag": version, "state": state},
            )
            for etag, target, became, error in rows:
                await connection.execute(
                    text(
                        "INSERT INTO deliveries (source_id, key, etag, target, state, last_error, next_attempt_at, fields)"
                        " VALUES (1, :key, :etag, :target, :state, :error, '2026-11-24 07:10:18.123000+00:00', '{}')"
                    ),
                    {"key": key, "etag": etag, "target": target, "state": became, "error": error},
                )
    await schema.upgrade(database_url)
    pending = "SELECT key, etag FROM deliveries WHERE state = 'pending' AND next_attempt_at IS NOT NULL ORDER BY key"
    for _ in range(2):
        async with engine.connect() as connection:
            found = [tuple(row) for row in await connection.execute(text(pending))]
        assert found == [("came back", "a"), ("never in line", "b"), ("was being replaced", "a")]
        await schema.downgrade(database_url, "0012")
        await schema.upgrade(database_url)
    await engine.dispose()


async def test_the_trail_outlives_its_runs_from_an_earlier_catalog(database_url: str) -> None:
    """Its chain holds before and after, and an event may be of a run that is no longer on record."""
    await schema.upgrade(database_url)
    await schema.downgrade(database_url, "0013")
    engine = create_engine(database_url)
    run = "INSERT INTO runs (id, source_id, command, arguments, host, pid, started_at, heartbeat_at, status, counts) "
    audits = [Audit("downloaded", key, {}) for key in ("a", "b")]
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'e', 'b')"))
        moment = "'2026-11-24 07:10:18.000000+00:00'"
        await connection.execute(text(f"{run} VALUES (1, 1, 'sync', '{{}}', 'h', 1, {moment}, {moment}, 'ok', '{{}}')"))
    async with open_driver(Target.of(database_url)) as driver:
        await driver.write(audit.appending(1, 1, datetime(2026, 11, 24, tzinfo=UTC), audits))
    for to in (schema.upgrade, lambda url: schema.downgrade(url, "0013"), schema.upgrade):
        await to(database_url)
    async with Catalog.open(database_url) as catalog:
        await schema.require_sound(catalog.driver, "it")
        assert await audit.broken_links(catalog.driver) == []
        async with writing(catalog) as connection:
            await connection.execute(text("DELETE FROM runs"))
        assert await audit.broken_links(catalog.driver) == []
    await schema.downgrade(database_url, "0013")  # also where runs have gone
    await engine.dispose()

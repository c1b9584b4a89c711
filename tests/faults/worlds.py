"""A world in which every command has something to do, put back to its beginning in milliseconds, and what is in it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
from sqlalchemy import update

from ingest.catalog import deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow
from ingest.catalog.schema.tables import metadata, objects
from ingest.demo.verify_service import VerifyService
from ingest.model import LetterState
from ingest.settings import Settings
from ingest.store.paths import decode_path
from ingest.testing.memory_s3 import MemoryS3, Stored
from tests.faults.databases import Template, copy_of, sqlite_file
from tests.fixtures.catalogs import source_of, writing
from tests.fixtures.events import plain
from tests.fixtures.forks import Forked, ForkServer
from tests.fixtures.process import environment

T = TypeVar("T")
ELSEWHERE = "http://127.0.0.1:9/v1/verify"
"""An earlier address of the service, where nobody is."""
PRUNED = ("p-pruned", "p-pruned-moves")
FIRST = (
    "b-changed", "c-damaged", "d-due", "d-due-back", "d-due-lost", "d-due-moves", "e-gone", "f-goes", "h-held", "k-same", "m-missing",
    "q-rejected", "r-returns", "s-moves", "u-elsewhere", "u-elsewhere-moves",
)  # fmt: skip
"""Keys whose copies are there in the beginning, in their first version."""
DUE = ("d-due", "d-due-back", "d-due-lost", "d-due-moves")
SENT_ELSEWHERE = ("u-elsewhere", "u-elsewhere-moves")


def body(key: str, version: int) -> bytes:
    return f"{key} in version {version}{'.' * version}".encode()


class Fact(NamedTuple):
    """All that is known of one key."""

    row: tuple[Any, ...] = ()
    file: str = ""
    deliveries: tuple[tuple[str, ...], ...] = ()
    """Etag, address, state, and whether somebody has claimed it."""
    received: tuple[tuple[str, str], ...] = ()
    """The etag that was said of it, and the MD5 of the bytes."""
    trail: tuple[str, ...] = ()


Facts = dict[str, Fact]

_ROWS = (
    "SELECT key, state, etag, hold, gone_at IS NOT NULL, pruned_at IS NOT NULL, "
    "coalesce(last_error LIKE 'damaged:%' OR last_error LIKE 'missing:%', false), digest "
    "FROM objects ORDER BY key"
)
_DELIVERIES = "SELECT key, etag, target, state, claimed_by IS NOT NULL FROM deliveries ORDER BY key, etag, target"
_TRAIL = "SELECT key, what FROM events ORDER BY id"
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND pid <> pg_backend_pid()"
)


@dataclass
class World:
    """One bucket, one service, one catalog and one data directory, which are put back by `begin`."""

    server: MemoryS3
    service: VerifyService
    forks: ForkServer
    home: Path
    empty: Template
    runner: asyncio.Runner
    url: str = ""
    _rows: dict[str, list[asyncpg.Record]] = field(default_factory=dict)
    _connection: asyncpg.Connection | None = None
    _objects: dict[str, Stored] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.home / "work"

    @property
    def variables(self) -> dict[str, str]:
        own = {"DATABASE_URL": self.url, "VERIFY_URL": self.service.url, "XDG_STATE_HOME": str(self.work / "state")}
        return self.server.bucket.variables(self.work / "data") | own

    @property
    def settings(self) -> Settings:
        return self.server.bucket.settings(self.work / "data", database_url=self.url)

    @property
    def is_sqlite(self) -> bool:
        return self.empty.url.startswith("sqlite")

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # Commands.

    def start(self, command: Sequence[str], **armed: str) -> Forked:
        return self.forks.start([*command, "-q"], environment(self.variables | armed), cwd=self.work)

    def run(self, *command: str, **armed: str) -> Forked:
        """The command, ended."""
        started = self.start(command, **armed)
        started.end()
        return started

    def must(self, *command: str, **armed: str) -> None:
        done = self.run(*command, **armed)
        assert done.code == 0, (command, done.code, done.said)

    def waits(self, child: Forked, *, for_rows: bool) -> bool:
        """Whether it waits for what another process holds: the copies or, where that is in a transaction, rows."""
        return child.passed[-1:] == ["copies.waiting"] or (for_rows and self.query(_WAITING) != [(0,)])

    # The beginning.

    def build(self) -> None:
        """Makes the beginning, once."""
        self.work.mkdir(parents=True)
        self.url = self.wait(copy_of(self.empty, self.home / "work.db"))
        self.server.page = 4
        for key in PRUNED:
            self.server.put(key, body(key, 1))
        self.must("sync", "--deliver")
        self.must("deliver")
        self.must("cleanup", "--older-than", "0d")
        for key in FIRST:
            if key not in DUE and key not in SENT_ELSEWHERE:
                self.server.put(key, body(key, 1))
        self.service.rejects = {"q-rejected": 422}
        self.must("sync", "--deliver")
        assert self.run("deliver").code == 3
        for key in SENT_ELSEWHERE:
            self.server.put(key, body(key, 1))
        self.must("sync", "--deliver", VERIFY_URL=ELSEWHERE)
        for key in DUE:
            self.server.put(key, body(key, 1))
        del self.server.objects["r-returns"]
        self.must("sync", "--deliver")
        self.must("hold", "add", "h-held", "--reason", "audit")
        self.wait(self._keep_a_letter())
        self.wait(self._age())
        self.server.put("b-changed", body("b-changed", 2))
        self.server.put("d-due-back", body("d-due-back", 2))
        self.server.put("n-new", body("n-new", 1))
        self.server.put("o-letter", body("o-letter", 1))
        del self.server.objects["e-gone"]
        self._objects = dict(self.server.objects)
        copies = self.work / "data" / "statements"
        (copies / "c-damaged").write_bytes(b"damaged")
        for lost in ("m-missing", "d-due-lost"):
            (copies / lost).unlink()
        for left in [*self.work.glob("*.output"), *self.work.glob("*.trace")]:
            left.unlink()
        shutil.copytree(self.work, self.home / "beginning", symlinks=True)
        if self.is_sqlite:
            shutil.copy(self.home / "work.db", self.home / "beginning.db")
        else:
            self._rows = self.wait(self._read_tables())

    async def _age(self) -> None:
        """Every copy has been here for 40 days; one that comes now is none that a cleanup would take."""
        async with Catalog.open(self.url) as catalog, writing(catalog) as connection:
            await connection.execute(update(objects).values(downloaded_at=datetime.now(UTC) - timedelta(days=40)))

    async def _keep_a_letter(self) -> None:
        key, value, headers = plain("o-letter", self.server.bucket.name)
        now = datetime.now(UTC)
        letter = LetterRow(
            "events", 0, 7, key, value, tuple(headers), LetterState.DEAD.value, "no_such_key",
            ({"at": now.isoformat(), "error": "no_such_key", "message": "it is not there"},), now, None, "o-letter", None,
        )  # fmt: skip
        async with Catalog.open(self.url) as catalog:
            source = await source_of(catalog, self.settings.endpoint, self.settings.bucket)
            await deadletters.put(catalog, source.id, [letter], [])

    def begin(self) -> None:
        """Everything as it was in the beginning."""
        self.forks.kill_all()
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.home / "beginning", self.work, symlinks=True)
        if self.is_sqlite:
            for left in self.home.glob("work.db*"):
                left.unlink()
            shutil.copy(self.home / "beginning.db", self.home / "work.db")
        else:
            self.wait(self._fill_tables())
        self.server.objects.clear()
        self.server.objects.update(self._objects)
        self.server.asked.clear()
        self.service.received.clear()

    async def _read_tables(self) -> dict[str, list[asyncpg.Record]]:
        connection = await self._connected()
        return {table.name: await connection.fetch(f'SELECT * FROM "{table.name}"') for table in metadata.sorted_tables}

    async def _fill_tables(self) -> None:
        """Quicker than a new database each time."""
        connection = await self._connected()
        async with connection.transaction():
            names = ", ".join(f'"{name}"' for name in self._rows)
            await connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            for name, rows in self._rows.items():
                await connection.copy_records_to_table(name, records=rows)
                if rows and "id" in rows[0] and isinstance(rows[0]["id"], int):
                    last = max(row["id"] for row in rows)
                    await connection.execute(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {last})")

    async def _connected(self) -> asyncpg.Connection:
        """One connection for all questions: another one takes longer than most of them."""
        if self._connection is None:
            self._connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        return self._connection

    def close(self) -> None:
        """Ends what is under way, and the connection."""
        self.forks.kill_all()
        if self._connection is not None:
            self.wait(self._connection.close())

    def move(self) -> None:
        """What others do to the bucket: new versions, a version that comes back, objects that go, come, return."""
        for key in ("d-due-moves", "p-pruned-moves", "s-moves", "u-elsewhere-moves"):
            self.server.put(key, body(key, 2))
        self.server.put("d-due-back", body("d-due-back", 1))
        self.server.put("r-returns", body("r-returns", 1))
        self.server.put("z-comes", body("z-comes", 1))
        del self.server.objects["f-goes"]

    # What is.

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if (file := sqlite_file(self.url)) is not None:
            connection = sqlite3.connect(file)
            try:
                return connection.execute(sql).fetchall()
            finally:
                connection.close()

        async def ask() -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await (await self._connected()).fetch(sql)]

        return self.wait(ask())

    def facts(self) -> Facts:
        """What is there now, by key; under an empty one what concerns them all."""
        copies = self.work / "data" / "statements"
        rows = {row[0]: (*row[1:3], *map(bool, row[3:7]), row[7]) for row in self.query(_ROWS)}
        files = {
            decode_path(path.relative_to(copies).as_posix()) or "": md5(path.read_bytes()).hexdigest()
            for path in copies.rglob("*")
            if path.is_file()
        }
        deliveries, trail, received = defaultdict(list), defaultdict(list), defaultdict(list)
        for key, etag, target, state, claimed in self.query(_DELIVERIES):
            where = "there" if target == ELSEWHERE else "here"
            deliveries[key].append((etag, where, state, "claimed" if claimed else "free"))
        for key, what in self.query(_TRAIL):
            trail[key].append(what)
        for taken in self.service.received:
            received[taken.key].append((taken.fields["etag"], self.bodies[taken.sha256]))
        return {
            key: Fact(
                rows.get(key, ()), files.get(key, ""), tuple(deliveries[key]), tuple(sorted(received[key])),
                tuple(trail[key]),
            )
            for key in sorted({*rows, *files, *deliveries, *received, *trail})
        }  # fmt: skip

    @property
    def bodies(self) -> dict[str, str]:
        """The MD5 of every body that there ever was, by its SHA-256."""
        known = (one for versions in self.server.versions.values() for one in versions)
        return {sha256(one).hexdigest(): md5(one).hexdigest() for one in known}

"""What only asks, where nothing can be written: a disk that is read-only, a user who may only read, another server."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from ingest.catalog import audit
from ingest.catalog.schema import schema
from ingest.catalog.sql.readonly import ReadOnlyDriver
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseError
from tests.faults.mortal import Mortal
from tests.faults.rig import MODIFIED, Rig, rigged, variables_of
from tests.fixtures.process import run_ingest

QUESTIONS = (
    *("status", "runs", "runs show 1", "history letter.pdf", "hold list", "deadletters list", "source list"),
    *("config", "db current", "db check", "ls"),
)
ASKS = """
import contextlib, io, sys
from ingest.cli import main
for line in sys.argv[1:]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main(line.split() + ["--json"])
    except SystemExit as end:
        print(f"{line}={end.code or 0}", "4711" in said.getvalue())
"""
READ_ONLY = 'mount --bind . . && mount -o remount,ro,bind . && cd . && exec "$@"'


async def answers(rig: Rig, under: Sequence[str], **variables: str) -> tuple[dict[str, int], str]:
    """With which code each of the questions ends, all asked in one process, and what they said beside it."""
    given = variables_of(rig.settings) | variables
    done = await run_ingest(*QUESTIONS, variables=given, cwd=rig.home, program=("-c", ASKS), under=under)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line.rpartition(" ")[0].rpartition("=") for line in done.stdout.splitlines()]
    found = {question: int(code) for question, _, code in lines}
    assert len(found) == len(QUESTIONS), done.stdout
    return found, done.stderr + done.stdout


@pytest.fixture
def read_only() -> Sequence[str]:
    """A command under which the directory that it is in, and all below, is on a disk that is mounted read-only."""
    command = ("unshare", "-m", "sh", "-c", READ_ONLY, "sh")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False, cwd="/tmp").returncode:
        pytest.skip("only who may mount can make a disk read-only")
    return command


@pytest.fixture
def home() -> Iterator[Path]:
    """Where others may enter: pytest's own directories keep them out, and so would they all that lies below."""
    with tempfile.TemporaryDirectory(prefix="ingest-tests-") as place:
        os.chmod(place, 0o755)
        yield Path(place)


ALL_ANSWERED = dict.fromkeys(QUESTIONS, 0)


@pytest.fixture(params=["a log with its index", "a log without its index", "an empty log", "no log"])
async def left(request: pytest.FixtureRequest, home: Path, swift: None) -> AsyncIterator[Rig]:
    """A first night, and what lies beside the catalog after it."""
    async with rigged(home, "") as rig:
        await rig.run(0)
        await rig.run(0)
        file = rig.settings.own_dir / "catalog.db"
        log, index = (file.with_name(f"catalog.db{suffix}") for suffix in ("-wal", "-shm"))
        if request.param == "an empty log":
            log.touch()
        elif request.param != "no log":
            writer = sqlite3.connect(file)
            writer.execute("UPDATE objects SET size = 4711 WHERE key = 'letter.pdf'")
            writer.commit()
            kept = [(path, path.read_bytes()) for path in (file, log, index)]
            writer.close()
            for path, content in kept:
                path.write_bytes(content)
            assert log.stat().st_size
            (home / "logged").touch()  # what the log holds is an answer, too
            if request.param == "a log without its index":
                index.unlink()
        yield rig


async def test_a_disk_that_is_read_only(left: Rig, read_only: Sequence[str]) -> None:
    found, said = await answers(left, read_only)
    assert found == ALL_ANSWERED, said
    assert ("history letter.pdf=0 True" in said) is (left.home / "logged").exists()


async def test_a_user_who_may_only_read(left: Rig, as_reader: Sequence[str]) -> None:
    before = sorted(path.name for path in left.settings.own_dir.iterdir())
    found, said = await answers(left, as_reader)
    assert found == ALL_ANSWERED, said
    assert ("history letter.pdf=0 True" in said) is (left.home / "logged").exists()
    assert sorted(path.name for path in left.settings.own_dir.iterdir()) == before


async def test_a_question_is_asked_again_when_somebody_has_written_meanwhile(left: Rig) -> None:
    """Where it is opened as one that nobody changes, that holds only as long as it is true."""
    target = Target.of(left.settings.database_url.get_secret_value(), read_only=True)
    question = "SELECT size FROM objects WHERE key = 'index.txt'"
    async with ReadOnlyDriver.open(target) as driver:
        assert await driver.fetch(question) == [(30,)]
        alone = "immutable" in driver._address
        writer = sqlite3.connect(target.file)
        writer.execute("UPDATE objects SET size = 31 WHERE key = 'index.txt'")
        writer.commit()
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        writer.close()
        assert await driver.fetch(question) == [
            (31 if alone or driver._address.startswith(f"file:{target.file}") else 30,)
        ]
        with pytest.raises(DatabaseError, match="can only be read"):
            await driver.write(audit.appending(1, 1, MODIFIED, []))


async def test_a_role_that_may_only_select(
    tmp_path: Path, emptied_postgres: str, postgres_uri: str, swift: None
) -> None:
    async with rigged(tmp_path, emptied_postgres) as rig:
        await rig.run(0)
        administrator = await asyncpg.connect(postgres_uri)
        try:
            await administrator.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN")
            await administrator.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
            as_reader = emptied_postgres.replace("//postgres:", "//reader:")
            assert as_reader != emptied_postgres
            found, said = await answers(rig, (), DATABASE_URL=as_reader)
            assert found == ALL_ANSWERED, said
        finally:
            await administrator.execute("DROP OWNED BY reader; DROP ROLE reader")
            await administrator.close()


@pytest.fixture
def leading() -> Iterator[Mortal]:
    """Not below pytest's own directory: of root's tests another run, when it begins, keeps the server's user out."""
    with tempfile.TemporaryDirectory(prefix="ingest-tests-", ignore_cleanup_errors=True) as place:
        server = Mortal(Path(place) / "leading")
        yield server
        server.stop()


async def test_a_server_that_follows_another(tmp_path: Path, leading: Mortal, swift: None) -> None:
    """A hot standby: it lets nobody write, and has everything that is asked for."""
    await schema.upgrade(leading.url)
    async with rigged(tmp_path, leading.url) as rig:
        await rig.run(0)
        leading.become_standby()
        for url in (leading.url, f"{leading.url}&target_session_attrs=read-write"):
            found, said = await answers(rig, (), DATABASE_URL=url)
            assert found == ALL_ANSWERED, said
        refused = await rig.cli("sync", DATABASE_URL=leading.url)
        assert refused.exit_code == 6, refused.stderr

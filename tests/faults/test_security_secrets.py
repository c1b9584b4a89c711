"""Canary secrets through every failure at debug level: they are in no output, no database and no process list."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text

from ingest.catalog.schema.engine import create_engine
from ingest.settings import Settings
from ingest.source.bucket import Bucket as OpenBucket
from ingest.source.client import S3Client
from ingest.testing.raw_server import Script, Visit, raw_server
from tests.fixtures.databases import migrate
from tests.fixtures.process import ANEW, Done, run_ingest
from tests.fixtures.servers import Bucket

MARK = "c4n4ry"
PASSWORD = f"{MARK}/pass@word%"
SECRETS = {
    "S3_ACCESS_KEY": f"{MARK}ACCESSKEY",
    "S3_SECRET_KEY": f"{MARK}/secret+key",
    "S3_SESSION_TOKEN": f"{MARK}+session/token==",
}
REFUSED = "http://127.0.0.1:1"
DEFECTS = """
import sys
from ingest.cli import main
from ingest.jobs import show
async def status(settings):
    raise RuntimeError(f"a library quotes {settings.secret_key.get_secret_value()} and {settings.database_url.get_secret_value()}")
show.status = status
main()
"""


def variables(tmp_path: Path, endpoint: str = REFUSED, **more: str) -> dict[str, str]:
    base = {"S3_ENDPOINT": endpoint, "S3_BUCKET": "statements", "INGEST_DATA_DIR": str(tmp_path / "data")}
    return {**base, **SECRETS, **more}


def assert_clean(done: Done, tmp_path: Path) -> None:
    assert done.code not in (0, -9)
    assert MARK not in done.output
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "secret":
            assert MARK.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["sync", "--json"], {"S3_ENDPOINT": "https://127.0.0.1:1"}),
        (["check", "--json"], {}),
        (["status"], {"DATABASE_URL": f"postgresql://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/d"}),
        (["status"], {"DATABASE_URL": f"postgresql://127.0.0.1:1/d?user=u&password={MARK}"}),
        (["status"], {"DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/d"}),
        (["status"], {"DATABASE_URL": f"postgresql://u:{MARK}@127.0.0.1:port/d"}),
        (["status"], {"DATABASE_URL": f"mysql://u:{MARK}@127.0.0.1/d"}),
        (["status"], {"DATABASE_URL": "sqlite:////dev/null/x.db"}),
        (["status"], {"S3_SECURE": f"{MARK}"}),
        (["sync", "--no-such-flag"], {}),
    ],
)
async def test_without_a_server(tmp_path: Path, arguments: list[str], more: dict[str, str]) -> None:
    done = await run_ingest(*arguments, "-v", variables=variables(tmp_path) | more, cwd=tmp_path)
    assert_clean(done, tmp_path)


async def test_a_defect_that_quotes_secrets(tmp_path: Path) -> None:
    url = f"postgresql://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/d"
    given = variables(tmp_path, DATABASE_URL=url)
    done = await run_ingest("status", "-v", variables=given, cwd=tmp_path, program=("-c", DEFECTS))
    assert "a library quotes ***" in done.stderr  # the traceback is shown, without what it quoted
    assert done.code == 1
    assert_clean(done, tmp_path)


async def test_credentials_that_a_real_server_refuses(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    known = {"S3_ACCESS_KEY": weed.variables(tmp_path)["S3_ACCESS_KEY"], "S3_BUCKET": weed.name}
    for command, more in (("sync", {}), ("check", known)):
        given = variables(tmp_path, weed.endpoint) | more
        assert_clean(await run_ingest(command, "-v", variables=given, cwd=tmp_path), tmp_path)


async def _echo(visit: Visit) -> None:
    """Says everything that it was told: in the error's text, and in its headers."""
    said = visit.head.decode("latin-1").replace("\r\n", " ").replace("<", "").replace("&", "")
    body = f"<Error><Code>AccessDenied</Code><Message>{said[:150]} {said[-150:]}</Message></Error>".encode()
    keys = f"no such key {SECRETS['S3_ACCESS_KEY']}, {SECRETS['S3_SESSION_TOKEN']}, {SECRETS['S3_SECRET_KEY']}"
    if b"list-type" in visit.head:
        body = f"<Error><Code>AccessDenied</Code><Message>{keys}</Message></Error>".encode()
    await visit.answer(body, status="403 Forbidden", headers=f"X-Said: {keys}\r\n")


async def _html(visit: Visit) -> None:
    await visit.answer(b"<html>" + visit.head + b"</html>", status="500 Oops", headers="Content-Type: text/html\r\n")


async def _redirect(visit: Visit) -> None:
    token = quote(SECRETS["S3_SESSION_TOKEN"], safe="")
    await visit.answer(status="307 Go", headers=f"Location: http://127.0.0.1:1/?token={token}\r\n")


async def _hang_up(visit: Visit) -> None:
    visit.reset()


@pytest.mark.parametrize(
    ("script", "command"), [(_echo, "sync"), (_echo, "check"), (_html, "sync"), (_redirect, "check"), (_hang_up, "ls")]
)
async def test_servers_that_quote_what_they_were_sent(tmp_path: Path, script: Script, command: str) -> None:
    async with raw_server(script) as server:
        given = variables(tmp_path, f"http://127.0.0.1:{server.port}")
        assert_clean(await run_ingest(command, "-v", variables=given, cwd=tmp_path), tmp_path)
        assert any(MARK.encode() in head for head in server.heads)  # the canary did sing


async def test_the_error_that_a_run_records_holds_none(tmp_path: Path, postgres_url: str) -> None:
    await migrate(postgres_url)
    async with raw_server(_echo) as server:
        given = variables(tmp_path, f"http://127.0.0.1:{server.port}", DATABASE_URL=postgres_url)
        assert_clean(await run_ingest("sync", "-v", variables=given, cwd=tmp_path), tmp_path)
    engine = create_engine(postgres_url)
    async with engine.connect() as connection:
        recorded = (await connection.execute(text("SELECT runs::text FROM runs"))).scalars().all()
    await engine.dispose()
    assert len(recorded) == 1
    assert "***" in recorded[0]
    assert MARK not in recorded[0]


async def test_the_process_list_and_the_help_hold_none(tmp_path: Path) -> None:
    asked, seen = asyncio.Event(), asyncio.Event()

    async def stalls(visit: Visit) -> None:
        asked.set()
        await seen.wait()
        visit.reset()

    pids: list[int] = []
    async with raw_server(stalls) as server:
        given = variables(tmp_path, f"http://127.0.0.1:{server.port}", DATABASE_URL="")
        under_way = run_ingest("sync", "-v", variables=given, cwd=tmp_path, program=ANEW, told=pids.append)
        running = asyncio.create_task(under_way)
        await asyncio.wait_for(asked.wait(), 30)
        command_line = Path(f"/proc/{pids[0]}/cmdline").read_bytes()
        seen.set()
        await running
    assert b"sync" in command_line
    assert MARK.encode() not in command_line
    shown = await run_ingest("sync", "--help", variables=given, cwd=tmp_path)
    assert shown.code == 0
    assert MARK not in shown.output


async def test_no_repr_holds_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = variables(tmp_path, DATABASE_URL=f"postgresql://u:{quote(PASSWORD, safe='')}@127.0.0.1/d")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == SECRETS["S3_SECRET_KEY"]
    async with OpenBucket.open(settings.source, connections=1) as reader, S3Client(settings) as client:
        parts = [settings, reader, client, *vars(reader).values(), *vars(client).values(), create_engine(
            settings.database_url.get_secret_value()
        )]  # fmt: skip
        for part in parts:
            assert MARK not in repr(part), type(part)
            assert MARK not in str(part), type(part)
    assert {secret for secret in settings.secrets if MARK in secret} >= set(SECRETS.values()) | {PASSWORD}


async def test_secrets_from_files(tmp_path: Path) -> None:
    given = variables(tmp_path)
    for name in SECRETS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(given.pop(name))
        given[f"{name}_FILE"] = str(tmp_path / name / "secret")
    assert_clean(await run_ingest("sync", "-v", variables=given, cwd=tmp_path), tmp_path)

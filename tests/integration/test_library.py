"""`ingest` as a library: what another program imports, and a run with nothing but settings."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ingest
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.process import environment, run_ingest
from tests.fixtures.servers import Bucket

PROGRAM = """
import asyncio
from ingest import Selection, Settings, SyncOptions, sync

async def main() -> None:
    settings = Settings.load()
    report = await sync(settings)
    print(report.status, report.counts.downloaded)
    report = await sync(settings, SyncOptions(selection=Selection(prefixes=("k/1",)), dry_run=True))
    print(report.status, report.counts.listed, report.error)

asyncio.run(main())
"""


async def test_a_program_runs_a_sync(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(3)})
    variables = weed.variables(tmp_path / "data")
    done = await run_ingest(variables=variables, cwd=tmp_path, program=("-W", "error", "-c", PROGRAM))
    assert done.code == 0, done.stderr
    assert done.output.splitlines() == ["ok 3", "ok 1 None"]  # and not a word of its own
    assert (tmp_path / "data" / weed.name / "k" / "2").read_bytes() == b"x"


async def test_what_goes_wrong_is_in_the_report(weed: Bucket, tmp_path: Path) -> None:
    report = await ingest.sync(weed.settings(tmp_path, bucket="no-such-bucket"))
    assert (report.status, report.exit_code) == (ingest.RunStatus.FAILED, 4)
    assert report.error is not None
    assert report.error.hint


@pytest.mark.parametrize("name", ingest.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(ingest, name)
    assert getattr(found, "__module__", found.__name__).startswith("ingest.")
    assert vars(ingest)[name] is found  # and found at once from then on
    assert name in dir(ingest)
    assert found.__doc__


def test_type_checkers_see_the_same_names() -> None:
    assert ingest.__file__ is not None
    tree = ast.parse(Path(ingest.__file__).read_text(encoding="utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname  # what is named so is exported, to type checkers (PEP 484)
    }
    assert seen == ingest._HOMES
    assert list(seen) == [name for names in ingest._NAMES.values() for name in names.split()]


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nosuch'"):
        _ = ingest.nosuch  # type: ignore[attr-defined]  # that is what is tried
    with pytest.raises(ImportError):
        from ingest import nosuch  # type: ignore[attr-defined]  # noqa: F401


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, ingest; print([name for name in sys.modules if name.startswith('ingest.') or name == 'pydantic'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


TOKEN = "c4n4ry+session/token=="
TWO = """
import asyncio, logging, sys, traceback
import structlog
from ingest import S3Client, Settings, SyncOptions, sync

async def main() -> None:
    settings = Settings.load()
    other = settings.replace(secret_key="another-hush", session_token="another-token")
    async with S3Client(settings) as first:
        async with S3Client(other) as second:
            try:
                await second.list_buckets()
            except Exception:
                traceback.print_exc(file=sys.stdout)
        report = await sync(settings)
        print("report", report.error.message)
        try:
            raise report.error
        except Exception:
            traceback.print_exc(file=sys.stdout)
        try:
            await first.head("a")
        except Exception:
            traceback.print_exc(file=sys.stdout)
    print("context", structlog.contextvars.get_contextvars(), structlog.is_configured())
    print("level", logging.getLogger().level, logging.getLogger().handlers, logging.getLogger("botocore").level)

if len(sys.argv) > 1:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger("ingest").addHandler(handler)
    logging.getLogger("ingest").setLevel("DEBUG")
asyncio.run(main())
"""


@pytest.mark.parametrize("more", [(), ("logged",)])
async def test_nothing_is_shown_or_left_behind_and_secrets_stay_secret(tmp_path: Path, more: tuple[str, ...]) -> None:
    async def quotes(visit: Visit) -> None:
        text = f"{TOKEN} and another-token"
        body = f"<Error><Code>AccessDenied</Code><Message>no: {text}</Message></Error>".encode()
        await visit.answer(b"" if visit.head.startswith(b"HEAD") else body, status="403 Forbidden")

    async with raw_server(quotes) as server:
        bucket = Bucket(f"http://127.0.0.1:{server.port}", "statements")
        variables = bucket.variables(tmp_path / "data") | {"S3_SESSION_TOKEN": TOKEN}
        done = await run_ingest(*more, variables=variables, cwd=tmp_path, program=("-W", "error", "-c", TWO))
    assert done.code == 0, done.output
    assert done.stderr == ""
    assert "report listing statements/" in done.stdout
    assert "(no: *** and another-token)" in done.stdout  # who has one source's settings may see others' texts
    assert "c4n4ry" not in done.stdout
    assert "context {} False" in done.stdout
    assert "level 30 [] 0" in done.stdout
    assert ("event='run_started'" in done.stdout) == bool(more)
    catalog = (tmp_path / "data" / ".ingest" / "catalog.db").read_bytes()
    assert b"c4n4ry" not in catalog


RETRIES = """
import asyncio, tenacity
from ingest import IngestError, S3Client
from ingest.source import retries

async def main() -> None:
    retries.PAUSE = tenacity.wait_none()
    async with S3Client.from_settings() as client:
        try:
            await client.head("a")
        except IngestError as error:
            print(error.code)

asyncio.run(main())
"""


async def test_a_retry_is_no_reason_to_speak(tmp_path: Path) -> None:
    async with raw_server(lambda visit: visit.answer(status="500 Internal Server Error")) as server:
        variables = Bucket(f"http://127.0.0.1:{server.port}", "statements").variables(tmp_path)
        done = await run_ingest(variables=variables, cwd=tmp_path, program=("-W", "error", "-c", RETRIES))
        assert len(server.heads) > 1
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1

"""`ingest` as a library: what another program imports, and a run with nothing but settings."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

import ingest
from ingest.engine.options import require_choice
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


VERBS = [
    "sync",
    "backfill",
    "cleanup",
    "restore",
    "verify",
    "hold",
    "release",
    "deliver",
    "consume",
    "retry_letters",
    "discard_letters",
]


@pytest.mark.parametrize("name", VERBS)
def test_verbs_have_one_signature(name: str) -> None:
    asked = list(inspect.signature(getattr(ingest, name)).parameters.values())[:4]
    assert [(parameter.name, parameter.default) for parameter in asked] == [
        ("settings", inspect.Parameter.empty),
        ("options", None),
        ("progress", None),
        ("stop", None),
    ]
    assert [parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in asked] == [False, False, True, True]
    assert inspect.signature(getattr(ingest, name)).return_annotation == "RunReport"


async def test_every_verb_runs_with_settings_alone(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k/1": b"x"})
    settings = weed.settings(tmp_path / "data")
    for name in ("sync", "backfill", "cleanup", "verify"):
        report = await getattr(ingest, name)(settings)
        assert (report.status, report.error) == (ingest.RunStatus.OK, None)
        report.raise_for_status()
    for name, said in (
        ("restore", "one of the two"),
        ("hold", "one of the two"),
        ("release", "one of the two"),
        ("deliver", "VERIFY_URL"),
        ("consume", "KAFKA_BOOTSTRAP_SERVERS"),
        ("retry_letters", "ids"),
        ("discard_letters", "ids"),
    ):
        with pytest.raises(ingest.SettingsError, match=said):
            await getattr(ingest, name)(settings)


async def test_what_is_held_and_pruned_and_brought_back(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k/1": b"x", "k/2": b"y"})
    settings = weed.settings(tmp_path / "data")
    await ingest.sync(settings)
    with pytest.raises(ingest.SettingsError, match="reason"):
        await ingest.hold(settings, ingest.HoldOptions(keys=("k/1",)))
    assert (await ingest.hold(settings, ingest.HoldOptions(keys=("k/1",), reason="an audit"))).exit_code == 0
    (held,) = await ingest.holds(settings)
    assert (held.key, held.is_prefix, held.reason) == ("k/1", False, "an audit")
    assert (await ingest.cleanup(settings, ingest.CleanupOptions(older_than=timedelta(0)))).counts.pruned == 1
    assert (await ingest.release(settings, ingest.HoldOptions(keys=("k/1",)))).exit_code == 0
    assert await ingest.holds(settings) == []
    assert (await ingest.restore(settings, ingest.RestoreOptions(prefix=""))).counts.restored == 1
    missing = await ingest.restore(settings, ingest.RestoreOptions(keys=("nosuch",)))
    with pytest.raises(ingest.errors.RowNotFound):
        missing.raise_for_status()
    for verb in (ingest.retry_letters, ingest.discard_letters):
        assert (await verb(settings, ingest.LetterOptions(ids=None))).exit_code == 0
    for told in ({"reason": "not_json"}, {"older_than": timedelta(days=1)}, {"dry_run": True}):
        with pytest.raises(ingest.SettingsError, match="for discarding"):
            await ingest.retry_letters(settings, ingest.LetterOptions(None, **told))


async def test_questions_answer_what_their_types_say(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k/1": b"x"})
    settings = weed.settings(tmp_path / "data")
    await ingest.sync(settings)
    found = await ingest.status(settings)
    assert set(found) == set(get_type_hints(ingest.SourceStatus))
    (run,) = await ingest.runs(settings)
    assert (set(run), [run]) == (set(get_type_hints(ingest.RunRecord)), found["last_runs"])
    story = await ingest.history(settings, "k/1")
    assert set(story) == set(get_type_hints(ingest.History))
    assert story["object"]["state"] == "present"
    assert [remote.key async for remote in ingest.ls(settings)] == ["k/1"]
    assert [letter async for letter in ingest.letters(settings)] == []
    assert [step.number for step in await ingest.check(settings)] == [1, 2, 3, 4]
    with pytest.raises(ingest.errors.NoSuchBucket):
        await ingest.check(settings.replace(bucket="no-such-bucket"))


def test_a_report_raises_what_went_wrong() -> None:
    ingest.RunReport("sync").raise_for_status()
    partial = ingest.RunReport("sync", status=ingest.RunStatus.PARTIAL, counts=ingest.Counts(failed=2))
    with pytest.raises(ingest.PartialRun, match="2 objects failed") as caught:
        partial.raise_for_status()
    assert caught.value.report is partial
    assert caught.value.exit_code == 3
    again = pickle.loads(pickle.dumps(caught.value))  # as a pool of processes hands it over
    assert again.report == partial
    failed = ingest.RunReport("sync", status=ingest.RunStatus.FAILED, error=ingest.SourceError("it is away"))
    with pytest.raises(ingest.SourceError) as raised:
        failed.raise_for_status()
    assert raised.value is failed.error


@pytest.mark.parametrize("name", ["prefixes", "include", "exclude", "filter"])
def test_one_text_is_not_several(name: str) -> None:
    """Its letters would be."""
    with pytest.raises(TypeError, match=rf"{name} are several: say \('k/',\)"):
        ingest.Selection(**{name: "k/"})  # type: ignore[arg-type]  # that is what is tried
    for options in (ingest.RestoreOptions(keys="k/1"), ingest.HoldOptions(keys="k/1")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="say"):
            require_choice(options)


def test_a_window_has_a_time_zone() -> None:
    with pytest.raises(ingest.SettingsError, match="time zone"):
        ingest.Selection(since=datetime(2026, 1, 1))


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

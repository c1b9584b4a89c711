"""``ingest demo`` as a newcomer runs it: it keeps its word, touches nobody's catalog, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from ingest.demo.tour import tour
from ingest.errors import IngestError
from ingest.settings import Settings
from tests.fixtures.process import ended, run_ingest, started, until

DEADLINE_SECONDS = 60.0


def own(home: Path) -> dict[str, str]:
    """Whoever runs the demo may have settings for a real bucket and a real catalog."""
    return {
        "TMPDIR": str(home),
        "S3_BUCKET": "the-real-one",
        "S3_SESSION_TOKEN": "of-the-real-one",
        "INGEST_DATA_DIR": str(home / "real"),
        "DATABASE_URL": f"sqlite+aiosqlite:///{home}/real.db",
        "S3_SECRET_KEY": "without-the-other-half",
        "S3_SECURE": "perhaps",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


def demo(home: Path, *arguments: str) -> AbstractAsyncContextManager[Process]:
    return started("demo", "--objects", "8", *arguments, variables=own(home), cwd=home)


def processes(home: Path) -> list[str]:
    """Command lines of what still runs for a demo below `home`."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            working = line.with_name("cwd").readlink()
        except OSError:
            continue  # it has just ended
        if f"-dir={home}" in text or home in working.parents:
            found.append(text)
    return found


async def shown(process: Process, until: str) -> str:
    """What the demo printed, up to the line that holds `until`."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = []
    while line := (await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)).decode():
        lines.append(line)
        if until in line:
            return "".join(lines)
    raise AssertionError("".join(lines) + (await process.stderr.read()).decode())


async def test_the_tour_keeps_its_word_in_a_directory_and_touches_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("S3_REGION=elsewhere\nVERIFY_URL=https://verify.example.com/v1/verify\n")
    (tmp_path / ".env").chmod(0o600)
    kept = tmp_path / "kept"
    async with demo(tmp_path, "--dir", str(kept)) as first:
        done = await ended(first)
    assert done.code == 0, done.output
    for line in ("check", "sync", "cleanup --older-than 0s", "restore --prefix statements/2026/notes/", "status"):
        assert f"$ ingest {line}\n" in done.stdout
    assert "sync ok: 8 listed, 8 new, 8 downloaded" in done.stdout
    assert "each did what this tour says" in done.stdout
    for named in (kept, kept / "data" / "statements", kept / "data" / ".ingest" / "catalog.db"):
        assert str(named) in done.stdout
        assert named.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "kept"]
    assert processes(tmp_path) == []

    async with demo(tmp_path, "--dir", str(kept)) as second:
        done = await ended(second)
    assert done.code == 2
    assert "is not empty" in done.stderr


async def test_as_json_it_is_one_object_and_everything_temporary_is_removed(tmp_path: Path) -> None:
    async with demo(tmp_path, "--json") as process:
        done = await ended(process)
    assert done.code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["command"], document["status"], document["exit_code"]) == ("demo", "ok", 0)
    assert document["commands"][:2] == ["ingest check", "ingest sync"]
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
async def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path, number: signal.Signals, code: int) -> None:
    async with demo(tmp_path) as process:
        await shown(process, "$ ingest sync")
        assert processes(tmp_path)
        process.send_signal(number)
        assert (await ended(process)).code == code
    await until(lambda: processes(tmp_path) == [])
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


async def test_served_it_stays_up_for_the_lines_it_prints_until_it_is_stopped(tmp_path: Path) -> None:
    async with demo(tmp_path, "--serve") as process:
        lines = await shown(process, "INGEST_DATA_DIR=")
        settings = tmp_path / "printed.env"
        settings.write_text(lines)
        settings.chmod(0o600)
        clean = {name: value for name, value in own(tmp_path).items() if name not in environment_names(lines)}
        for other in ("S3_SESSION_TOKEN", "S3_SECURE", "HTTP_PROXY", "http_proxy"):
            del clean[other]
        done = await run_ingest("ls", "--env-file", str(settings), variables=clean, cwd=tmp_path)
        assert done.stdout.count(".pdf") == 8, done.stderr
        process.send_signal(signal.SIGINT)
        assert (await ended(process)).code == 0
        settings.unlink()
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


async def test_served_as_json_its_lines_are_the_one_object(tmp_path: Path) -> None:
    async with demo(tmp_path, "--serve", "--json") as process:
        (line,) = (await shown(process, "INGEST_DATA_DIR")).splitlines()
        document = json.loads(line)
        assert (document["command"], document["status"], document["exit_code"]) == ("demo", "ok", 0)
        assert document["settings"]["S3_BUCKET"] == "statements"
        process.send_signal(signal.SIGTERM)
        done = await ended(process)
    assert (done.code, done.stdout) == (0, "")


def environment_names(lines: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", lines, re.MULTILINE))


async def test_a_step_that_does_something_else_fails_the_tour(tmp_path: Path) -> None:
    async def one_short(_settings: Settings) -> Mapping[str, Any]:
        return {"command": "sync", "counts": {"listed": 8, "new": 8, "downloaded": 7}}

    printed: list[str] = []
    with pytest.raises(IngestError, match=r"`ingest sync` did .*'downloaded': 7.* and not .*'downloaded': 8"):
        await tour(tmp_path, 8, printed.append, one_short)
    assert "$ ingest cleanup" not in "".join(printed)
    assert processes(tmp_path) == []

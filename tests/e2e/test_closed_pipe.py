"""What reads the output may end first (`| head`): that is no defect, and a run that stops for it is recorded."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.catalog import deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow
from tests.fixtures.catalogs import source_of
from tests.fixtures.process import ANEW, Done, ended, environment, run_ingest, started
from tests.fixtures.servers import Bucket

READING = [
    ("ls",),
    ("ls", "--json"),
    ("check",),
    ("status",),
    ("runs",),
    ("history", "k/1"),
    ("hold", "list"),
    ("deadletters", "list"),
    ("db", "current"),
]


async def test_an_output_that_cannot_be_written_is_no_defect(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for command in (("runs",), ("ls", "--json"), ("sync", "--dry-run"), ("sync",)):
            variables = weed.variables(tmp_path / "data")
            async with started(*command, "-q", variables=variables, cwd=tmp_path, program=ANEW, stdout=full) as process:
                done = await ended(process)
            quiet = command == ("sync",)  # it has nothing to say
            assert (done.code, "No space left on device" in done.stderr) == ((0, False) if quiet else (5, True)), (
                command
            )
            assert "defect" not in done.stderr
    finally:
        os.close(full)


async def test_a_process_without_an_output_works(weed: Bucket, tmp_path: Path) -> None:
    """Its first files must not take the numbers of what is closed."""
    await weed.put({"k": b"x"})
    command = f"exec {sys.executable} -m ingest sync -q <&- >&- 2>&-"
    process = await asyncio.create_subprocess_shell(
        command, env=environment(weed.variables(tmp_path / "data")), cwd=tmp_path
    )
    assert await process.wait() == 0
    assert (tmp_path / "data" / weed.name / "k").read_bytes() == b"x"


async def unread(*arguments: str, variables: Mapping[str, str], cwd: Path, both: bool = False) -> Done:
    """The command with a reader that is gone already: of its output, or of its messages as well."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        stderr = writer if both else PIPE
        async with started(
            *arguments, variables=variables, cwd=cwd, program=ANEW, stdout=writer, stderr=stderr
        ) as process:
            return await ended(process)
    finally:
        os.close(writer)


async def test_reading_commands_end_quietly(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(3)})
    variables = weed.variables(tmp_path / "data")
    assert (await run_ingest("sync", "-q", variables=variables, cwd=tmp_path)).code == 0
    for command in READING:
        done = await unread(*command, variables=variables, cwd=tmp_path)
        assert (done.code, done.stderr) == (141, ""), command


@pytest.mark.parametrize("flags", [(), ("--json",)])
async def test_a_list_that_is_read_for_a_while_ends_quietly(
    weed: Bucket, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """More letters than a pipe holds: their reader goes when some of them are written, and others are not."""
    variables, settings = weed.variables(tmp_path / "data"), weed.settings(tmp_path / "data")
    assert (await run_ingest("sync", "-q", variables=variables, cwd=tmp_path)).code == 0
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        said = (None, b"x" * 100, (), "dead", "not_json", (), datetime.now(UTC))
        await deadletters.put(catalog, source.id, [LetterRow("t", 0, number, *said) for number in range(2_000)])
    reader, writer = os.pipe()
    async with started(
        "deadletters", "list", *flags, variables=variables, cwd=tmp_path, program=ANEW, stdout=writer
    ) as process:
        os.close(writer)
        assert await asyncio.to_thread(os.read, reader, 1)
        os.close(reader)
        done = await ended(process)
    assert (done.code, done.stderr) == (141, "")


@pytest.mark.parametrize("both", [False, True])
async def test_a_dry_run_is_recorded_as_interrupted(weed: Bucket, tmp_path: Path, both: bool) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(3)})
    variables = weed.variables(tmp_path / "data")
    done = await unread("sync", "--dry-run", variables=variables, cwd=tmp_path, both=both)
    assert done.code == 141
    assert "defect" not in done.stderr
    assert "error:" not in done.stderr
    (run,) = json.loads((await run_ingest("runs", "--json", variables=variables, cwd=tmp_path)).stdout)["runs"]
    assert run["status"] == "interrupted"


async def test_a_run_that_is_done_keeps_its_own_code(weed: Bucket, tmp_path: Path) -> None:
    """Nobody reads its summary or its messages: the copies are there all the same."""
    await weed.put({"k": b"x"})
    variables = weed.variables(tmp_path / "data")
    done = await unread("sync", variables=variables, cwd=tmp_path, both=True)
    assert done.code == 0
    assert (tmp_path / "data" / weed.name / "k").read_bytes() == b"x"
    prune = ("cleanup", "--older-than", "0s", "--dry-run")
    assert (await unread(*prune, variables=variables, cwd=tmp_path)).code == 141

"""The programs of docs/library.md, run as they stand there against a real server; `test_wheel` has mypy read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.process import Done, run_ingest
from tests.fixtures.programs import programs
from tests.fixtures.servers import Bucket

PROGRAMS = programs()


async def run(name: str, bucket: Bucket, tmp_path: Path) -> Done:
    program = (
        PROGRAMS[name].replace('"statements"', f'"{bucket.name}"').replace("s3://statements", f"s3://{bucket.name}")
    )
    (tmp_path / "program.py").write_text(program)
    variables = bucket.variables(tmp_path / "data")
    return await run_ingest(variables=variables, cwd=tmp_path, program=("-W", "error", "program.py"))


async def test_a_bucket(weed: Bucket, tmp_path: Path) -> None:
    done = await run("a_bucket", weed, tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("2026/a.pdf 11 20")
    assert done.stdout.endswith("\nb'a statement'\n")
    assert (tmp_path / "a.pdf").read_bytes() == b"a statement"


async def test_without_a_loop(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"2026/a.pdf": b"a statement, "})
    done = await run("without_a_loop", weed, tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("no_such_key ")
    assert (tmp_path / "copies.bin").read_bytes() == b"a statement, another"


async def test_runs(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"2026/a.pdf": b"x", "2025/b.pdf": b"y"})
    done = await run("runs", weed, tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["ok 1 downloaded", "1 objects on record"]
    (tmp_path / ".env").write_text("S3_BUCKET=no-such-bucket\n")
    (tmp_path / ".env").chmod(0o600)
    nowhere = Bucket(weed.endpoint, "no-such-bucket")
    done = await run("runs", nowhere, tmp_path)
    assert done.code == 4, done.output


async def test_tests_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(PROGRAMS["tests_of_your_own"])
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", "test_theirs.py")
    done = await run_ingest(variables={}, cwd=tmp_path, program=("-m", "pytest", *options))
    assert done.code == 0, done.output
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_tried(name: str) -> None:
    assert f"test_{name}" in globals()

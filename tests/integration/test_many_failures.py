"""Two thousand objects that are refused: a mail that can be read, the same code every night, and all of them on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Asked, Deed, MemoryS3, running
from tests.fixtures.process import run_ingest

REFUSED = {f"secret/{number:04}": b"x" for number in range(100)}


def refuse(asked: Asked, _: Answer) -> Deed | None:
    if asked.operation == "get" and asked.key.startswith("secret/"):
        return faults.saying("403 Forbidden", "AccessDenied")
    return None


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3(name="MinIO")) as server:
        server.fill({"a/1": b"1", "a/2": b"2", **REFUSED})
        server.faults = [refuse]
        yield server


async def test_the_first_twenty_are_named_and_the_rest_is_told_where_to_find(server: MemoryS3, tmp_path: Path) -> None:
    variables = server.bucket.variables(tmp_path / "data")
    for night in (1, 2, 3):
        done = await run_ingest("sync", "-q", variables=variables, cwd=tmp_path)
        assert (done.code, done.stdout) == (3, "")
        lines = [line for line in map(json.loads, done.stderr.splitlines()) if line["event"] != "new_catalog"]
        assert [line["event"] for line in lines] == ["object_failed"] * 20 + ["more", "run_partial"]
        assert lines[20]["message"] == f"and 80 more: `ingest runs show {night}`"
        assert lines[21]["message"].startswith("sync partial: 102 listed, ")
        assert len(done.stderr) < 10_000
    loud = await run_ingest("sync", "-v", variables=variables, cwd=tmp_path)
    assert loud.stderr.count('"object_failed"') == 100


async def test_a_run_shows_what_failed_in_it(server: MemoryS3, tmp_path: Path) -> None:
    variables = server.bucket.variables(tmp_path / "data")
    for _ in range(2):
        await run_ingest("sync", "-q", variables=variables, cwd=tmp_path)
    shown = await run_ingest("runs", "show", "2", "--json", variables=variables, cwd=tmp_path)
    document = json.loads(shown.stdout)
    assert (document["run"]["id"], document["run"]["counts"]["failed"]) == (2, 100)
    assert sorted(each["key"] for each in document["failures"]) == list(REFUSED)
    assert {(each["what"], each["error"]) for each in document["failures"]} == {("failed", "access_denied")}
    assert all("403" in each["message"] for each in document["failures"])
    text = await run_ingest("runs", "show", "1", "--limit", "3", variables=variables, cwd=tmp_path)
    assert text.stdout.count("access_denied") == 3
    assert "partial" in text.stdout
    listed = await run_ingest("runs", "--limit", "1", variables=variables, cwd=tmp_path)
    assert listed.stdout == (await run_ingest("runs", "list", "--limit", "1", variables=variables, cwd=tmp_path)).stdout
    missing = await run_ingest("runs", "show", "99", variables=variables, cwd=tmp_path)
    assert (missing.code, "run 99 of statements is not on record" in missing.stderr) == (1, True)


async def test_damage_is_shown_with_the_run_that_found_it(server: MemoryS3, tmp_path: Path) -> None:
    server.faults.clear()
    variables = server.bucket.variables(tmp_path / "data")
    await run_ingest("sync", "-q", variables=variables, cwd=tmp_path)
    (tmp_path / "data" / "statements" / "a" / "1").write_bytes(b"?")
    (tmp_path / "data" / "statements" / "a" / "2").unlink()
    assert (await run_ingest("verify", "-q", variables=variables, cwd=tmp_path)).code == 7
    shown = await run_ingest("runs", "show", "2", "--json", variables=variables, cwd=tmp_path)
    found = [(each["key"], each["what"], each["error"]) for each in json.loads(shown.stdout)["failures"]]
    assert found == [("a/1", "damaged", "damaged"), ("a/2", "damaged", "missing")]

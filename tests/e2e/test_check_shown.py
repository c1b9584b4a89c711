"""`ingest check` as a person reads it and as scripts look for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

WHEN = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


@pytest.fixture
def memory() -> Iterator[MemoryS3]:
    with running(MemoryS3(modified=WHEN)) as server:
        yield server


async def check(memory: MemoryS3, tmp_path: Path, *flags: str, **variables: str) -> list[str]:
    done = await run_ingest("check", *flags, variables=memory.bucket.variables(tmp_path) | variables, cwd=tmp_path)
    assert done.code == 0, done.output
    assert done.stderr == ""
    return done.stdout.splitlines()


async def test_each_step_is_announced_and_closed(memory: MemoryS3, tmp_path: Path) -> None:
    for number in range(12):
        memory.put(f"loans/{number:02}.pdf", b"x" * 1_234_567 if number == 0 else b"x")
    rule = "=" * 72
    assert await check(memory, tmp_path) == [
        rule,
        "S3 connection test",
        f"Endpoint: {memory.endpoint.removeprefix('http://')}",
        "Bucket: statements",
        "Secure: False",
        rule,
        "[1/4] Creating the HTTP client ...",
        "✓ HTTP client created",
        f"      {memory.endpoint} answers (HTTP, not encrypted)",
        "[2/4] Initializing the S3 client ...",
        "✓ S3 client initialized",
        "      region us-east-1, credentials from S3_ACCESS_KEY",
        "[3/4] Looking for bucket 'statements' ...",
        "✓ Successfully connected! Bucket 'statements' exists.",
        "[4/4] Listing the first 10 objects ...",
        "✓ Objects listed",
        "Objects in 'statements':",
        *(
            line
            for number in range(10)
            for line in (
                f"  {number + 1:2}. loans/{number:02}.pdf",
                f"      Size: {'1.23' if number == 0 else '0.00'} MB",
                "      Last Modified: 2026-03-01 02:30:00 UTC",
            )
        ),
        "  ... (showing first 10 objects only)",
        "Total objects shown: 10",
        rule,
        "✓ S3 CONNECTION TEST SUCCESSFUL",
        "Next: ingest sync --dry-run",
        rule,
    ]


@pytest.mark.parametrize("held", [0, 1, 10])
async def test_all_there_is(memory: MemoryS3, tmp_path: Path, held: int) -> None:
    for number in range(held):
        memory.put(f"{number:02}", b"x")
    shown = await check(memory, tmp_path)
    assert f"Total objects shown: {held}" in shown
    assert ("  (Bucket is empty)" in shown) == (held == 0)
    assert not any("showing first" in line for line in shown)


async def test_signs_that_the_output_cannot_take(memory: MemoryS3, tmp_path: Path) -> None:
    shown = await check(memory, tmp_path, PYTHONIOENCODING="ascii")
    assert "OK: HTTP client created" in shown
    assert "OK: S3 CONNECTION TEST SUCCESSFUL" in shown
    assert all(line.isascii() for line in shown)


async def test_json_is_one_object(memory: MemoryS3, tmp_path: Path) -> None:
    memory.put("a", b"x")
    done = await run_ingest("check", "--json", variables=memory.bucket.variables(tmp_path), cwd=tmp_path)
    document = json.loads(done.stdout)
    assert [step["title"] for step in document["steps"]] == ["HTTP client", "S3 client", "Bucket", "First 10 objects"]
    assert all(set(step) == {"step", "title", "lines"} for step in document["steps"])
    assert (document["status"], document["exit_code"]) == ("ok", 0)


async def test_a_bucket_that_is_missing(weed: Bucket, tmp_path: Path) -> None:
    variables = weed.variables(tmp_path) | {"S3_BUCKET": "no-such-bucket"}
    done = await run_ingest("check", variables=variables, cwd=tmp_path)
    shown = done.stdout.splitlines()
    assert done.code == 1
    assert shown.index("Available buckets:") < shown.index(f"  - {weed.name}") < shown.index("=" * 72, 6)
    assert "✗ S3 CONNECTION TEST FAILED" in shown
    assert f"Cause: bucket 'no-such-bucket' does not exist; buckets that do: {weed.name}"[:50] in done.stdout
    assert "Next: Correct S3_BUCKET." in shown


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    variables = Bucket("http://127.0.0.1:1", "statements").variables(tmp_path)
    done = await run_ingest("check", variables=variables, cwd=tmp_path)
    shown = done.stdout.splitlines()
    assert done.code == 1
    at = shown.index("[1/4] Creating the HTTP client ...")
    assert shown[at + 1].startswith("✗ 127.0.0.1:1")
    assert shown[at + 3] == "✗ S3 CONNECTION TEST FAILED"
    assert shown[at + 4].startswith("Cause: 127.0.0.1:1")
    assert shown[at + 5].startswith("Next: ")


async def test_a_certificate_is_saved_and_tested_with(weed_tls: Bucket, tmp_path: Path) -> None:
    variables = weed_tls.variables(tmp_path) | {"S3_VERIFY_SSL": "false"}
    del variables["S3_CA_BUNDLE"]
    done = await run_ingest("check", "--save-ca", "saved.pem", variables=variables, cwd=tmp_path)
    assert done.code == 0, done.output
    assert "certificate trusted by saved.pem" in done.stdout
    assert "S3_CA_BUNDLE=saved.pem" in done.stdout.splitlines()[-2]
    assert "BEGIN CERTIFICATE" in (tmp_path / "saved.pem").read_text()


@pytest.mark.parametrize("command", [("ls", "--limit", "2"), ("check",), ("ls", "--limit", "1000")])
async def test_a_listing_that_is_left_early_says_nothing(
    memory: MemoryS3, tmp_path: Path, command: tuple[str, ...]
) -> None:
    for number in range(2100):
        memory.put(f"k/{number:04}", b"x")
    done = await run_ingest(*command, variables=memory.bucket.variables(tmp_path), cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")


@pytest.mark.parametrize("flags", [("-q",), ("-q", "--json")])
async def test_quiet_it_shows_only_what_is_wrong(memory: MemoryS3, tmp_path: Path, flags: tuple[str, ...]) -> None:
    shown = await check(memory, tmp_path, *flags)
    assert len(shown) == ("--json" in flags)
    variables = memory.bucket.variables(tmp_path) | {"S3_ENDPOINT": "127.0.0.1:1"}
    done = await run_ingest("check", *flags, variables=variables, cwd=tmp_path)
    assert done.code == 1
    assert "Cause: 127.0.0.1:1 refused the connection" in done.output
    assert "[1/4]" not in done.output

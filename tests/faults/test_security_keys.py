"""Keys that try to break out of a log line, a terminal, a query or a pattern."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, serving
from tests.fixtures.databases import migrate
from tests.fixtures.process import Done, run_ingest
from tests.fixtures.servers import Bucket

EVIL = [
    'new\nline {"event": "forged"}',
    "return\r\x1b[2K\rforged",
    "escape\x1b]0;title\x07\x1b[31m",
    "bell\x07 tab\t delete\x7f",
    "nel\x85 line\u2028 paragraph\u2029",
    "right-to-left \u202efdp.exe\u202c isolate \u2067x\u2069",
    "zero\u200bwidth \ufeffmark",
    "back\\slash \\n",
    "quote\" quote' `tick` $(touch forged) %s {0} {key}",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What a terminal obeys or hides; of all control characters only the line feed behind a line may be there."""


def events(done: Done) -> list[dict[str, object]]:
    assert not HARMFUL.search(done.output), HARMFUL.search(done.output)
    return [json.loads(line) for line in done.stderr.splitlines() if line]


@asynccontextmanager
async def holding(keys: Sequence[str], tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The variables of a bucket that holds `keys`."""
    server = MemoryS3()
    server.fill(dict.fromkeys(keys, b"x"))
    async with serving(server):
        yield server.bucket.variables(tmp_path / "data")


async def test_one_event_is_one_line_whatever_the_key_holds(tmp_path: Path) -> None:
    async with holding(EVIL, tmp_path) as given:
        planned = await run_ingest("sync", "--dry-run", variables=given, cwd=tmp_path)
        assert len(planned.stdout.splitlines()) == len(EVIL) + 1
        events(planned)
        done = await run_ingest("sync", "-v", variables=given, cwd=tmp_path)
        assert done.code == 0, done.stderr
        taken = [event["key"] for event in events(done) if event["event"] == "object_downloaded"]
        assert len(taken) == len(set(taken)) == len(EVIL)
        assert "back\\\\slash \\\\n" in taken  # reversible: a backslash is escaped, too
        assert not (tmp_path / "forged").exists()

        for path in (tmp_path / "data" / "statements").rglob("*"):
            path.unlink()
        found = await run_ingest("verify", variables=given, cwd=tmp_path)
        assert found.code == 7
        named = [event for event in map(json.loads, found.stderr.splitlines()[:-2]) if event["event"] == "copy_damaged"]
        assert len(named) == len(EVIL)
        assert not HARMFUL.search(found.output)
        listed = await run_ingest("ls", variables=given, cwd=tmp_path)
        assert len(listed.stdout.splitlines()) == len(EVIL)
        assert not HARMFUL.search(listed.output)


async def test_tables_and_stories_are_escaped_as_well(tmp_path: Path) -> None:
    key = "story\n\x1b[31m\u202ek"
    async with holding([key], tmp_path) as given:
        assert (await run_ingest("sync", "-q", variables=given, cwd=tmp_path)).code == 0
    for command, code, most_lines in (
        (("hold", "add", key, "--reason", "because\n\x1b[31m\u202eof this"), 0, 1),
        (("hold", "add", "--prefix", key[:7], "--reason", "x\ny"), 0, 1),
        (("hold", "list"), 0, 3),
        (("history", key), 0, 13),
        (("restore", key + "unknown"), 1, 1),
        (("runs",), 0, 5),
    ):
        done = await run_ingest(*command, variables=given, cwd=tmp_path)
        assert done.code == code, done.stderr
        assert not HARMFUL.search(done.output), (command, done.output)
        assert len(done.stdout.splitlines()) <= most_lines, done.stdout


LITERAL = ["a%b", "a_b", "a*b", "a?b", "a[b]", "a'b", 'a"b', "a;--b", "a\\b", "a(b|c)", "a.b", "aXb"]


async def test_signs_of_patterns_and_of_sql_are_literal_in_a_prefix(
    moto: Bucket, database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    await moto.put({key: b"x" for key in LITERAL})
    settings = moto.settings(tmp_path / "data", database_url=database_url)
    quiet = {"progress": Silence(), "stop": Stop()}
    for prefix in ["a%", "a_", "a*", "a?", "a[", "a'", "a\\", "%", "a.", "a;--", "' OR '1'='1", "a(b|", 'a"']:
        expected = len([key for key in LITERAL if key.startswith(prefix)])
        taken = await sync(settings, SyncOptions(selection=Selection(prefixes=(prefix,))), **quiet)  # type: ignore[arg-type]
        assert (taken.counts.listed, taken.counts.gone) == (expected, 0), prefix
    await sync(settings, SyncOptions(), **quiet)  # type: ignore[arg-type]
    await cleanup(settings, CleanupOptions(settings.retention * 0), **quiet)  # type: ignore[arg-type]
    for prefix in ["a%", "a_", "a*", "a'", "a\\", "%", "' OR '1'='1"]:
        expected = len([key for key in LITERAL if key.startswith(prefix)])
        back = await restore(settings, RestoreOptions(prefix=prefix), **quiet)  # type: ignore[arg-type]
        checked = await verify(settings, VerifyOptions(prefix=prefix), **quiet)  # type: ignore[arg-type]
        assert (back.counts.restored, checked.notes["checked"]) == (expected, expected), prefix

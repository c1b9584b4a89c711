"""The benchmarks' own parts can be trusted: what the synthetic server lists, what the slow line carries, what a
measurement counts, what a report keeps."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioboto3
import asyncpg
import pytest
import pytest_asyncio

from benchmarks import databases
from benchmarks.cases import CASES
from benchmarks.keyspace import KeySpace, Layout
from benchmarks.report import Samples, Unmeasured, merged, rate, ratio, replace, section
from benchmarks.synthetic import BUCKET
from benchmarks.trials import Fresh
from benchmarks.workshop import Source, child
from ingest.source.client import S3Client

KEYS, EVERY = 1_500, 7
MEASURE = Path(__file__).resolve().parents[2] / "benchmarks" / "measure.py"


def test_rivals_copy_into_what_is_empty_and_compare_where_something_is() -> None:
    """By the command that their users take for the case: comparing costs twice the CPU, and finds nothing there."""
    source, target = Source("http://127.0.0.1:1", "statements", 1, provider="Minio"), Path("t")
    for case in CASES:
        for contender in case.contenders:
            words, copies = contender.command(source, target), case.trial is Fresh
            name = Path(words[0]).name
            if name in ("s5cmd", "aws"):
                assert ("cp" in words, "sync" in words) == (copies, not copies), (case.name, words)
                assert contender.name.split()[-1 if "," not in contender.name else 1].strip(",") in words
                assert ("--recursive" in words) is (name == "aws" and copies)
            elif name == "rclone":
                assert "copy" in words


@pytest_asyncio.fixture(params=["dates", "flat"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[KeySpace, Source]]:
    layout: Layout = request.param
    async with child("synthetic", "--keys", str(KEYS), "--layout", layout, "--every", str(EVERY)) as port:
        yield KeySpace(KEYS, layout, every=EVERY), Source(f"http://127.0.0.1:{port}", BUCKET, KEYS, provider="Minio")


def boto(source: Source) -> Any:
    session = aioboto3.Session("key", "secret", region_name="us-east-1")
    return session.client("s3", endpoint_url=source.endpoint)


async def listed(client: Any, **asked: Any) -> tuple[list[str], list[str]]:
    """All keys and all common prefixes, through the paginator."""
    keys: list[str] = []
    folded: list[str] = []
    async for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, **asked):
        assert page["KeyCount"] == len(page.get("Contents", [])) + len(page.get("CommonPrefixes", []))
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        folded += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return keys, folded


def expected(keys: list[str], prefix: str, delimiter: str, after: str) -> tuple[list[str], list[str]]:
    """The same by the book, from all keys."""
    plain: list[str] = []
    folded: dict[str, None] = {}
    for key in keys:
        if key > after and key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                plain.append(key)
            else:
                folded[key[: cut + len(delimiter)]] = None
    return plain, list(folded)


PREFIXES = ("", "statements/2016/1", "statements/2017/03/", "statements/ACC-000005", "nothing/", "t")
AFTER = ("", "statements/2016/10/01/ACC-00000822.pdf", "statements/ACC-00000501.pdf", "statements/2017/03/1", "zzz")


@pytest.mark.parametrize("new", [False, True])
async def test_the_synthetic_server_lists_exactly_its_keys(served: tuple[KeySpace, Source], new: bool) -> None:
    space, source = served
    await asyncio.to_thread(source.set, new=new)
    keys = [space.key(number).decode() for number in range(space.size) if new or not space.is_new(number)]
    assert len(keys) == (KEYS if not new else space.size)
    async with boto(source) as client:
        combinations = itertools.product(PREFIXES, ("", "/", "6/"), AFTER)
        for (prefix, delimiter, after), size in zip(combinations, itertools.cycle((1_000, 333)), strict=False):
            asked = {
                "Prefix": prefix,
                "Delimiter": delimiter,
                "StartAfter": after,
                "PaginationConfig": {"PageSize": size},
            }
            plain, folded = await listed(client, **asked)
            assert (plain, folded) == expected(keys, prefix, delimiter, after), asked


async def test_pages_of_one_key_and_of_few_end_where_they_should(served: tuple[KeySpace, Source]) -> None:
    space, source = served
    keys = [space.key(number).decode() for number in range(space.size) if not space.is_new(number)]
    prefix = next(each for each in ("statements/2016/02/0", "statements/ACC-0000011") if keys[100].startswith(each))
    assert len(expected(keys, prefix, "", "")[0]) > 1
    async with boto(source) as client:
        for size in (1, 2, 3):
            plain, _ = await listed(client, Prefix=prefix, PaginationConfig={"PageSize": size})
            assert plain == expected(keys, prefix, "", "")[0]


async def test_our_own_client_lists_and_checks_the_same(served: tuple[KeySpace, Source], tmp_path: Path) -> None:
    space, source = served
    async with S3Client(source.settings(tmp_path)) as client:
        found = [remote async for remote in client.list_objects()]
        assert [remote.key.encode() for remote in found] == [
            space.key(number) for number in range(space.size) if not space.is_new(number)
        ]
        for remote in found[:: len(found) // 20]:
            assert len(await client.download_file(remote.key)) == remote.size


async def test_what_is_new_can_be_had_only_when_it_is_listed(served: tuple[KeySpace, Source]) -> None:
    space, source = served
    number = space.next_new(1_000)
    key = space.key(number).decode()
    async with boto(source) as client:
        with pytest.raises(client.exceptions.ClientError):
            await client.head_object(Bucket=BUCKET, Key=key)
        await asyncio.to_thread(source.set, new=True)
        answer = await client.get_object(Bucket=BUCKET, Key=key, Range="bytes=10-19")
        assert await answer["Body"].read() == space.body(number).content[10:20]
        assert answer["LastModified"].isoformat() == f"{space.modified(number)}+00:00"
        assert (await asyncio.to_thread(source.counts))["objects"] == 1


@pytest.mark.parametrize("layout", ["dates", "flat"])
@pytest.mark.parametrize(("count", "every"), [(0, 7), (1, 7), (3, 7), (4, 7), (1_000, 2), (9_001, 1_000)])
def test_keys_ascend_and_are_found_again(layout: Layout, count: int, every: int) -> None:
    space = KeySpace(count, layout, every=every)
    keys = [space.key(number) for number in range(space.size)]
    assert keys == sorted(set(keys))
    assert [space.find(key) for key in keys] == list(range(space.size))
    old = [number for number in range(space.size) if not space.is_new(number)]
    assert [space.number(rank) for rank in range(count)] == old
    assert [space.rank(number) for number in old] == list(range(count))


async def test_the_slow_line_changes_nothing_and_keeps_the_order() -> None:
    sent = os.urandom(3 << 20)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(50_000):
            writer.write(block)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, child("latency", "--to", str(server.sockets[0].getsockname()[1]), "--delay", "0.002") as port:

        async def through() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            received = await reader.readexactly(len(sent))
            writer.close()
            await writer.wait_closed()
            return received

        assert await asyncio.gather(*(through() for _ in range(4))) == [sent] * 4


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="memory of a tree is read on Linux alone")
def test_a_measurement_counts_the_children(tmp_path: Path) -> None:
    inner = "import sys; block = bytearray(40 << 20); print('ready', flush=True); sys.stdin.read()"
    # The parent ends its child when the memory of both has been there for several samples.
    outer = (
        "import subprocess, sys, time; block = bytearray(40 << 20);"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdin=-1, stdout=-1);"
        "child.stdout.readline(); time.sleep(0.3); child.communicate(); sys.exit(3)"
    )
    command = [sys.executable, "-I", "-S", str(MEASURE), "60", str(tmp_path / "output"), sys.executable, "-c", outer]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["status"] == 3
    assert found["peak"] > 80
    assert found["cpu"] > 0


def test_a_report_replaces_only_what_was_run() -> None:
    order = ["one", "two", "three"]

    def case(name: str, took: float) -> str:
        return section(name, name.title(), "1 round", {"ours": Samples([took], [took], [50.0], 10)}, [])

    first = merged("an older format\n", "# Head\n", {name: case(name, 1.0) for name in ("three", "one")}, order)
    second = merged(first, "# New head\n", {"two": case("two", 2.0), "one": case("one", 3.0)}, order)
    assert second.startswith("# New head\n")
    assert second.count("## ") == 3
    assert second.index("## One") < second.index("## Two") < second.index("## Three")
    assert "3.00 (3.00 to 3.00)" in second
    assert case("three", 1.0) in second
    assert merged(second, "# New head\n", {}, order) == second


def test_a_section_is_replaced_beneath_a_heading_that_stays(tmp_path: Path) -> None:
    results, ours = tmp_path / "RESULTS.md", {"ours": Samples([2.0], [1.0], [50.0], 10)}
    sections = {name: section(name, name.title(), "1 round", ours, []) for name in ("one", "events")}
    results.write_text(merged("", "# Head\n\nOf another day.\n", {"one": sections["one"]}, ["one"]))
    events = section("events", "Events", "1 round", ours, [rate(least=4, aim=6, of="events")], of="events")
    replace(results, {"events": events}, ["one", "events"])
    assert results.read_text() == merged("", "# Head\n\nOf another day.\n", sections | {"events": events}, sections)
    assert "| events / s |" in events
    assert "| events a second | ≥ 4 | ≥ 6 | 5.00 | at least |" in events


def test_a_contender_that_failed_has_no_figures() -> None:
    results = {"ours": Samples([1.0], [1.0], [50.0], 10), "rival": Samples([0.5], [0.5], [9.0], 10, failure="exit 1")}
    aim = ratio("rival", least=1.0)
    text = section("case", "Case", "1 round", results, [aim])
    assert "| rival | failed: exit 1 |" in text
    assert "| failed |" in text
    assert "0.50" not in text
    with pytest.raises(Unmeasured):
        aim.reached(results)


@pytest.mark.parametrize(("took", "verdict"), [(0.7, "aim"), (0.9, "at least"), (1.1, "missed")])
def test_an_aim_says_how_far_it_was_reached(took: float, verdict: str) -> None:
    results = {"ours": Samples([took], [took], [50.0], 10), "rival": Samples([1.0], [1.0], [9.0], 10)}
    aim = ratio("rival", least=1.0, aim=0.75)
    assert aim.verdict(aim.reached(results)) == verdict


async def test_a_catalog_on_postgresql_begins_empty_or_as_another(postgres_uri: str) -> None:
    """What a run began with is gone when the next one begins; what is known stays for all."""
    known, target = Path("known-7-postgres"), Path("target")

    async def sources(directory: Path, *statements: str) -> int:
        connection = await asyncpg.connect(databases.url_of(postgres_uri, directory).replace("+asyncpg", ""))
        for statement in statements:
            await connection.execute(statement)
        count: int = await connection.fetchval("SELECT count(*) FROM sources")
        await connection.close()
        return count

    await databases.make(postgres_uri, known)
    assert await sources(known, "INSERT INTO sources (endpoint, bucket) VALUES ('e', 'b')") == 1
    for _ in range(2):
        await databases.make(postgres_uri, target, known)
        assert await sources(target, "INSERT INTO sources (endpoint, bucket) VALUES ('e', 'c')") == 2
    await databases.make(postgres_uri, target)
    assert (await sources(target), await sources(known)) == (0, 1)

"""The embedded server: side by side, gone with its owner, and the behaviour that the design counts on."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from ingest.demo import server
from ingest.demo.server import serve
from ingest.demo.statements import MOST, ODD_NAMES, corrected, statements
from ingest.errors import IngestError
from ingest.settings import Settings
from ingest.source.client import S3Client
from tests.fixtures.process import started, until
from tests.fixtures.servers import Bucket, Certificates

OWNER = """
import asyncio, pathlib, sys
from ingest.demo import server
from ingest.demo.server import serve

async def main():
    async with serve(pathlib.Path(sys.argv[1]), "statements") as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports_of(directory: Path) -> list[int]:
    """Every port that a server of this directory was started with."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = line.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if f"-dir={directory}" in arguments:
            return [int(found[1]) for text in arguments if (found := re.fullmatch(r"-\S+port\S*=([1-9]\d*)", text))]
    return []


async def test_servers_stand_side_by_side_and_leave_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path / "one", "statements") as one, serve(tmp_path / "two", "statements") as two:
        ports = ports_of(tmp_path / "one") + ports_of(tmp_path / "two")
        assert len(set(ports)) == len(ports) == 20
        await Bucket(one.endpoint, "statements").put({"only/here": b"x"})
        settings = Bucket(two.endpoint, "statements").settings(tmp_path)
        async with S3Client(settings) as client:
            assert [remote.key async for remote in client.list_objects()] == []
    assert not ports_of(tmp_path / "one")
    assert not [port for port in ports if answers(port)]
    assert not [path for port in ports for path in Path("/tmp").glob(f"*{port}*")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_the_server_goes_with_its_owner(tmp_path: Path, number: signal.Signals) -> None:
    """The owner is a process of its own that serves, and says the port of its server."""
    async with started(str(tmp_path / "server"), variables={}, cwd=tmp_path, program=("-c", OWNER)) as owner:
        assert owner.stdout is not None
        port = int(await owner.stdout.readline())
        assert answers(port)
        owner.send_signal(number)
        await asyncio.wait_for(owner.wait(), 30)
        await until(lambda: not answers(port), 30)


async def test_a_directory_can_be_served_again(tmp_path: Path) -> None:
    async with serve(tmp_path, "statements") as first:
        await Bucket(first.endpoint, "statements").put({"kept": b"as it was"})
    async with serve(tmp_path, "statements") as again:
        assert again.port != first.port
        async with S3Client(Bucket(again.endpoint, "statements").settings(tmp_path)) as client:
            assert await client.download_file("kept") == b"as it was"


async def test_one_that_does_not_come_up_is_named(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IngestError, match="ended at its start"):
        async with serve(tmp_path / "server", "statements", certificate=(certificates.ca, tmp_path / "no.key")):
            pass
    assert not ports_of(tmp_path / "server")
    with monkeypatch.context() as patched:
        patched.setattr(server, "_SOCKETS", tmp_path / "nowhere")
        with pytest.raises(IngestError, match="nowhere for its sockets, and may not write there"):
            async with serve(tmp_path / "server", "statements"):
                pass
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(IngestError, match="not installed") as caught:
        async with serve(tmp_path / "server", "statements"):
            pass
    assert "ingest[demo]" in caught.value.hint


async def listed(settings: Settings, **question: str | int) -> tuple[list[str], bool]:
    """The keys of one page as the server wrote them, and whether it says that there are more."""
    import aioboto3

    assert settings.access_key is not None
    assert settings.secret_key is not None
    session = aioboto3.Session(settings.access_key.get_secret_value(), settings.secret_key.get_secret_value())
    async with session.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region) as client:
        page = await client.list_objects_v2(Bucket=settings.bucket, **question)
    return [entry["Key"] for entry in page.get("Contents", [])], page["IsTruncated"]


async def test_it_lists_by_directory_and_goes_on_exactly_after_any_key(weed: Bucket, tmp_path: Path) -> None:
    keys = ["a/x", "a/y/z", "a b/1", "a!", "a-b/x", "a.txt", "a0", "b", "n/m/", "n/m/1", "é/1"]
    await weed.put({"n/m/": b""})  # made before what is in it: of both at once the server may lose the marker
    await weed.put(dict.fromkeys(keys, b"") | {"b": b"x"})
    settings = weed.settings(tmp_path)
    assert await listed(settings) == (keys, False)
    assert keys == sorted(keys, key=lambda key: key.split("/"))
    assert keys != sorted(keys)
    for number, key in enumerate(keys, start=1):
        found, more = await listed(settings, StartAfter=key, MaxKeys=3)
        assert (found, more) == (keys[number : number + 3], number + 3 < len(keys))


async def test_after_a_key_that_is_also_a_directory_only_a_slash_goes_on(weed: Bucket, tmp_path: Path) -> None:
    # Why a listing of such a server goes on after `key/`, and asks once more behind a page that is full and claims
    # to be the last.
    await weed.put({"a": b"file", "a/b": b"x", "a/c": b"x", "d": b"file", "d/e": b"x"})
    settings = weed.settings(tmp_path)
    assert await listed(settings) == (["a", "a/b", "a/c", "d", "d/e"], False)
    assert await listed(settings, StartAfter="a") == (["d", "d/e"], False)
    assert await listed(settings, StartAfter="a/") == (["a/b", "a/c", "d", "d/e"], False)
    assert await listed(settings, StartAfter="a/b/") == (["a/c", "d", "d/e"], False)
    assert await listed(settings, StartAfter="a/", MaxKeys=3) == (["a/b", "a/c", "d"], False)
    assert await listed(settings, StartAfter="d/") == (["d/e"], False)


def test_statements_are_real_pdfs_each_its_own() -> None:
    made = dict(statements(MOST))
    assert len(made) == MOST
    assert "statements/2026/03/ACC-00017-2026-03.pdf" in made
    assert {key.rpartition("/")[2] for key in made} >= set(ODD_NAMES)
    assert len(set(made.values())) == MOST - len(ODD_NAMES) + 1  # the odd names share one page
    assert dict(statements(MOST)) == made
    for body in list(made.values())[::97]:
        for version in (body, corrected(body)):
            assert version.startswith(b"%PDF-1.")
            assert version.rstrip().endswith(b"%%EOF")
            table = version[int(version.rsplit(b"startxref", 1)[1].split()[0]) :]
            offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n", table)]
            assert len(offsets) > 4
            for number, offset in enumerate(offsets, start=1):
                assert version[offset:].startswith(b"%d 0 obj" % number)
        assert corrected(body) != body

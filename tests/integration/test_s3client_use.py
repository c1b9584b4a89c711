"""`S3Client` used wrongly: before it is open, after its end, with names that are none. Each is said plainly."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingest import S3Client
from ingest.errors import NoSuchKey, SettingsError
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.servers import Bucket

Use = Callable[[S3Client, Path], Awaitable[object]]


async def _listed(client: S3Client, _path: Path) -> list[str]:
    return [remote.key async for remote in client.list_objects()]


USES: dict[str, Use] = {
    "bucket_exists": lambda client, _: client.bucket_exists(),
    "list_buckets": lambda client, _: client.list_buckets(),
    "list_objects": _listed,
    "head": lambda client, _: client.head("a"),
    "download_file": lambda client, _: client.download_file("a"),
    "download_to": lambda client, path: client.download_to("a", path),
    "put": lambda client, _: client.put("b", b"x"),
    "delete": lambda client, _: client.delete("b"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_it_is_refused_before_it_is_open_and_after_its_end(moto: Bucket, tmp_path: Path, use: Use) -> None:
    await moto.put({"a": b"x"})
    client = S3Client(moto.settings(tmp_path / "data"))
    with pytest.raises(RuntimeError, match="async with"):
        await use(client, tmp_path / "copy")
    for _ in range(2):  # it may be opened again
        async with client:
            await use(client, tmp_path / "copy")
            with pytest.raises(RuntimeError, match="already open"):
                await client.__aenter__()
            await use(client, tmp_path / "copy")
        with pytest.raises(RuntimeError, match="async with"):
            await use(client, tmp_path / "copy")


@pytest.mark.parametrize("key", ["", "\udcff"])
async def test_what_cannot_be_a_key_is_never_sent(tmp_path: Path, key: str) -> None:
    async with S3Client(Bucket("http://127.0.0.1:1", "statements").settings(tmp_path)) as client:
        for attempt in (client.put(key, b"x"), client.delete(key), client.head(key), client.download_file(key)):
            with pytest.raises(NoSuchKey, match="key"):
                await attempt


async def test_a_field_that_there_is_not_is_named(tmp_path: Path) -> None:
    base = Bucket("http://127.0.0.1:1", "statements").settings(tmp_path)
    for settings in (None, base):
        with pytest.raises(SettingsError, match="'nosuch'"):
            S3Client.from_settings(settings, nosuch=1)  # type: ignore[call-arg]  # as an untyped program would


async def test_a_listing_may_be_left_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(MemoryS3()) as server:
        for number in range(2100):
            server.put(f"{number:04}", b"x")
        async with S3Client(server.bucket.settings(tmp_path)) as client:
            async for remote in client.list_objects():
                assert remote.key == "0000"
                break
        gc.collect()
        await asyncio.sleep(0)  # what closes the listing is a task of its own
    assert caplog.text == ""

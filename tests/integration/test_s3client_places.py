"""`S3Client` with other buckets, addresses and files than its own; awaited and blocking, which are one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import aiofiles
import pytest

from ingest.errors import DamagedTransfer, NoSuchBucket, NoSuchKey, RedirectRefused, SettingsError, SourceError
from ingest.source import retries
from ingest.source.blocking import BlockingS3Client
from ingest.source.client import S3Client
from ingest.source.transport import Transport
from ingest.testing import Fault, MemoryS3, faults, running

BODY = Random("a large object").randbytes(3 << 20)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE", lambda _: 0.0)


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3(others=[MemoryS3(bucket_name="archive")])) as server:
        server.fill({"a": b"ours", "large": BODY})
        server.others[0].fill({"a": b"theirs", "2025/b": b"", "2025/s3://x/y": b"odd"})
        yield server


async def test_each_call_names_its_bucket(server: MemoryS3, tmp_path: Path) -> None:
    async with S3Client(server.bucket.settings()) as client:
        assert await client.download_file("a") == b"ours"
        assert await client.download_file("a", bucket="archive") == b"theirs"
        assert [remote.key async for remote in client.list_objects("2025/b", bucket="archive")] == ["2025/b"]
        assert (await client.head("a", bucket="archive")).size == 6
        await client.download_to("a", tmp_path / "a", bucket="archive")
        assert (tmp_path / "a").read_bytes() == b"theirs"
        await client.put("new", b"x", bucket="archive")
        await client.delete("a", bucket="archive")
        assert server.others[0].bodies.keys() == {"new", "2025/b", "2025/s3://x/y"}
        assert server.bodies.keys() == {"a", "large"}
        assert await client.bucket_exists()
        assert await client.bucket_exists("archive")
        assert not await client.bucket_exists("nosuch")
        with pytest.raises(NoSuchBucket):
            await client.download_file("a", bucket="nosuch")


async def test_a_key_may_be_an_address(server: MemoryS3) -> None:
    async with S3Client(server.bucket.settings()) as client:
        assert await client.download_file("s3://statements/a") == b"ours"
        assert await client.download_file("s3://archive/a") == b"theirs"
        assert await client.download_file("S3://archive/2025/s3://x/y", bucket="archive") == b"odd"
        assert [remote.key async for remote in client.list_objects("s3://archive/2025/b")] == ["2025/b"]
        assert len([remote async for remote in client.list_objects("s3://archive")]) == 3
        await client.put("s3://archive/100%25", b"x")  # nothing in it is decoded
        assert "100%25" in server.others[0].bodies


@pytest.mark.parametrize(
    ("key", "bucket", "error"),
    [
        ("s3://archive/a", "statements", SettingsError),
        ("s3://x/a", None, SettingsError),
        ("s3:///a", None, SettingsError),
        ("a", "", SettingsError),
        ("a", "../up", SettingsError),
        ("a", 5, SettingsError),
        ("s3://archive/", None, NoSuchKey),
        ("s3://archive", None, NoSuchKey),
        ("", None, NoSuchKey),
        (b"a", None, TypeError),
        (None, None, TypeError),
        (Path("a"), None, TypeError),
    ],
)
def test_what_names_no_object_is_never_sent(
    server: MemoryS3, key: str, bucket: str | None, error: type[Exception]
) -> None:
    with BlockingS3Client(server.bucket.settings()) as client:
        for use in (
            lambda: client.head(key, bucket=bucket),
            lambda: client.download_file(key, bucket=bucket),
            lambda: client.download_to(key, io.BytesIO(), bucket=bucket),
            lambda: client.put(key, b"", bucket=bucket),
            lambda: client.delete(key, bucket=bucket),
        ):
            with pytest.raises(error):
                use()
    assert server.asked == []


@pytest.mark.parametrize("style", ["path", "virtual"])
async def test_a_client_needs_no_bucket_of_its_own(server: MemoryS3, style: str) -> None:
    settings = server.bucket.settings(bucket="", addressing_style=style)
    async with S3Client(settings) as client:
        with pytest.raises(SettingsError, match="S3_BUCKET"):
            await client.head("a")
        if style == "path":
            assert await client.list_buckets() == ["statements", "archive"]
            assert await client.download_file("s3://archive/a") == b"theirs"
            assert await client.download_file("s3://statements/a") == b"ours"


async def test_all_buckets_share_the_connections_of_one_client(server: MemoryS3) -> None:
    async with S3Client(server.bucket.settings(), connections=1) as client:
        for _ in range(3):
            await client.head("a")
            await client.head("s3://archive/a")
    assert server.raw.connections == 1


class Reluctant(io.RawIOBase):
    """Takes a few bytes at a time, as a pipe may."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self.taken += piece[:70_001]
        return min(len(piece), 70_001)


class Uncounted:
    def __init__(self) -> None:
        self.taken = b""

    def write(self, piece: bytes) -> None:
        self.taken += piece


async def test_an_open_file_gets_each_byte_once_though_the_transfer_breaks(server: MemoryS3, tmp_path: Path) -> None:
    cuts = [Fault("get", faults.cut(at), key="large", after=n, times=1) for n, at in enumerate([1 << 20, 70, 2 << 20])]
    async with S3Client(server.bucket.settings(patience="0s")) as client:
        for file in (io.BytesIO(), Reluctant(), Uncounted()):
            server.faults[:] = [Fault(cut.operation, cut.deed, cut.key, cut.after, cut.times) for cut in cuts]
            head = await client.download_to("large", file)
            assert head.size == len(BODY)
            assert (file.getvalue() if isinstance(file, io.BytesIO) else bytes(file.taken)) == BODY
        server.faults.clear()
        async with aiofiles.open(tmp_path / "copy", "wb") as awaited:
            await client.download_to("s3://statements/large", awaited)
        with (tmp_path / "other").open("wb", buffering=0) as raw:
            raw.write(b"before ")
            await client.download_to("large", raw)
    assert (tmp_path / "copy").read_bytes() == BODY
    assert (tmp_path / "other").read_bytes() == b"before " + BODY


async def test_wrong_bytes_in_an_open_file_are_an_error_and_not_fetched_again(server: MemoryS3) -> None:
    server.faults.append(Fault("get", faults.wrong_bytes))
    async with S3Client(server.bucket.settings()) as client:
        with pytest.raises(DamagedTransfer):
            await client.download_to("large", io.BytesIO())
    assert server.count("get") == 1


class Full:
    def write(self, piece: bytes) -> int:
        return 0


async def test_a_file_that_cannot_be_written_says_so(server: MemoryS3, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    closed = io.BytesIO()
    closed.close()
    async with S3Client(server.bucket.settings()) as client:
        for target, error in (
            (tmp_path / "directory", IsADirectoryError),
            (tmp_path / "not" / "there", FileNotFoundError),
            (os.devnull + "/x", NotADirectoryError),
            (io.StringIO(), TypeError),
            (closed, ValueError),
            (Full(), OSError),
            (5, TypeError),
            (None, TypeError),
        ):
            with pytest.raises(error):
                await client.download_to("a", target)  # type: ignore[arg-type]  # some are none
        assert await client.download_file("a") == b"ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory"]


@pytest.mark.parametrize("body", ["text", None, 5, ["x"]])
async def test_a_body_is_bytes(server: MemoryS3, body: object) -> None:
    async with S3Client(server.bucket.settings()) as client:
        with pytest.raises(TypeError, match="bytes"):
            await client.put("a", body)  # type: ignore[arg-type]  # that is what is tried
        for kind in (bytearray, memoryview):
            await client.put("b", kind(b"of another kind"))
            assert server.bodies["b"] == b"of another kind"


async def test_an_error_names_the_address(server: MemoryS3) -> None:
    async with S3Client(server.bucket.settings()) as client:
        with pytest.raises(SourceError, match="2025/nosuch"):
            await client.head("s3://archive/2025/nosuch")


@pytest.mark.parametrize(
    ("style", "host", "sent"),
    [
        ("path", "minio.example.com", True),
        ("path", "archive.minio.example.com", False),
        ("virtual", "minio.example.com", True),
        ("virtual", "statements.minio.example.com", True),
        ("virtual", "archive.minio.example.com", True),
        ("virtual", "evilminio.example.com", False),
        ("virtual", "minio.example.com.evil.net", False),
        ("virtual", "", False),
    ],
)
async def test_the_control_plane_goes_to_no_other_server(style: str, host: str, sent: bool) -> None:
    settings = MemoryS3(endpoint="https://minio.example.com:9000").bucket.settings(addressing_style=style)
    async with Transport(settings.source) as transport:
        if sent:
            assert transport._way_to(host)
        else:
            with pytest.raises(RedirectRefused):
                transport._way_to(host)

"""`S3Client` on real servers: what other programs rely on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiofiles.threadpool
import pytest

from ingest import S3Client
from ingest.errors import (
    AccessKeyUnknown,
    CertificateUntrusted,
    ConnectionRefused,
    DamagedTransfer,
    NoSuchBucket,
    NoSuchKey,
    RedirectRefused,
    SettingsError,
    SignatureMismatch,
    SourceError,
)
from tests.fixtures.servers import Bucket

KEYS = ["2026/01/a b.pdf", "2026/01/plus+.pdf", "2026/02/100%.pdf", "2026/é/\U0001f4c4.pdf", "q&<>'\"].txt", "z"]


def body_of(key: str, size: int = 5_000) -> bytes:
    return Random(key).randbytes(size)


@pytest.fixture(params=["weed", "moto"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue(request.param)
    return found


def client_of(bucket: Bucket, tmp_path: Path, **overrides: Any) -> S3Client:
    return S3Client(bucket.settings(tmp_path / "data", **overrides))


async def keys_of(client: S3Client, prefix: str = "") -> list[str]:
    return [remote.key async for remote in client.list_objects(prefix)]


async def test_what_is_put_is_listed_and_downloaded(bucket: Bucket, tmp_path: Path) -> None:
    async with client_of(bucket, tmp_path) as client:
        for key in KEYS:
            await client.put(key, body_of(key))
        listed = [remote async for remote in client.list_objects()]
        assert sorted(remote.key for remote in listed) == sorted(KEYS)
        for remote in listed:
            assert (remote.size, remote.etag) == (5_000, hashlib.md5(body_of(remote.key)).hexdigest())
            assert remote.last_modified.utcoffset() is not None
            assert await client.download_file(remote.key) == body_of(remote.key)
            head = await client.head(remote.key)
            assert (head.size, head.etag) == (remote.size, remote.etag)


async def test_a_prefix_is_a_prefix_of_the_key(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put({key: b"x" for key in KEYS})
    async with client_of(bucket, tmp_path) as client:
        assert sorted(await keys_of(client, "2026/01/")) == sorted(KEYS[:2])
        assert await keys_of(client, "2026/01/a b") == KEYS[:1]
        assert await keys_of(client, "2026/é/") == [KEYS[3]]
        assert await keys_of(client, "nothing/") == []


async def test_a_listing_of_several_pages_is_complete_and_may_be_left_early(bucket: Bucket, tmp_path: Path) -> None:
    keys = [f"{n % 7}/statement {n:04}.pdf" for n in range(1_050)]
    await bucket.put({key: b"" for key in keys})
    async with client_of(bucket, tmp_path) as client:
        assert sorted(await keys_of(client)) == sorted(keys)
        async for remote in client.list_objects():
            assert remote.key == "0/statement 0000.pdf"
            break
        assert await client.download_file(keys[1]) == b""


async def test_download_to_leaves_one_complete_file(bucket: Bucket, tmp_path: Path) -> None:
    body = body_of("large", 9 << 20)
    target = tmp_path / "out" / "large.bin"
    target.parent.mkdir()
    target.write_bytes(b"an older copy")
    async with client_of(bucket, tmp_path) as client:
        await client.put("large", body)
        head = await client.download_to("large", target)
    assert head.size == len(body)
    assert target.read_bytes() == body
    assert list(target.parent.iterdir()) == [target]


async def test_a_failed_download_leaves_the_older_file(bucket: Bucket, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.write_bytes(b"an older copy")
    async with client_of(bucket, tmp_path) as client:
        with pytest.raises(NoSuchKey):
            await client.download_to("missing", target)
    assert target.read_bytes() == b"an older copy"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


class Held:
    """A blocking call that waits until it is told to go on, before it does what it is there for."""

    def __init__(self, call: Callable[..., Any], of_ours: Callable[..., bool]) -> None:
        self.call, self.of_ours = call, of_ours
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.of_ours(*arguments):
            self.begun.set()
            assert self.go_on.wait(30)
        return self.call(*arguments, **named)


@pytest.mark.parametrize("held_up", ["open", "fsync", "replace"])
async def test_a_download_that_is_cancelled_leaves_no_temporary(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_up: str
) -> None:
    """The thread that opens, writes or renames its file cannot be cancelled with it."""
    place = tmp_path / "out"
    place.mkdir()
    if held_up == "open":
        held = Held(open, lambda path: str(path).endswith(".part"))
        monkeypatch.setattr(aiofiles.threadpool, "sync_open", held)
    elif held_up == "fsync":
        held = Held(os.fsync, lambda *_: True)
        monkeypatch.setattr(os, "fsync", held)
    else:
        held = Held(os.replace, lambda *_: True)
        monkeypatch.setattr(os, "replace", held)
    async with client_of(bucket, tmp_path) as client:
        await client.put("large", body_of("large", 100_000))
        task = asyncio.create_task(client.download_to("large", place / "copy"))
        assert await asyncio.to_thread(held.begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        held.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [path.name for path in place.iterdir()] == (["copy"] if held_up == "replace" else [])


async def test_an_unusual_multipart_upload_is_verified_by_its_part_size(moto: Bucket, tmp_path: Path) -> None:
    parts = [body_of("first", (5 << 20) + 77), body_of("second", 123)]
    async with moto._client() as raw:
        where = {"Bucket": moto.name, "Key": "multipart"}
        upload = (await raw.create_multipart_upload(**where))["UploadId"]
        done = [
            {
                "PartNumber": number,
                "ETag": (await raw.upload_part(**where, UploadId=upload, PartNumber=number, Body=part))["ETag"],
            }
            for number, part in enumerate(parts, 1)
        ]
        await raw.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": done})
    async with client_of(moto, tmp_path) as client:
        assert (await client.head("multipart")).etag.endswith("-2")
        assert await client.download_file("multipart") == b"".join(parts)
        await client.download_to("multipart", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"".join(parts)


async def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(bucket: Bucket, tmp_path: Path) -> None:
    async with client_of(bucket, tmp_path) as client:
        await client.put("a", b"x")
        await client.delete("a")
        await client.delete("a")
        assert await keys_of(client) == []
        for attempt in (client.head, client.download_file):
            with pytest.raises(NoSuchKey):
                await attempt("a")


async def test_buckets_are_seen(bucket: Bucket, tmp_path: Path) -> None:
    async with client_of(bucket, tmp_path) as client:
        assert await client.bucket_exists()
        assert bucket.name in await client.list_buckets()
    async with S3Client(bucket.settings(tmp_path, bucket="not-there")) as client:
        assert not await client.bucket_exists()
        with pytest.raises(NoSuchBucket):
            await keys_of(client)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"access_key": "AKIAUNKNOWN"}, AccessKeyUnknown),
        ({"secret_key": "not the secret"}, SignatureMismatch),
    ],
)
async def test_wrong_keys_are_told_apart_on_both_planes(
    weed: Bucket, tmp_path: Path, overrides: dict[str, str], expected: type[SourceError]
) -> None:
    async with client_of(weed, tmp_path, **overrides) as client:
        with pytest.raises(expected):
            await keys_of(client)
        with pytest.raises(expected):
            await client.list_buckets()
        with pytest.raises(expected):
            await client.put("a", b"x")


async def test_arguments_win_over_the_environment(
    weed: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (weed.variables(tmp_path) | {"S3_BUCKET": "from-the-environment"}).items():
        monkeypatch.setenv(name, value)
    async with S3Client.from_settings(bucket=weed.name) as client:
        assert client.bucket == weed.name
        assert await client.bucket_exists()


async def test_overrides_win_over_settings_and_wrong_ones_are_named(tmp_path: Path) -> None:
    base = Bucket("https://minio.example.com:9000", "statements").settings(tmp_path)
    other = S3Client.from_settings(base, endpoint="http://127.0.0.1:9", bucket="elsewhere").settings
    assert (other.endpoint_url, other.bucket) == ("http://127.0.0.1:9", "elsewhere")
    assert other.access_key == base.access_key
    with pytest.raises(SettingsError, match="S3_BUCKET"):
        S3Client.from_settings(base, bucket="x")


async def test_tls_is_verified_on_both_planes(weed_tls: Bucket, tmp_path: Path) -> None:
    async with client_of(weed_tls, tmp_path) as client:
        await client.put("a", b"x")
        assert await client.download_file("a") == b"x"
    async with client_of(weed_tls, tmp_path, ca_bundle=None) as client:
        with pytest.raises(CertificateUntrusted):
            await client.head("a")
        with pytest.raises(CertificateUntrusted):
            await client.put("a", b"y")
    async with client_of(weed_tls, tmp_path, ca_bundle=None, verify_ssl=False) as client:
        await client.put("a", b"z")
        assert await client.download_file("a") == b"z"


async def test_a_refused_connection_is_named_on_both_planes(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.source.client._ATTEMPTS", 1)
    async with client_of(Bucket(f"http://127.0.0.1:{unused_tcp_port}", "statements"), tmp_path) as client:
        with pytest.raises(ConnectionRefused):
            await client.head("a")
        with pytest.raises(ConnectionRefused):
            await client.put("a", b"x")


class Answering:
    """A server that gives one answer to everything, and keeps the requests."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_gets_no_request_at_all(tmp_path: Path, status: int) -> None:
    elsewhere = Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with elsewhere.serving() as target:
        redirect = f"HTTP/1.1 {status} Moved\r\nLocation: {target}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        async with Answering(redirect.encode()).serving() as endpoint:
            bucket = Bucket(endpoint, "statements")
            async with client_of(bucket, tmp_path, session_token="a token") as client:
                for attempt in (client.bucket_exists, client.list_buckets, lambda: client.head("a")):
                    with pytest.raises(RedirectRefused, match=target.removeprefix("http://")):
                        await attempt()
    assert elsewhere.requests == []


async def test_wrong_bytes_are_never_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.source.client._ATTEMPTS", 2)
    head = (
        'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: 5\r\nLast-Modified: {date}\r\nConnection: close\r\n\r\n'
    )
    answer = head.format(etag=hashlib.md5(b"hello").hexdigest(), date="Tue, 24 Nov 2026 07:10:18 GMT").encode()
    server = Answering(answer + b"jello")
    async with server.serving() as endpoint, client_of(Bucket(endpoint, "statements"), tmp_path) as client:
        with pytest.raises(DamagedTransfer):
            await client.download_file("a")
        assert len(server.requests) == 2
        with pytest.raises(DamagedTransfer):
            await client.download_to("a", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []

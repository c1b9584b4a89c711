"""What is looked at is brought along while objects are small: one request where two were needed, and never a stale byte."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ingest.errors import AccessDenied, NoSuchKey
from ingest.settings import Settings
from ingest.source.peek import MOST_PEEKED, PeekingBucket
from ingest.testing.raw_server import RawServer, Visit, raw_server

DATE = "Last-Modified: Mon, 05 Jan 2026 10:00:00 GMT\r\n"


class Objects(dict[str, bytes]):
    """A bucket by name; answers HEAD and GET, and says which requests came."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.secret = ""
        """A key whose bytes may not be read."""

    async def __call__(self, visit: Visit) -> None:
        method, target, _ = visit.head.decode("latin-1").split("\r\n")[0].split(" ")
        key = target.removeprefix("/statements/")
        self.asked.append(f"{method} {key}")
        if key not in self:
            await visit.answer(status="404 Not Found")
            return
        if method == "GET" and key == self.secret:
            await visit.answer(status="403 Forbidden")
            return
        body = self[key]
        headers = f'ETag: "{hashlib.md5(body).hexdigest()}"\r\n{DATE}'
        if method == "HEAD":
            await visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode())
        else:
            await visit.answer(body, headers=headers)


@asynccontextmanager
async def looking(objects: Objects) -> AsyncIterator[tuple[PeekingBucket, RawServer]]:
    """A bucket that has seen so many small objects that it expects the next one to be small."""
    async with raw_server(objects) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        values = {"endpoint": endpoint, "bucket": "statements", "access_key": "key", "secret_key": "secret"}
        async with PeekingBucket.open(Settings.model_validate(values).source, connections=2) as bucket:
            objects["seen"] = b"small"
            for _ in range(8):
                await bucket.peek("seen")
            assert objects.asked == ["HEAD seen"] * 8, "nothing is expected of a bucket that nobody knows"
            objects.asked.clear()
            yield bucket, server


async def take(bucket: PeekingBucket, key: str) -> bytes:
    """Looks, then fetches the version that was seen."""
    with bucket.attention(key):
        seen = await bucket.peek(key)
        return (await bucket.get(key, etag=seen.etag, max_body=seen.size)).body


async def test_a_small_object_takes_one_request() -> None:
    objects = Objects()
    objects["a"], objects["empty"], objects["most"] = b"a", b"", b"x" * MOST_PEEKED
    async with looking(objects) as (bucket, _):
        assert [await take(bucket, key) for key in ("a", "empty", "most")] == [b"a", b"", b"x" * MOST_PEEKED]
    assert objects.asked == ["GET a", "GET empty", "GET most"]


async def test_a_larger_one_is_asked_for_as_ever_and_so_are_those_behind_it() -> None:
    objects = Objects()
    objects["large"], objects["a"] = b"x" * (MOST_PEEKED + 1), b"a"
    async with looking(objects) as (bucket, _):
        assert [await take(bucket, key) for key in ("large", "a")] == [b"x" * (MOST_PEEKED + 1), b"a"]
    assert objects.asked == ["GET large", "HEAD large", "GET large", "HEAD a", "GET a"]


async def test_one_that_is_gone_says_so_at_once() -> None:
    objects = Objects()
    async with looking(objects) as (bucket, _):
        with pytest.raises(NoSuchKey):
            await take(bucket, "gone")
        objects["a"] = b"a"
        assert await take(bucket, "a") == b"a"
    assert objects.asked == ["GET gone", "GET a"]


async def test_a_refusal_is_the_download_s_own_and_the_object_is_still_described() -> None:
    objects = Objects()
    objects["secret"], objects.secret = b"s", "secret"
    async with looking(objects) as (bucket, _):
        with bucket.attention("secret"):
            assert (await bucket.peek("secret")).size == 1
            with pytest.raises(AccessDenied):
                await bucket.get("secret", max_body=1)
    assert objects.asked == ["GET secret", "HEAD secret", "GET secret"]


async def test_what_was_brought_is_given_out_once_and_as_the_version_it_is() -> None:
    objects = Objects()
    objects["a"] = b"first"
    async with looking(objects) as (bucket, _):
        with bucket.attention("a"):
            first = await bucket.peek("a")
            objects["a"] = b"newer"
            newer = hashlib.md5(b"newer").hexdigest()
            assert (await bucket.get("a", etag=newer, max_body=5)).body == b"newer", "not what is in hand"
            await bucket.peek("a")
        assert (await bucket.get("a", etag=newer, max_body=5)).body == b"newer", "let go with the attention"
    assert first.etag == hashlib.md5(b"first").hexdigest()
    assert objects.asked == ["GET a"] * 4

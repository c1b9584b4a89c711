"""The read path of a bucket: on two real servers, on one that lies, and through a proxy."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest import errors
from ingest.http.exchange import Response
from ingest.settings import Settings
from ingest.source.bucket import Bucket
from ingest.source.endpoint import Endpoint
from ingest.testing.raw_server import RawServer, Script, Visit, raw_server
from tests.fixtures import servers

ODD_KEYS = ["a b", "a+b", "100%", "%2F", "é", "a?b#c&d=e", "'\"<>&amp;", "~tilde", "a\\b", "\u202e", "emoji \U0001f600"]
VERY_ODD_KEYS = [*ODD_KEYS, "a//b", "/leading", "trailing/", "a/../b", ".", "tab\t", "\x7f", "x" * 1024]
ERROR = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>'


@asynccontextmanager
async def against(script: Script, **overrides: object) -> AsyncIterator[tuple[Bucket, RawServer]]:
    async with raw_server(script) as server:
        values: dict[str, object] = {
            "endpoint": f"http://127.0.0.1:{server.port}",
            "bucket": "statements",
            "access_key": "key",
            "secret_key": "secret",
        }
        async with Bucket.open(Settings.model_validate(values | overrides).source, connections=2) as bucket:
            yield bucket, server


class Sink:
    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def __call__(self, chunks: list[bytes]) -> None:
        self.pieces.extend(chunks)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@pytest.fixture(params=["weed", "moto"])
def real(request: pytest.FixtureRequest) -> servers.Bucket:
    """A fresh bucket on each real server in turn."""
    bucket: servers.Bucket = request.getfixturevalue(request.param)
    return bucket


async def round_trip(prepared: servers.Bucket, tmp_path: Path, keys: list[str]) -> None:
    await prepared.put({key: f"body of {key}".encode() for key in keys})
    async with Bucket.open(prepared.settings(tmp_path).source, connections=8) as bucket:

        async def one(key: str) -> Response:
            head = await bucket.head(key)
            return await bucket.get(key, etag=head.etag, max_body=2000)

        answers = await asyncio.gather(*(one(key) for key in keys))
        assert [answer.body for answer in answers] == [f"body of {key}".encode() for key in keys]


async def test_odd_keys_on_seaweedfs(weed: servers.Bucket, tmp_path: Path) -> None:
    await round_trip(weed, tmp_path, [key for key in ODD_KEYS if "\\" not in key])


async def test_very_odd_keys_on_moto(moto: servers.Bucket, tmp_path: Path) -> None:
    await round_trip(moto, tmp_path, VERY_ODD_KEYS)


async def test_the_whole_read_path(real: servers.Bucket, tmp_path: Path) -> None:
    """List, head, get, range and stream of one large object, against what was put."""
    body = os.urandom(9 << 20)
    await real.put({"loans/big.bin": body, "loans/empty": b"", "other/x": b"x"})
    async with Bucket.open(real.settings(tmp_path).source, connections=4) as bucket:
        page = await bucket.list_page("loans/", max_keys=1)
        assert b"<IsTruncated>true</IsTruncated>" in page.body
        assert b"loans/big.bin" in page.body or b"loans%2Fbig.bin" in page.body
        after = await bucket.list_page("loans/", start_after="loans/big.bin")
        assert b"big.bin</Key>" not in after.body
        assert b"empty</Key>" in after.body
        folded = await bucket.list_page(delimiter="/")
        assert folded.body.count(b"<CommonPrefixes>") == 2

        head = await bucket.head("loans/big.bin")
        assert head.size == len(body)
        assert head.etag.split("-")[0].isalnum()
        assert abs(datetime.now(UTC) - head.last_modified) < timedelta(minutes=5)
        whole = await bucket.get("loans/big.bin", etag=head.etag, max_body=len(body))
        assert hashlib.md5(whole.body).hexdigest() == hashlib.md5(body).hexdigest()
        assert (await bucket.get("loans/empty", max_body=0)).body == b""

        streamed, ranged, straight = Sink(), bytearray(7_999_001), bytearray(len(body))
        await bucket.stream("loans/big.bin", etag=head.etag, on_chunks=streamed)
        await bucket.get_range("loans/big.bin", etag=head.etag, first=1_000, into=memoryview(ranged))
        await bucket.get_into("loans/big.bin", etag=head.etag, into=memoryview(straight))
        await bucket.get_into("loans/empty", etag=hashlib.md5().hexdigest(), into=memoryview(b""))
        assert streamed.body == straight == body
        assert ranged == body[1_000:8_000_001]


async def test_refusals_of_real_servers(real: servers.Bucket, tmp_path: Path) -> None:
    await real.put({"key": b"first"})
    sink = Sink()
    async with Bucket.open(real.settings(tmp_path).source, connections=4) as bucket:
        old = (await bucket.head("key")).etag
        await real.put({"key": b"second"})
        with pytest.raises(errors.NoSuchKey):
            await bucket.get("nothing", max_body=10)
        with pytest.raises(errors.NoSuchKey):
            await bucket.head("nothing")
        with pytest.raises(errors.ObjectChanged):
            await bucket.get("key", etag=old, max_body=10)
        with pytest.raises(errors.ObjectChanged):
            await bucket.stream("key", etag=old, on_chunks=sink)
        new = (await bucket.head("key")).etag
        with pytest.raises(errors.ObjectChanged):
            await bucket.get_into("key", etag=old, into=memoryview(bytearray(6)))
        for other_length in (5, 7):
            with pytest.raises(errors.ObjectChanged):
                await bucket.get_into("key", etag=new, into=memoryview(bytearray(other_length)))
        with pytest.raises(errors.RangeNotSatisfiable):
            await bucket.get_range("key", etag=new, first=100, into=memoryview(bytearray(101)))
        with pytest.raises(errors.UnexpectedResponse, match="more than the 3 bytes"):
            await bucket.get("key", max_body=3)
    async with Bucket.open(real.settings(tmp_path, bucket="no-such-bucket").source, connections=1) as bucket:
        with pytest.raises(errors.NoSuchBucket):
            await bucket.list_page()
    assert sink.pieces == []


async def test_wrong_credentials_on_a_real_server(weed: servers.Bucket, tmp_path: Path) -> None:
    async with Bucket.open(weed.settings(tmp_path, access_key="nobody").source, connections=1) as bucket:
        with pytest.raises(errors.AccessKeyUnknown):
            await bucket.list_page()
    async with Bucket.open(weed.settings(tmp_path, secret_key="canary-wrong").source, connections=1) as bucket:
        with pytest.raises(errors.SignatureMismatch) as raised:
            await bucket.list_page()
        assert "canary" not in f"{raised.value!r}"


async def test_a_200_that_is_an_error_document() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(ERROR)

    async with against(script) as (bucket, _):
        for request in (bucket.list_page(), bucket.get("k", etag="e", max_body=1000), bucket.get("k", max_body=1000)):
            with pytest.raises(errors.SlowDown):
                await request


async def test_an_object_that_looks_like_an_error_document_is_an_object() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(ERROR, headers='ETag: "e"\r\n')

    async with against(script) as (bucket, _):
        assert (await bucket.get("k", etag="e", max_body=1000)).body == ERROR


async def test_a_server_that_ignores_if_match_mixes_no_versions() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"newer", headers='ETag: "newer"\r\n')

    sink = Sink()
    async with against(script) as (bucket, _):
        with pytest.raises(errors.ObjectChanged):
            await bucket.get("k", etag="older", max_body=100)
        with pytest.raises(errors.ObjectChanged):
            await bucket.stream("k", etag="older", on_chunks=sink)
    assert sink.pieces == []


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", ""),
        ("206 Partial Content", ""),
        ("206 Partial Content", "Content-Range: bytes 0-3/9\r\n"),
        ("206 Partial Content", "Content-Range: bytes 5-9/10\r\n"),
        ("206 Partial Content", "Content-Range: bytes 5-88/100\r\n"),
    ],
    ids=["ignored", "unnamed", "other start", "other length", "longer"],
)
async def test_a_wrong_range_is_refused(status: str, headers: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"12345", status=status, headers=f'ETag: "e"\r\n{headers}')

    async with against(script) as (bucket, _):
        with pytest.raises(errors.UnexpectedResponse):
            await bucket.get_range("k", etag="e", first=5, into=memoryview(bytearray(4)))


async def test_what_head_says() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/12\r\n"
            b'ETag: "e-3"\r\nLast-Modified: Tue, 24 Nov 2026 07:30:52 GMT\r\nx-amz-mp-parts-count: 3\r\n'
            b"x-amz-storage-class: GLACIER\r\nx-amz-checksum-crc32c: abc=-3\r\nx-amz-checksum-type: COMPOSITE\r\n"
            b"x-amz-server-side-encryption: aws:kms\r\nx-amz-version-id: v1\r\n\r\n"
        )

    async with against(script) as (bucket, server):
        head = await bucket.head("k", part_number=1)
        assert b"/statements/k?partNumber=1 " in server.heads[0]
    assert (head.size, head.part_size, head.parts_count, head.etag) == (12, 5, 3, "e-3")
    assert (head.storage_class, head.version_id, head.sse) == ("GLACIER", "v1", "aws:kms")
    assert head.etag_is_opaque
    assert (head.checksums, head.checksum_type) == ({"crc32c": "abc=-3"}, "COMPOSITE")


async def test_a_head_without_its_facts_is_refused() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    async with against(script) as (bucket, _):
        with pytest.raises(errors.UnexpectedResponse, match="lacks"):
            await bucket.head("k")


def test_virtual_hosted_addressing_moves_the_bucket_to_the_host() -> None:
    settings = Settings(endpoint="minio.example.com:9000", bucket="statements", addressing_style="virtual")
    endpoint = Endpoint.from_settings(settings.source)
    assert (endpoint.host_header, endpoint.bucket_path, endpoint.key_root) == (
        "statements.minio.example.com:9000",
        "/",
        "/",
    )


async def test_what_is_sent() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"x", headers='ETag: "e"\r\n')

    async with against(script, session_token="the-token") as (bucket, server):
        await bucket.get("a/../b//c", max_body=10)
        assert server.heads[0].startswith(b"GET /statements/a/../b//c HTTP/1.1\r\n")
        assert b"x-amz-security-token: the-token\r\n" in server.heads[0]
        assert b"accept-encoding: identity\r\n" in server.heads[0]
        await bucket.list_page("a b/", start_after="a b/é", max_keys=5)
        asked = b"encoding-type=url&list-type=2&max-keys=5&prefix=a%20b%2F&start-after=a%20b%2F%C3%A9"
        assert server.heads[1].startswith(b"GET /statements?" + asked + b" HTTP/1.1\r\n")


async def test_connections_may_change_at_run_time() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"x", headers='ETag: "e"\r\n')

    async with against(script) as (bucket, server):
        bucket.connections = 5
        await asyncio.gather(*(bucket.get("k", max_body=1) for _ in range(20)))
        assert server.connections <= 5
        bucket.connections = 1
        await asyncio.gather(*(bucket.get("k", max_body=1) for _ in range(20)))
        assert bucket.connections == 1


async def tunnel(visit: Visit) -> None:
    """A proxy: passes a CONNECT on, answers anything else itself."""
    if not visit.head.startswith(b"CONNECT "):
        await visit.answer(b"by proxy", headers='ETag: "e"\r\n')
        return
    if b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" not in visit.head:
        await visit.answer(status="407 Proxy Authentication Required")
        return
    host, port = visit.head.split()[1].decode().rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    await visit.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
        target.close()

    await asyncio.gather(pump(reader, visit.writer), pump(visit.reader, writer))


async def test_tls_goes_through_a_tunnel(
    weed_tls: servers.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await weed_tls.put({"k": b"through the tunnel"})
    async with raw_server(tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
        async with Bucket.open(weed_tls.settings(tmp_path).source, connections=2) as bucket:
            assert (await bucket.get("k", max_body=100)).body == b"through the tunnel"
        assert [head.split()[0] for head in proxy.heads] == [b"CONNECT"]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with Bucket.open(weed_tls.settings(tmp_path).source, connections=2) as bucket:
            with pytest.raises(errors.ConnectionRefused, match="407"):
                await bucket.get("k", max_body=100)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with Bucket.open(weed_tls.settings(tmp_path).source, connections=2) as bucket:
            assert (await bucket.get("k", max_body=100)).body == b"through the tunnel"
        assert len(proxy.heads) == 2


async def test_plain_http_is_sent_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(tunnel) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        settings = Settings.model_validate(
            {"endpoint": "http://minio.invalid:9000", "bucket": "statements", "access_key": "k", "secret_key": "s"}
        )
        async with Bucket.open(settings.source, connections=1) as bucket:
            assert (await bucket.get("a b", max_body=100)).body == b"by proxy"
        assert proxy.heads[0].startswith(b"GET http://minio.invalid:9000/statements/a%20b HTTP/1.1\r\n")
        assert b"host: minio.invalid:9000\r\n" in proxy.heads[0]


async def test_refused_credentials_are_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the AWS chain, a refusal reloads the keys once, and the caller's next try signs with the new ones."""

    async def script(visit: Visit) -> None:
        if b"Credential=old/" in visit.head:
            await visit.answer(b"<Error><Code>InvalidAccessKeyId</Code></Error>", status="403 Forbidden")
        else:
            await visit.answer(b"x", headers='ETag: "e"\r\n')

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with against(script, access_key=None, secret_key=None) as (bucket, server):
        with pytest.raises(errors.AccessKeyUnknown):
            await bucket.get("k", max_body=10)  # the chain has nothing newer
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
        with pytest.raises(errors.CredentialsExpired) as raised:
            await bucket.get("k", max_body=10)
        assert raised.value.retryable
        assert (await bucket.get("k", max_body=10)).body == b"x"
        assert b"Credential=new/" in server.heads[-1]


async def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(errors.CredentialsError, match="S3_ACCESS_KEY"):
        async with against(Visit.answer, access_key=None, secret_key=None):
            pass

"""What a hostile server may send: document types, and bodies without an end. Memory and disk stay bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.engine.options import SyncOptions
from ingest.errors import IngestError
from ingest.jobs.sync import sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.source.bucket import Bucket as OpenBucket
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, etag_of
from ingest.testing.raw_server import Script, Visit, raw_server
from tests.fixtures.servers import Bucket

MOST = 64 << 20
"""Bytes after which these servers give up: no client of ours may come that far."""
BODY = b"x"
CHUNK = b"<Contents>" + b" " * (1 << 16)


def listing() -> bytes:
    """Of a bucket with one object, `k`."""
    server = MemoryS3()
    server.put("k", BODY)
    return server.listing({})


async def sync_from(script: Script, tmp_path: Path) -> RunReport:
    async with raw_server(script) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path / "data")
        return await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())


DOCTYPES = {
    "entity": '<!DOCTYPE r [<!ENTITY name "statements">]>',
    "external": '<!DOCTYPE r SYSTEM "file:///etc/passwd">',
    "laughs": '<!DOCTYPE r [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
}


@pytest.mark.parametrize("doctype", DOCTYPES.values(), ids=DOCTYPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_a_listing_with_a_document_type_is_refused(tmp_path: Path, doctype: str, encoding: str) -> None:
    head, _, rest = listing().decode().partition("?>")
    body = (head + "?>" + doctype + rest).replace("UTF-8", encoding).encode(encoding)
    report = await sync_from(lambda visit: visit.answer(body), tmp_path)
    assert report.error is not None
    assert (report.exit_code, report.error.code, report.counts.listed) == (4, "listing", 0)
    assert "root:" not in report.error.message


async def test_an_error_with_a_document_type_says_nothing(tmp_path: Path) -> None:
    body = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><Error><Code>AccessDenied</Code><Message>&x;</Message></Error>'
    report = await sync_from(lambda visit: visit.answer(body, status="403 Forbidden"), tmp_path)
    assert report.error is not None
    assert report.error.code == "unexpected_response"  # what it says is not read
    assert "root:" not in report.error.message


async def endless(visit: Visit, sent: list[int], status: str, headers: str = "") -> None:
    """Streams until the client goes away."""
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    await visit.send(head.encode())
    if visit.head.startswith(b"HEAD"):
        return
    while sent[0] < MOST:
        await visit.send(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        sent[0] += len(CHUNK)
    visit.hang_up()


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
async def test_a_listing_without_an_end(tmp_path: Path, status: str) -> None:
    sent = [0]
    report = await sync_from(lambda visit: endless(visit, sent, status), tmp_path)
    assert report.exit_code == 4, report.error
    assert report.counts.gone == 0
    assert sent[0] < MOST


async def test_an_object_without_an_end(tmp_path: Path) -> None:
    sent = [0]

    async def script(visit: Visit) -> None:
        if b"list-type" in visit.head:
            await visit.answer(listing())
        else:
            await endless(visit, sent, "200 OK", f'ETag: "{etag_of(BODY)}"\r\n')

    report = await sync_from(script, tmp_path)
    assert report.counts.failed == 1
    assert sent[0] < MOST
    assert [path for path in (tmp_path / "data" / "statements").rglob("*") if path.is_file()] == []


async def test_a_header_without_an_end(tmp_path: Path) -> None:
    sent = [0]

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while sent[0] < MOST:
            await visit.send(b"x" * (1 << 16))
            sent[0] += 1 << 16
        visit.hang_up()

    async with raw_server(script) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
        async with OpenBucket.open(settings.source, connections=1) as reader:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - by whatever name: what counts is that it ends
                await reader.head("k")
    assert isinstance(raised.value, IngestError)
    assert sent[0] < MOST

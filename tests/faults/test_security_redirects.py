"""A redirect to another host gets no request at all: credentials go where the settings say, and nowhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingest.engine.options import SyncOptions
from ingest.errors import IngestError
from ingest.jobs.sync import sync
from ingest.observe.progress import Silence
from ingest.source.client import S3Client
from ingest.tasks.stop import Stop
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.servers import Bucket

LISTING = b"""<?xml version="1.0"?><ListBucketResult><Name>statements</Name><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>
<Contents><Key>k</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;
</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>""".replace(
    b"\n</ETag>", b"</ETag>"
)
STATUSES = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]

Call = Callable[[S3Client], Awaitable[object]]
READ: dict[str, Call] = {
    "head": lambda client: client.head("k"),
    "get": lambda client: client.download_file("k"),
}
CONTROL: dict[str, Call] = {
    "bucket_exists": lambda client: client.bucket_exists(),
    "list_buckets": lambda client: client.list_buckets(),
    "put": lambda client: client.put("k", b"body"),
    "delete": lambda client: client.delete("k"),
}


async def other_hosts_requests(status: str, call: Call, tmp_path: Path) -> int:
    async with raw_server(lambda visit: visit.answer()) as other:

        async def redirects(visit: Visit) -> None:
            target = visit.head.split(b" ", 2)[1].decode()
            # MinIO and AWS name the region and the endpoint as well, which some clients follow by themselves.
            more = "x-amz-bucket-region: eu-central-1\r\n"
            body = b"<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1:%d</Endpoint></Error>" % other.port
            headers = f"Location: http://localhost:{other.port}{target}\r\n{more}"
            await visit.answer(b"" if visit.head.startswith(b"HEAD") else body, status=status, headers=headers)

        async with raw_server(redirects) as server:
            settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
            async with S3Client(settings) as client:
                with pytest.raises(IngestError):
                    await call(client)
            assert server.heads
        return other.connections


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", READ.values(), ids=READ)
async def test_the_read_path(tmp_path: Path, status: str, call: Call) -> None:
    assert await other_hosts_requests(status, call, tmp_path) == 0


@pytest.mark.parametrize("status", STATUSES[::3])
@pytest.mark.parametrize("call", CONTROL.values(), ids=CONTROL)
async def test_the_control_plane(tmp_path: Path, status: str, call: Call) -> None:
    assert await other_hosts_requests(status, call, tmp_path) == 0


@pytest.mark.parametrize("listing", [True, False], ids=["listing", "object"])
async def test_a_sync(tmp_path: Path, listing: bool) -> None:
    async with raw_server(lambda visit: visit.answer()) as other:

        async def redirects(visit: Visit) -> None:
            if b"list-type" in visit.head and not listing:
                await visit.answer(LISTING)
                return
            headers = f"Location: http://localhost:{other.port}/\r\n"
            await visit.answer(status="307 Temporary Redirect", headers=headers)

        async with raw_server(redirects) as server:
            settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
            report = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
            assert report.exit_code == 4, report.error
            assert report.error is not None
            assert report.error.code == "redirect"
        assert (other.connections, other.heads) == (0, [])

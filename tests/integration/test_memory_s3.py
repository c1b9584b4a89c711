"""`ingest.testing` as others use it: from any client, with and without a loop, with TLS, with faults on order."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aioboto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ingest import BlockingS3Client, RunStatus, S3Client, sync
from ingest.errors import ConnectionLost, NoSuchBucket
from ingest.testing import Address, Fault, MemoryS3, faults, raw_server, running, serving
from tests.fixtures.servers import Certificates


def boto(address: Address) -> Any:
    keys = {"aws_access_key_id": address.access_key, "aws_secret_access_key": address.secret_key}
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return aioboto3.Session().client(
        "s3", endpoint_url=address.endpoint, region_name="us-east-1", config=config, **keys
    )


async def test_another_client_puts_lists_gets_and_deletes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of a file" * 1000)
    async with (
        serving(MemoryS3(page=2, others=[MemoryS3(bucket_name="archive")])) as server,
        boto(server.bucket) as client,
    ):
        for n in range(5):
            await client.put_object(Bucket="statements", Key=f"a/{n} é+%", Body=b"x" * n)
        with (tmp_path / "file").open("rb") as body:  # it waits for a word before it sends: Expect
            await client.put_object(Bucket="archive", Key="b", Body=body)
        assert server.others[0].bodies == {"b": b"of a file" * 1000}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="statements", Prefix="a/")
        found = [each async for page in pages for each in page["Contents"]]
        assert [(each["Key"], each["Size"]) for each in found] == [(f"a/{n} é+%", n) for n in range(5)]
        assert (
            await (await client.get_object(Bucket="statements", Key="a/4 é+%", Range="bytes=1-2"))["Body"].read()
        ) == b"xx"
        assert [each["Name"] for each in (await client.list_buckets())["Buckets"]] == ["statements", "archive"]
        await client.delete_object(Bucket="statements", Key="a/4 é+%")
        assert len(server.bodies) == 4


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.get_object(Bucket="statements", Key="nosuch"), "NoSuchKey"),
        (lambda client: client.get_object(Bucket="nosuch", Key="a"), "NoSuchBucket"),
        (lambda client: client.put_object(Bucket="nosuch", Key="a", Body=b""), "NoSuchBucket"),
        (lambda client: client.head_bucket(Bucket="nosuch"), "404"),
        (lambda client: client.get_object_tagging(Bucket="statements", Key="a"), "NotImplemented"),
        (lambda client: client.create_multipart_upload(Bucket="statements", Key="a"), "NotImplemented"),
    ],
)
async def test_what_it_has_not_it_refuses_as_s3_does(call: Any, code: str) -> None:
    async with serving(MemoryS3()) as server, boto(server.bucket) as client:
        server.put("a", b"x")
        with pytest.raises(ClientError) as caught:
            await call(client)
        assert caught.value.response["Error"]["Code"] == code
        assert server.bodies == {"a": b"x"}


def test_a_fault_keeps_what_was_to_be_changed() -> None:
    with running(MemoryS3()) as server:
        server.put("a", b"x")
        server.faults += [Fault("put", faults.reset), Fault("delete", faults.saying("403 Forbidden", "AccessDenied"))]
        with BlockingS3Client(server.bucket.settings(), timeout=60) as client:
            with pytest.raises(ConnectionLost):
                client.put("a", b"y")
            with pytest.raises(Exception, match="AccessDenied"):
                client.delete("a")
        assert server.bodies == {"a": b"x"}
        assert server.keys("put") == ["a"] * server.count("put", "a")


async def test_it_speaks_tls(certificates: Certificates) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.chain, certificates.key)
    async with serving(MemoryS3(), tls=tls) as server:
        server.put("a", b"x")
        assert server.endpoint.startswith("https://")
        async with S3Client(server.bucket.settings(ca_bundle=certificates.ca)) as client:
            assert await client.download_file("a") == b"x"


async def test_a_run_needs_nothing_else(tmp_path: Path) -> None:
    async with serving(MemoryS3(by_directory=True)) as server:
        server.fill({"a/1": b"x", "b": b"y"})
        report = await sync(server.bucket.settings(tmp_path))
        assert (report.status, report.counts.downloaded) == (RunStatus.OK, 2)
        assert (tmp_path / "statements" / "a" / "1").read_bytes() == b"x"
        with pytest.raises(NoSuchBucket):
            (await sync(server.bucket.settings(tmp_path / "other", bucket="nosuch"))).raise_for_status()


async def test_raw_bytes_are_answered_as_they_are_told() -> None:
    async with raw_server(lambda visit: visit.answer(b"hello", headers='ETag: "x"\r\n')) as server:
        settings = Address(f"http://127.0.0.1:{server.port}").settings()
        async with S3Client(settings) as client:
            assert await client.download_file("a") == b"hello"
    assert server.heads[0].startswith(b"GET /statements/a HTTP/1.1\r\n")

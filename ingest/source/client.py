"""`S3Client`, for other programs: pooled connections, checked downloads, retries.

The read path is `Bucket`; the control plane (buckets, put, delete) is aioboto3.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypedDict, TypeVar, Unpack, cast

from pydantic import SecretStr

from ingest.errors import SettingsError, SourceError
from ingest.model import RemoteObject, Shard
from ingest.observe.logs import log
from ingest.plan.checks import Hasher
from ingest.plan.etags import etag_of
from ingest.settings import Settings
from ingest.settings.secret import wrapped
from ingest.settings.sendable import bucket_name
from ingest.source.bucket import RawPage
from ingest.source.checksums import check_for_headers, stored_check
from ingest.source.control import ControlPlane
from ingest.source.downloads import Target, download_to_file, download_to_path, require_proof
from ingest.source.endpoint import quote_key
from ingest.source.listing import pages
from ingest.source.object_head import ObjectHead, stored_in
from ingest.source.paths import is_url
from ingest.source.patient import PatientBucket
from ingest.source.retries import retried
from ingest.system.redaction import protecting

T = TypeVar("T")
MOST_BYTES_IN_MEMORY = 2 << 30
"""Bytes up to which `S3Client.download_file` takes an object; `S3Client.download_to` has no limit."""
_ATTEMPTS = 4


class Given(TypedDict, total=False):
    """The arguments of a client: what is left out, or None, is taken from the environment (`docs/library.md`)."""

    endpoint: str | None
    """``host:port``, or a URL."""
    access_key: str | SecretStr | None
    secret_key: str | SecretStr | None
    session_token: str | SecretStr | None
    """Never taken from elsewhere beside keys that are given."""
    bucket: str | None
    """Where a call says no other."""
    secure: bool | None
    """HTTPS."""
    verify_ssl: bool | None
    ca_bundle: str | Path | None
    client_cert: str | Path | None
    client_key: str | Path | None
    client_key_password: str | SecretStr | None
    region: str | None
    addressing_style: Literal["path", "virtual"] | None
    patience: timedelta | str | None
    """How long a server that is away is waited for."""


class S3Client:
    """Buckets of one S3 server.

    >>> async with S3Client(endpoint="minio.example.com:9000", bucket="statements") as client:
    ...     async for remote in client.list_objects("2026/"):
    ...         body = await client.download_file(remote.key)

    Each call is about the client's bucket, or the one that it names. A key (or prefix) may be written as
    ``s3://bucket/key``, too, and is literal in it. Every method raises `SourceError` (see its subclasses) when the
    server fails; transient faults are retried first, with jitter, and each retry is logged. Outside of its
    ``async with`` all raise `RuntimeError`. `BlockingS3Client` is the same for programs without a loop.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 32, **given: Unpack[Given]) -> None:
        """From `settings`, or from the environment; what is given by name wins over both. At most `connections`
        requests are under way at once.

        Raises:
            SettingsError: a value is wrong; the message names it and what it wants.
        """
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"settings are ingest.Settings, not {type(settings).__name__}; an address is endpoint=…")
        given = without_secrets(given)
        self.settings = _settings_of(settings, given)
        self._connections = connections
        self._stack = AsyncExitStack()
        self._control: ControlPlane | None = None
        self._readers: dict[str, PatientBucket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **given: Unpack[Given]) -> Self:
        """The same."""
        given = without_secrets(given)
        return cls(settings, **given)

    def __repr__(self) -> str:
        return shown(self, vars(self).get("settings"))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an S3Client holds secrets and connections: each process makes its own")

    async def __aenter__(self) -> Self:
        if self._control is not None:
            raise RuntimeError("this S3Client is already open")
        self.settings.required("endpoint")  # the first thing that is missing is the first that is named
        async with AsyncExitStack() as stack:
            stack.enter_context(protecting(self.settings.secrets))
            control = await stack.enter_async_context(ControlPlane(self.settings.source))
            if self.settings.bucket:
                self._readers[self.bucket] = await stack.enter_async_context(self._reading(self.bucket))
            self._control, self._stack, self._loop = control, stack.pop_all(), asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control, self._readers = None, {}
        await self._stack.__aexit__(kind, error, trace)

    @property
    def bucket(self) -> str:
        """Where a call says no other. Raises `SettingsError` where there is none."""
        return self.settings.required("bucket")

    async def bucket_exists(self, bucket: str | None = None) -> bool:
        """Raises `AccessDenied` when the key may not know."""
        from botocore.exceptions import ClientError

        try:
            await self._call("head_bucket", Bucket=self._bucket_of(bucket))
        except SourceError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    async def list_buckets(self) -> list[str]:
        """The names of all that the key may see."""
        answer = await self._call("list_buckets")
        return [found["Name"] for found in answer.get("Buckets", [])]

    async def list_objects(self, prefix: str = "", *, bucket: str | None = None) -> AsyncGenerator[RemoteObject, None]:
        """Every object whose key starts with `prefix`, in the server's order.

        Keys that are not UTF-8 have no name to give out: each is logged as ``undecodable_key``.
        """
        async with aclosing(self.list_pages(prefix, bucket=bucket)) as found:
            async for page in found:
                for remote in page:
                    yield remote

    async def list_pages(
        self, prefix: str = "", *, bucket: str | None = None
    ) -> AsyncGenerator[list[RemoteObject], None]:
        """The same, as many at once as the server sends: up to 1,000, or none."""
        name, prefix = self._meant(prefix, bucket)
        reader = await self._reader(name)

        async def ask(*, token: str, start_after: str) -> RawPage:
            return await _retried(lambda: reader.list_page(prefix, token=token, start_after=start_after))

        async with aclosing(pages(ask, name, Shard(prefix))) as found:
            async for listed in found:
                for raw in listed.page.undecodable:
                    log().warning("undecodable_key", key=repr(raw)[2:-1])
                yield [remote._replace(etag=etag_of(remote.etag)) for remote in listed.page.objects]

    async def head(self, key: str, *, bucket: str | None = None) -> ObjectHead:
        """Raises `NoSuchKey` when the object does not exist."""
        name, key = self._meant(key, bucket)
        reader = await self._reader(name)
        return await _retried(lambda: reader.head(key))

    async def download_file(self, key: str, *, bucket: str | None = None) -> bytes:
        """The object's bytes, checked against what the server says it holds. For objects that fit in memory."""
        name, key = self._meant(key, bucket)
        reader = await self._reader(name)

        async def attempt() -> bytes:
            response = await reader.get(key, max_body=MOST_BYTES_IN_MEMORY)
            body, headers = response.body, response.headers
            etag = reader.version_of(headers, len(body))
            check = await reader.sharpen(check_for_headers(headers, etag, len(body)), key, etag)
            stored = stored_check(*stored_in(headers), etag, len(body))
            hashers = [Hasher(each) for each in (check, stored) if each is not None]
            for hasher in hashers:
                await asyncio.to_thread(hasher.update, body)
            require_proof(hashers, len(body), len(body), key)
            return body

        return await _retried(attempt)

    async def download_to(self, key: str, target: Target, *, bucket: str | None = None) -> ObjectHead:
        """Streams an object of any size into a file, and checks it; about a megabyte at a time is in memory.

        At a path, the file appears complete, checked and durable, or not at all. A file that is open for bytes gets
        each of them once, in order and by another thread; that they were right shows at the end. It is not closed.

        Raises:
            DamagedTransfer: the bytes are not what the server says it holds. OSError: the file cannot be written.
        """
        name, key = self._meant(key, bucket)
        reader = await self._reader(name)
        if isinstance(target, str | os.PathLike):
            path = Path(target)
            return await _retried(lambda: download_to_path(reader, key, path))
        if not hasattr(target, "write"):
            raise TypeError(f"a target is a path, or a file open for bytes, not {type(target).__name__}")
        return await download_to_file(reader, key, target, attempts=_ATTEMPTS)

    async def put(self, key: str, body: bytes | bytearray | memoryview, *, bucket: str | None = None) -> None:
        """Raises `NoSuchKey` when the text cannot be a key."""
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError(f"a body is bytes, not {type(body).__name__}")
        name, key = self._meant(key, bucket)
        quote_key(key)
        await self._call("put_object", Bucket=name, Key=key, Body=bytes(body))

    async def delete(self, key: str, *, bucket: str | None = None) -> None:
        """Deletes the object; one that does not exist is no error (S3 API, DeleteObject). Raises as `put` does."""
        name, key = self._meant(key, bucket)
        quote_key(key)
        await self._call("delete_object", Bucket=name, Key=key)

    def _meant(self, key: str, bucket: str | None) -> tuple[str, str]:
        """The bucket and the key of it, or the prefix.

        Raises:
            SettingsError: no bucket is named, or two are.
        """
        if not isinstance(key, str):
            raise TypeError(f"keys and prefixes are str, not {type(key).__name__}")
        if is_url(key):
            named, _, key = key.partition("://")[2].partition("/")
            if bucket not in (None, named):
                raise SettingsError(f"s3://{named}/{key} is not in the bucket that was said, {bucket!r}")
            bucket = named
        return self._bucket_of(bucket), key

    def _bucket_of(self, name: str | None) -> str:
        if name is None:
            return self.bucket
        try:
            if found := bucket_name(name):
                return found
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{name!a} is no bucket: {error}") from None
        raise SettingsError("an empty name names no bucket")

    async def _reader(self, bucket: str) -> PatientBucket:
        """The read path of a bucket. By path addressing all of them share the connections of the first."""
        self._opened()
        if found := self._readers.get(bucket):
            return found
        if self._readers and self.settings.addressing_style == "path":
            return next(iter(self._readers.values())).of(bucket)
        opened = await self._stack.enter_async_context(self._reading(bucket))
        return self._readers.setdefault(bucket, opened)

    def _reading(self, bucket: str) -> AbstractAsyncContextManager[PatientBucket]:
        return PatientBucket.open(self.settings.source.of(bucket), connections=self._connections)

    async def _call(self, operation: str, **parameters: object) -> Any:
        """One call of the control plane, retried."""
        control = self._opened()
        return await _retried(lambda: control.call(operation, **parameters))

    def _opened(self) -> ControlPlane:
        if self._control is None:
            raise RuntimeError("this S3Client is not open: use it inside `async with S3Client(...) as client`")
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("this S3Client was opened in another event loop: each loop opens its own")
        return self._control


async def _retried(attempt: Callable[[], Awaitable[T]]) -> T:
    return await retried(attempt, attempts=_ATTEMPTS)


def shown(client: object, settings: Settings | None) -> str:
    """A client for people; also one that is still being made, when it has no settings yet."""
    where = "" if settings is None else f" of {settings.bucket!r} at {settings.endpoint!r}"
    return f"<{type(client).__name__}{where}>"


def without_secrets(given: Given) -> Given:
    """What is given, with its secrets wrapped."""
    return cast(Given, wrapped({name: value for name, value in given.items() if value is not None}))


def _settings_of(settings: Settings | None, given: Given) -> Settings:
    found = Settings.load(given) if settings is None else settings.replace(**given) if given else settings
    if given.keys() & {"access_key", "secret_key"} and "session_token" not in given:
        return found.replace(session_token=None)  # it belongs to other keys
    return found

"""`S3Client`, for other programs: one bucket, pooled connections, checked downloads, retries.

The read path is `BucketReader`; the control plane (buckets, put, delete) is aioboto3.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.sax.saxutils import escape

from ingest.errors import ConnectionLost, DamagedTransfer, SourceError, UnexpectedResponse
from ingest.model import Page, RemoteObject, Shard
from ingest.plan.checks import Hasher, check_for
from ingest.settings import Settings
from ingest.source.credentials import credential_source
from ingest.source.listing import pages
from ingest.source.reader import BucketReader, ObjectHead, RawPage
from ingest.source.responses import error_from_response
from ingest.source.retries import retried
from ingest.source.tls import ssl_context

_ATTEMPTS = 4


class S3Client:
    """An S3 bucket.

    >>> async with S3Client.from_settings(bucket="statements") as client:
    ...     async for remote in client.list_objects("2026/"):
    ...         body = await client.download_file(remote.key)

    Every method raises `SourceError` (see its subclasses) when the server fails; transient faults are retried first.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **overrides: object) -> S3Client:
        """From `settings`, or from the environment; `overrides` (fields of `Settings`) win over both."""
        if settings is None:
            return cls(Settings.load(overrides))
        return cls(Settings.model_validate({**settings.model_dump(), **overrides}) if overrides else settings)

    async def __aenter__(self) -> Self:
        self._reader = await self._stack.enter_async_context(BucketReader(self.settings))
        self._control: Any = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

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

    async def list_objects(self, prefix: str = "") -> AsyncIterator[RemoteObject]:
        """Every object whose key starts with `prefix`, in the server's order."""

        async def ask(token: str) -> RawPage:
            return await retried(lambda: self._reader.list_page(prefix, token=token), attempts=_ATTEMPTS)

        async for listed in pages(ask, self.bucket, Shard(prefix)):
            page: Page = listed.page
            for remote in page.objects:
                yield remote

    async def head(self, key: str) -> ObjectHead:
        """Raises `NoSuchKey` when the object does not exist."""
        return await retried(lambda: self._reader.head(key), attempts=_ATTEMPTS)

    async def download_file(self, key: str) -> bytes:
        """The object's bytes, checked against its etag. For objects that fit in memory."""

        async def attempt() -> bytes:
            head = await self._reader.head(key)
            body = await self._reader.get(key, etag=head.etag, size=head.size)
            hasher = Hasher(check_for(head.etag, head.size, encrypted=head.encrypted))
            hasher.update(body)
            _require(hasher, len(body), head.size, key)
            return body

        return await retried(attempt, attempts=_ATTEMPTS)

    async def download_to(self, key: str, path: str | os.PathLike[str]) -> ObjectHead:
        """Streams the object into a file; `path` appears complete and checked, or not at all."""

        async def attempt() -> ObjectHead:
            head = await self._reader.head(key)
            await self._stream_to(key, head, Path(path))
            return head

        return await retried(attempt, attempts=_ATTEMPTS)

    async def put(self, key: str, body: bytes) -> None:
        await self._call("put_object", Bucket=self.bucket, Key=key, Body=body)

    async def delete(self, key: str) -> None:
        await self._call("delete_object", Bucket=self.bucket, Key=key)

    async def _stream_to(self, key: str, head: ObjectHead, path: Path) -> None:
        import aiofiles
        import aiofiles.os

        temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.part")
        hasher = Hasher(check_for(head.etag, head.size, encrypted=head.encrypted))
        size = 0
        try:
            async with aiofiles.open(temporary, "xb") as file:
                async for chunk in self._reader.stream(key, etag=head.etag, size=head.size):
                    hasher.update(chunk)
                    size += len(chunk)
                    await file.write(chunk)
            _require(hasher, size, head.size, key)
            await aiofiles.os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    async def _call(self, operation: str, **parameters: object) -> Any:
        """One call of the control plane, retried; botocore's own retries are off, so that ours are the only ones."""
        return await retried(lambda: self._call_once(operation, **parameters), attempts=_ATTEMPTS)

    async def _call_once(self, operation: str, **parameters: object) -> Any:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectTimeoutError,
            EndpointConnectionError,
            HTTPClientError,
        )

        if self._control is None:
            self._control = await self._stack.enter_async_context(await self._new_control())
        try:
            return await getattr(self._control, operation)(**parameters)
        except ClientError as error:
            answer = error.response
            said = answer.get("Error", {})
            code, message = escape(said.get("Code", "")), escape(said.get("Message", ""))
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            headers = {name.title(): value for name, value in answer["ResponseMetadata"].get("HTTPHeaders", {}).items()}
            status = int(answer["ResponseMetadata"]["HTTPStatusCode"])
            raise error_from_response(status, headers, body.encode(), operation) from error
        except (EndpointConnectionError, ConnectTimeoutError, HTTPClientError) as error:
            raise ConnectionLost(f"{operation}: {self.settings.endpoint}: {type(error).__name__}") from error
        except BotoCoreError as error:
            raise UnexpectedResponse(f"{operation}: {type(error).__name__}") from error

    async def _new_control(self) -> Any:
        import aioboto3
        from aiobotocore.config import AioConfig
        from aiobotocore.httpsession import AIOHTTPSession

        context = ssl_context(self.settings)

        class PinnedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore is untyped
            """Trusts what the read path trusts, by the same context."""

            def _get_ssl_context(self) -> object:
                return context

        verify: object = self.settings.verify_ssl
        if self.settings.verify_ssl and self.settings.ca_bundle:
            verify = str(self.settings.ca_bundle)
        source = credential_source(self.settings)
        await source.refresh()
        return aioboto3.Session().client(
            "s3",
            endpoint_url=self.settings.endpoint_url,
            region_name=self.settings.region,
            aws_access_key_id=source.current.access_key,
            aws_secret_access_key=source.current.secret_key,
            aws_session_token=source.current.session_token or None,
            verify=verify,
            config=AioConfig(
                http_session_cls=PinnedSession,
                retries={"total_max_attempts": 1},
                connect_timeout=10,
                s3={"addressing_style": self.settings.addressing_style},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def _require(hasher: Hasher, received: int, size: int, key: str) -> None:
    if received != size or hasher.verdict() is None:
        raise DamagedTransfer(f"{key!r}: the {received} bytes received are not what the server says it holds")

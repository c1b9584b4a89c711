"""The connection test: four steps, each a value, so that what is printed and what is found stay apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ingest.errors import (
    AccessDenied,
    ConnectionRefused,
    DiskError,
    NoSuchBucket,
    NoSuchKey,
    ObjectInTheWay,
    SourceError,
)
from ingest.http.certificates import ServerCertificate, fetch_certificate
from ingest.jobs.options import CheckOptions
from ingest.model import RemoteObject
from ingest.settings import Settings
from ingest.source.bucket import Bucket
from ingest.source.client import S3Client
from ingest.source.paths import spellings

TEST_KEY = "test/connection_test.txt"
TEST_BODY = b"ingest connection test\n"
FIRST = 10


class Step(NamedTuple):
    """One finished step: its number (0 for the optional ones), title, and the lines to show."""

    number: int
    title: str
    lines: list[str]


class Passed(NamedTuple):
    objects: list[RemoteObject]
    certificate: ServerCertificate | None


async def check(settings: Settings, options: CheckOptions, on_step: Callable[[Step], None]) -> Passed:
    """Tests the connection as the settings describe it, and reports each step as it succeeds.

    Raises:
        IngestError: the first step that failed, by its name in the error tree.
    """
    certificate = await _save_certificate(settings, options.save_ca, on_step) if options.save_ca else None
    async with Bucket.open(settings, connections=4) as reader:
        await _answers(reader)
        scheme = "HTTPS" if settings.secure else "HTTP, not encrypted"
        trust = "" if not settings.secure else _trust(settings)
        on_step(Step(1, "HTTP client", [f"{settings.endpoint_url} answers ({scheme}{trust})"]))
        async with S3Client.from_settings(settings) as client:
            keys = "S3_ACCESS_KEY" if settings.access_key else "the standard AWS chain"
            on_step(Step(2, "S3 client", [f"region {settings.region}, credentials from {keys}"]))
            if not await _bucket_exists(client, reader):
                raise await _no_such_bucket(client)
            on_step(Step(3, "Bucket", [f"{client.bucket} exists"]))
            objects = await _first_objects(client)
            on_step(Step(4, f"First {FIRST} objects", [_line(remote) for remote in objects] or ["(Bucket is empty)"]))
            if options.download is not None:
                key, size = await _download(client, options.download)
                on_step(Step(0, "Download", [f"{key}: {size} bytes received and checked"]))
            if options.upload:
                await _upload(client)
                on_step(Step(0, "Upload", [f"{TEST_KEY} was put and removed"]))
    return Passed(objects, certificate)


async def _answers(reader: Bucket) -> None:
    """Whether anything at all answers: a refusal of the request itself is an answer."""
    try:
        await reader.list_page(max_keys=1)
    except SourceError as error:
        if error.retryable or error.code.startswith(("tls", "redirect", "clock")):
            raise


async def _download(client: S3Client, text: str) -> tuple[str, int]:
    *others, last = spellings(text, client.bucket)
    for key in others:
        with suppress(NoSuchKey):
            return key, len(await client.download_file(key))
    return last, len(await client.download_file(last))


async def _upload(client: S3Client) -> None:
    """Puts and removes the test's own object; one that an earlier check left, being killed, is replaced.

    Raises:
        ObjectInTheWay: someone else's object has that key.
    """
    with suppress(NoSuchKey):
        head = await client.head(TEST_KEY)
        if head.size != len(TEST_BODY) or await client.download_file(TEST_KEY) != TEST_BODY:
            raise ObjectInTheWay(f"{TEST_KEY!r} holds an object of {head.size} bytes that is not of this check")
    await client.put(TEST_KEY, TEST_BODY)
    await client.delete(TEST_KEY)


async def _bucket_exists(client: S3Client, reader: Bucket) -> bool:
    try:
        return await client.bucket_exists()
    except AccessDenied:
        # A HEAD is refused without a body; the refusal of a listing says whether key, secret or policy is at fault.
        await reader.list_page(max_keys=1)
        return True


async def _first_objects(client: S3Client) -> list[RemoteObject]:
    objects: list[RemoteObject] = []
    async for remote in client.list_objects():
        objects.append(remote)
        if len(objects) == FIRST:
            break
    return objects


async def _no_such_bucket(client: S3Client) -> NoSuchBucket:
    try:
        names = await client.list_buckets()
    except SourceError as error:
        return NoSuchBucket(f"bucket {client.bucket!r} does not exist (and the key may not list buckets: {error.code})")
    shown = ", ".join(names) or "none"
    return NoSuchBucket(f"bucket {client.bucket!r} does not exist; buckets that do: {shown}", hint="Correct S3_BUCKET.")


async def _save_certificate(settings: Settings, name: str, on_step: Callable[[Step], None]) -> ServerCertificate:
    host, _, port = settings.required("endpoint").rpartition(":")
    address = (host.strip("[]"), int(port)) if port.isdigit() and host else (settings.endpoint, 443)
    try:
        certificate = await fetch_certificate(*address)
    except OSError as error:
        raise ConnectionRefused(f"{settings.endpoint}: {error.strerror or error}") from error
    try:
        await asyncio.to_thread(_write_new, Path(name), certificate.pem)
    except OSError as error:
        raise DiskError(f"{name}: {error.strerror}") from error
    on_step(
        Step(
            0,
            "Certificate",
            [
                f"saved to {name}; compare it with the server's owner before you trust it (S3_CA_BUNDLE={name})",
                f"subject {certificate.subject}",
                f"issuer  {certificate.issuer}",
                f"valid   {certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}",
                f"SHA-256 {certificate.sha256}",
            ],
        )
    )
    return certificate


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _trust(settings: Settings) -> str:
    if not settings.verify_ssl:
        return ", certificate NOT verified"
    return f", certificate trusted by {settings.ca_bundle or 'the system'}"


def _line(remote: RemoteObject) -> str:
    return f"{remote.size / 1e6:10.2f} MB  {remote.last_modified:%Y-%m-%d %H:%M:%S} UTC  {remote.key}"

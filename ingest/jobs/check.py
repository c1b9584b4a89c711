"""The connection test: four steps, each a value, so that what is printed and what is found stay apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from ingest.engine.options import CheckOptions
from ingest.errors import (
    AccessDenied,
    ConnectionRefused,
    DiskError,
    NoSuchBucket,
    NoSuchKey,
    ObjectInTheWay,
    SourceError,
    UnexpectedResponse,
)
from ingest.http.certificates import ServerCertificate, fetch_certificate
from ingest.model import RemoteObject
from ingest.settings import Settings
from ingest.source.bucket import Bucket
from ingest.source.client import S3Client
from ingest.source.paths import spellings

TEST_KEY = "test/connection_test.txt"
TEST_BODY = b"ingest connection test\n"
FIRST = 10


class Step(NamedTuple):
    """One finished step: its number (0 for the optional ones), title, what it showed in a sentence, and the details."""

    number: int
    title: str
    showed: str
    lines: list[str]
    objects: Sequence[RemoteObject] = ()
    """Of the fourth: the first ones of the bucket."""
    more: bool = False
    """Whether the bucket holds more than those."""


class Listener(Protocol):
    """Is told of each step before it is tried, and again when it has succeeded."""

    def tries(self, number: int, what: str) -> None: ...

    def passed(self, step: Step) -> None: ...


async def check(
    settings: Settings, options: CheckOptions | None = None, *, listener: Listener | None = None
) -> list[Step]:
    """Tests the connection as the settings describe it, step by step; with `save_ca`, by the certificate just saved.
    Returns the steps, of which `listener` is told as they go.

    Raises:
        IngestError: the first step that failed, by its name in the error tree.
    """
    steps = _Steps(listener)
    await _check(settings, options or CheckOptions(), steps)
    return steps


class _Steps(list[Step]):
    """Those that have passed. Somebody may listen as well."""

    def __init__(self, listener: Listener | None) -> None:
        super().__init__()
        self._listener = listener

    def tries(self, number: int, what: str) -> None:
        if self._listener is not None:
            self._listener.tries(number, what)

    def passed(self, step: Step) -> None:
        self.append(step)
        if self._listener is not None:
            self._listener.passed(step)


async def _check(settings: Settings, options: CheckOptions, listener: Listener) -> None:
    if options.save_ca:
        settings = await _pinned(settings, options.save_ca, listener)
    listener.tries(1, "Creating the HTTP client")
    async with Bucket.open(settings.source, connections=4) as reader:
        await _answers(reader)
        scheme = "HTTPS" if settings.secure else "HTTP, not encrypted"
        trust = "" if not settings.secure else _trust(settings)
        listener.passed(
            Step(1, "HTTP client", "HTTP client created", [f"{settings.endpoint_url} answers ({scheme}{trust})"])
        )
        listener.tries(2, "Initializing the S3 client")
        async with S3Client.from_settings(settings, patience=timedelta(0)) as client:
            keys = "S3_ACCESS_KEY" if settings.access_key else "the standard AWS chain"
            listener.passed(
                Step(2, "S3 client", "S3 client initialized", [f"region {settings.region}, credentials from {keys}"])
            )
            listener.tries(3, f"Looking for bucket '{client.bucket}'")
            if not await _bucket_exists(client, reader):
                raise await _no_such_bucket(client)
            found = f"Successfully connected! Bucket '{client.bucket}' exists."
            listener.passed(Step(3, "Bucket", found, [f"{client.bucket} exists"]))
            listener.tries(4, f"Listing the first {FIRST} objects")
            listener.passed(await _first_objects(client))
            if options.download is not None:
                listener.tries(0, f"Downloading {options.download}")
                key, size = await _download(client, options.download)
                listener.passed(Step(0, "Download", "Downloaded", [f"{key}: {size} bytes received and checked"]))
            if options.upload:
                listener.tries(0, f"Uploading {TEST_KEY}")
                await _upload(client)
                listener.passed(Step(0, "Upload", "Uploaded", [f"{TEST_KEY} was put and removed"]))


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
    except (AccessDenied, UnexpectedResponse):
        # A HEAD is refused without a body; the refusal of a listing says whether key, secret, policy or region is at
        # fault.
        await reader.list_page(max_keys=1)
        return True


async def _first_objects(client: S3Client) -> Step:
    objects: list[RemoteObject] = []
    async with aclosing(client.list_objects()) as found:
        async for remote in found:
            objects.append(remote)
            if len(objects) > FIRST:
                break
    shown = objects[:FIRST]
    lines = [_line(remote) for remote in shown] or ["(Bucket is empty)"]
    showed = "Objects listed" if shown else "The bucket may be listed"
    return Step(4, f"First {FIRST} objects", showed, lines, shown, more=len(objects) > FIRST)


async def _no_such_bucket(client: S3Client) -> NoSuchBucket:
    try:
        names = await client.list_buckets()
    except SourceError as error:
        return NoSuchBucket(f"bucket {client.bucket!r} does not exist (and the key may not list buckets: {error.code})")
    shown = ", ".join(names) or "none"
    missing = NoSuchBucket(
        f"bucket {client.bucket!r} does not exist; buckets that do: {shown}", hint="Correct S3_BUCKET."
    )
    missing.available = tuple(names)
    return missing


async def _pinned(settings: Settings, name: str, listener: Listener) -> Settings:
    """Saves the server's certificate, and returns the settings that trust it alone: what the steps are tried with.

    Raises:
        SourceError: no connection, or no TLS. DiskError: the file cannot be written.
    """
    listener.tries(0, f"Saving the certificate of {settings.required('endpoint')}")
    certificate = await _certificate(settings)
    try:
        await asyncio.to_thread(_write_new, Path(name), certificate.pem)
    except OSError as error:
        raise DiskError(f"{name}: {error.strerror}", hint="Name a file that can be written.") from error
    lines = [
        f"saved to {name}; compare it with the server's owner before you trust it (S3_CA_BUNDLE={name})",
        f"subject {certificate.subject}",
        f"issuer  {certificate.issuer}",
        f"valid   {certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}",
        f"SHA-256 {certificate.sha256}",
    ]
    listener.passed(Step(0, "Certificate", "Certificate saved; the steps below trust it, and nothing else", lines))
    return settings.replace(ca_bundle=Path(name), verify_ssl=True)


async def _certificate(settings: Settings) -> ServerCertificate:
    host, _, port = settings.endpoint.rpartition(":")
    address = (host.strip("[]"), int(port)) if port.isdigit() and host else (settings.endpoint, 443)
    try:
        return await fetch_certificate(*address, settings.trust)
    except OSError as error:
        raise ConnectionRefused(f"{settings.endpoint}: {error.strerror or error}") from error


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

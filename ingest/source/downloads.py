"""Whole objects into files of other programs, checked against what the server says it holds."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from inspect import isawaitable
from pathlib import Path
from typing import Protocol

from ingest.errors import DamagedTransfer
from ingest.model import Verified
from ingest.plan.checks import Hasher
from ingest.source.checksums import check_for_head, stored_check
from ingest.source.object_head import ObjectHead
from ingest.source.patient import PatientBucket
from ingest.source.retries import retried
from ingest.tasks.threads import in_thread, to_its_end


class BinaryFile(Protocol):
    """Something open that takes bytes: a file, a pipe, a buffer, or what aiofiles opens."""

    def write(self, piece: bytes, /) -> object: ...


Target = str | os.PathLike[str] | BinaryFile


async def download_to_path(reader: PatientBucket, key: str, path: Path) -> ObjectHead:
    """The object at `path`: complete, checked and durable, or not at all."""
    import aiofiles

    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.part")
    async with AsyncExitStack() as stack:
        # What is opened while nobody waits for it any more is closed and removed as well.
        stack.callback(temporary.unlink, missing_ok=True)
        file = await to_its_end(stack.enter_async_context(aiofiles.open(temporary, "xb")))
        head = await _stream(reader, key, lambda piece: to_its_end(file.write(piece)), attempts=1)
        await to_its_end(file.flush())
        await in_thread(None, os.fsync, file.fileno())
        await in_thread(None, _replace, temporary, path)
    return head


async def download_to_file(reader: PatientBucket, key: str, file: BinaryFile, *, attempts: int) -> ObjectHead:
    """The object into an open file, whose end is the caller's business; of its transfer, at most `attempts` tries."""
    return await _stream(reader, key, lambda piece: _write(file, piece), attempts=attempts)


async def _stream(
    reader: PatientBucket, key: str, write: Callable[[bytes], Awaitable[object]], *, attempts: int
) -> ObjectHead:
    """The whole object to `write`, each byte once and in order: a transfer that broke is begun again, and what was
    written is left out."""
    head = await retried(lambda: reader.head(key), attempts=attempts)
    check = await reader.sharpen(check_for_head(head), key, head.etag)
    stored = stored_check(head.checksums, head.checksum_type, head.etag, head.size)
    hashers = [Hasher(each) for each in (check, stored) if each is not None]
    written = 0

    async def attempt() -> None:
        known = written

        async def take(chunks: list[bytes]) -> None:
            nonlocal known, written
            piece = b"".join(chunks)
            piece, known = piece[known:], max(0, known - len(piece))
            for hasher in hashers:
                await asyncio.to_thread(hasher.update, piece)
            await write(piece)
            written += len(piece)

        await reader.stream(key, etag=head.version, on_chunks=take)

    await retried(attempt, attempts=attempts)
    require_proof(hashers, written, head.size, key)
    return head


async def _write(file: BinaryFile, piece: bytes) -> None:
    """All of it, also to a file that takes some at a time."""
    while piece:
        count = await in_thread(None, file.write, piece)
        if isawaitable(count):
            count = await to_its_end(count)
        if not isinstance(count, int):
            return  # it does not count: it took all
        if count < 1:
            raise OSError(errno.ENOSPC, "the file takes no more bytes")
        piece = piece[count:]


def _replace(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def require_proof(hashers: Sequence[Hasher], received: int, size: int, key: str) -> None:
    """Whether any of them proves the bytes: a stored checksum does where the etag is no MD5, and none is wrong else."""
    verdicts = {hasher.verdict() for hasher in hashers}
    if received != size or (None in verdicts and Verified.VERIFIED not in verdicts):
        raise DamagedTransfer(f"{key!a}: the {received} bytes received are not what the server says it holds")

"""`BlockingS3Client`: `S3Client` for programs without a loop. Its loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar, Unpack

from ingest.model import RemoteObject
from ingest.settings import Settings
from ingest.source.client import Given, S3Client, shown, without_secrets

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[S3Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingS3Client, P], T]:
    """The method of `S3Client`, which returns when it has ended."""

    @wraps(method)
    def call(self: BlockingS3Client, /, *arguments: P.args, **named: P.kwargs) -> T:
        return self._loop().run(method(self._client, *arguments, **named), self._timeout)

    return call


class BlockingS3Client:
    """`S3Client` whose methods return when they have ended, and whose iterators are plain ones.

    >>> with BlockingS3Client(endpoint="minio.example.com:9000", bucket="statements") as client:
    ...     for remote in client.list_objects("2026/"):
    ...         body = client.download_file(remote.key)

    It opens at its first use, and several threads may use it at once. `close` ends it; so does the end of the block, of
    the last reference, and of the program. Closed, or in the child of a fork, all methods raise `RuntimeError`. Ctrl-C
    ends a call when what it had begun is cleaned up. A coroutine's loop is kept waiting: use `S3Client` there.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        connections: int = 32,
        timeout: float | None = None,
        **given: Unpack[Given],
    ) -> None:
        """As `S3Client`. A call that takes longer than `timeout` seconds is ended and raises `TimeoutError`; of a
        listing, that is each page."""
        given = without_secrets(given)
        self._client = S3Client(settings, connections=connections, **given)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._running: _Loop | None = None
        self._closed = False

    def __repr__(self) -> str:
        made = vars(self).get("_client")
        return shown(self, made and made.settings)

    def __reduce__(self) -> NoReturn:
        self._client.__reduce__()

    def __enter__(self) -> Self:
        self._loop()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what other threads have under way, and closes every connection. May be called again, from any thread."""
        with self._lock:
            self._closed = True
        if self._running is not None:
            self._running.close()

    @property
    def settings(self) -> Settings:
        return self._client.settings

    @property
    def bucket(self) -> str:
        """Where a call says no other. Raises `SettingsError` where there is none."""
        return self._client.bucket

    bucket_exists = _blocking(S3Client.bucket_exists)
    list_buckets = _blocking(S3Client.list_buckets)
    head = _blocking(S3Client.head)
    download_file = _blocking(S3Client.download_file)
    download_to = _blocking(S3Client.download_to)
    put = _blocking(S3Client.put)
    delete = _blocking(S3Client.delete)

    def list_objects(self, prefix: str = "", *, bucket: str | None = None) -> Generator[RemoteObject, None, None]:
        for page in self.list_pages(prefix, bucket=bucket):
            yield from page

    def list_pages(self, prefix: str = "", *, bucket: str | None = None) -> Generator[list[RemoteObject], None, None]:
        loop = self._loop()
        pages = self._client.list_pages(prefix, bucket=bucket)
        try:
            while (page := loop.run(_next(pages), self._timeout)) is not None:
                yield page
        finally:
            loop.end(pages)

    list_objects.__doc__, list_pages.__doc__ = S3Client.list_objects.__doc__, S3Client.list_pages.__doc__

    def _loop(self) -> _Loop:
        with self._lock:
            if self._closed:
                raise RuntimeError("this BlockingS3Client is closed")
            if self._running is None:
                self._running = _Loop(self._client)
                weakref.finalize(self, self._running.stop).atexit = False  # a program's end waits for nobody
            return self._running


async def _next(pages: AsyncGenerator[T, None]) -> T | None:
    return await anext(pages, None)


class _Loop:
    """A client that is open in a loop of its own, in a thread of its own. Knows nothing of who uses it."""

    def __init__(self, client: S3Client) -> None:
        """Raises what opening the client raises."""
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._opened: Future[None] = Future()
        self._lock = threading.Lock()
        self._over = False
        self._calls: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._serve, args=(client,), name="ingest-s3-client", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except Exception:
            self._thread.join()
            raise
        except BaseException:  # Ctrl-C: whatever opening waits for, nobody else does
            self.stop()
            raise

    def _serve(self, client: S3Client) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live(client))
        finally:
            for ended in self._admit_nobody():
                ended.cancel()  # of what came too late even to begin

    async def _live(self, client: S3Client) -> None:
        try:
            async with client:
                self._opened.set_result(None)
                await self._stopped.wait()
                self._admit_nobody()
                calls = asyncio.all_tasks() - {asyncio.current_task()}
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        except Exception as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    def _admit_nobody(self) -> list[Future[Any]]:
        with self._lock:
            self._over = True
            return list(self._calls)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """What `work` returns or raises; nothing of it goes on afterwards.

        Raises:
            TimeoutError: it took too long. RuntimeError: the client is closed, by now, or was opened before a fork.
        """
        ended: Future[T] = Future()
        task: list[asyncio.Task[T]] = []

        def begin() -> None:
            task.append(self._loop.create_task(work))
            task[0].add_done_callback(partial(_hand_over, ended))

        try:
            self._admit(ended, begin)
            return ended.result(timeout)
        except CancelledError:
            raise RuntimeError("this BlockingS3Client was closed meanwhile") from None
        finally:
            if ended in self._calls and not ended.done():  # it takes too long, or Ctrl-C
                self._loop.call_soon_threadsafe(lambda: task[0].cancel())  # noqa: PLW0108 - there is none yet, maybe
                with suppress(CancelledError):
                    ended.exception()
            self._calls.discard(ended)
            if not task:
                work.close()

    def _admit(self, ended: Future[Any], begin: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a BlockingS3Client was called from its own loop, by a log handler perhaps")
        with self._lock:
            if self._over or not self._thread.is_alive():
                raise RuntimeError("this BlockingS3Client is closed, or was opened before a fork")
            self._calls.add(ended)
            self._loop.call_soon_threadsafe(begin)

    def end(self, pages: AsyncGenerator[Any, None]) -> None:
        """Closes a listing that was left early, some time soon: the collector calls this as well, in any thread."""
        with suppress(RuntimeError):  # the loop is closed, and all of its generators with it
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(pages.aclose()))

    def stop(self) -> None:
        """Begins to close, without waiting for the end: the collector calls this as well, in any thread."""
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._stopped.set)

    def close(self) -> None:
        self.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _hand_over(ended: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        ended.cancel()
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())

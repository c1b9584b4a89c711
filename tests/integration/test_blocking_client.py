"""`BlockingS3Client`: one implementation, from programs without a loop, with several, with threads, forks and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import signal
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.errors import AccessDenied, CredentialsError, NoSuchBucket, SettingsError
from ingest.source import client as of_client
from ingest.source.blocking import BlockingS3Client
from ingest.source.client import S3Client
from ingest.testing import Answer, Fault, MemoryS3, Visit, faults, running
from tests.fixtures.process import ended, run_ingest, started, until

CLOSED = "closed|before a fork"


def loops() -> list[threading.Thread]:
    """Those of clients that are open."""
    return [thread for thread in threading.enumerate() if thread.name == "ingest-s3-client"]


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3(page=3)) as server:
        server.fill({f"k/{n}": b"x" * n for n in range(10)})
        yield server


@pytest.fixture
def client(server: MemoryS3) -> Iterator[BlockingS3Client]:
    with BlockingS3Client(server.bucket.settings()) as client:
        yield client


def public(kind: type) -> dict[str, object]:
    return {name: part for name, part in vars(kind).items() if not name.startswith("_")}


def test_it_has_the_same_methods() -> None:
    awaited, blocking = public(S3Client), public(BlockingS3Client)
    assert set(awaited) - set(blocking) == {"from_settings"}
    assert set(blocking) - set(awaited) == {"close", "settings"}  # the latter is an attribute of the other
    for name, method in blocking.items():
        if inspect.isfunction(method) and name != "close":
            its, ours = inspect.signature(getattr(S3Client, name)), inspect.signature(method)
            assert its.parameters == ours.parameters, name
            assert method.__doc__ == getattr(S3Client, name).__doc__, name
            assert not inspect.iscoroutinefunction(method)


def test_a_program_without_a_loop(client: BlockingS3Client, server: MemoryS3, tmp_path: Path) -> None:
    client.put("new", b"body")
    assert client.download_file("new") == b"body"
    assert client.head("new").size == 4
    client.download_to("new", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"body"
    client.delete("new")
    assert "new" not in server.bodies
    assert client.bucket == "statements"
    assert client.bucket_exists()
    assert client.list_buckets() == ["statements"]
    assert client.settings == server.bucket.settings()
    with pytest.raises(NoSuchBucket):
        client.download_file("k/1", bucket="nosuch")


def test_a_listing_streams_and_may_be_left(client: BlockingS3Client, server: MemoryS3) -> None:
    assert [remote.key for remote in client.list_objects("k/")] == [f"k/{n}" for n in range(10)]
    assert [len(page) for page in client.list_pages()] == [3, 3, 3, 1]
    server.asked.clear()
    for remote in client.list_objects():
        assert remote.key == "k/0"
        break
    assert server.count("list") <= 2  # the page, and the one that is on its way
    left, never = client.list_objects(), client.list_objects()
    assert next(left).key == "k/0"
    client.close()
    del left
    with pytest.raises(RuntimeError, match=CLOSED):
        next(never)


def test_it_opens_when_it_is_used_and_needs_no_block(server: MemoryS3) -> None:
    client = BlockingS3Client(server.bucket.settings())
    assert loops() == []
    assert client.head("k/3").size == 3
    assert len(loops()) == 1
    client.close()
    client.close()
    assert loops() == []
    for use in (lambda: client.head("k/3"), lambda: list(client.list_objects()), client.__enter__):
        with pytest.raises(RuntimeError, match=CLOSED):
            use()
    assert loops() == []


def test_a_client_that_was_never_used_may_be_closed(server: MemoryS3) -> None:
    BlockingS3Client(server.bucket.settings()).close()
    assert server.asked == []


def test_what_opening_raises_is_raised_and_leaves_no_thread(
    server: MemoryS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = BlockingS3Client(server.bucket.settings(access_key=None, secret_key=None))
    for _ in range(2):
        with pytest.raises(CredentialsError):
            client.head("k/3")
    with pytest.raises(SettingsError, match="S3_ENDPOINT"), BlockingS3Client(server.bucket.settings(endpoint="")):
        pass
    client.close()
    assert loops() == []


def test_many_threads_use_one(client: BlockingS3Client, server: MemoryS3) -> None:
    with ThreadPoolExecutor(16) as threads:
        sizes = list(threads.map(lambda n: client.head(f"k/{n % 10}").size, range(200)))
    assert sizes == [n % 10 for n in range(200)]
    assert server.raw.connections <= 32


class Reached:
    """Stalls, and says that it does."""

    def __init__(self) -> None:
        self.event = threading.Event()

    async def __call__(self, visit: Visit, _: Answer) -> None:
        self.event.set()
        await visit.until_closed()


def test_whoever_waits_while_it_is_closed_is_told(client: BlockingS3Client, server: MemoryS3, tmp_path: Path) -> None:
    reached = Reached()
    server.faults.append(Fault("get", reached))
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(client.download_to, "k/9", tmp_path / "copy")
        assert reached.event.wait(30)
        threads.submit(client.close).result(30)
        with pytest.raises(RuntimeError, match="closed meanwhile"):
            waiting.result(30)
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_takes_too_long_is_ended(server: MemoryS3, tmp_path: Path) -> None:
    server.faults.append(Fault("get", faults.stall))
    with BlockingS3Client(server.bucket.settings(), timeout=0.2) as client:
        with pytest.raises(TimeoutError):
            client.download_to("k/9", tmp_path / "copy")
        assert list(tmp_path.iterdir()) == []
        server.faults.clear()
    with BlockingS3Client(server.bucket.settings(), timeout=60) as client:
        assert client.head("k/9").size == 9


def test_the_last_reference_closes_it(server: MemoryS3) -> None:
    client = BlockingS3Client(server.bucket.settings())
    client.head("k/9")
    listing = client.list_objects()
    next(listing)
    (thread,) = loops()
    del client, listing
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


async def test_it_works_beside_a_running_loop(server: MemoryS3) -> None:
    with BlockingS3Client(server.bucket.settings()) as client:
        assert client.head("k/9").size == 9
        assert [remote.key for remote in client.list_objects("k/1")] == ["k/1"]
        assert await asyncio.to_thread(client.download_file, "k/1") == b"x"


class Calling(logging.Handler):
    """A handler that would keep its lines in a bucket: it runs in the loop of the client that it uses."""

    def __init__(self, client: BlockingS3Client) -> None:
        super().__init__()
        self.client = client
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.client.put("log", b"x")
        except RuntimeError as error:
            self.errors.append(error)


def test_it_says_when_it_would_wait_for_itself(server: MemoryS3) -> None:
    server.faults.append(Fault("head", faults.reset, times=1))
    with BlockingS3Client(server.bucket.settings(patience="0s")) as client:
        handler = Calling(client)
        logging.getLogger("ingest").addHandler(handler)
        try:
            assert client.head("k/9").size == 9
        finally:
            logging.getLogger("ingest").removeHandler(handler)
    assert [str(error) for error in handler.errors] == [
        "a BlockingS3Client was called from its own loop, by a log handler perhaps"
    ]


async def test_an_awaited_client_belongs_to_its_loop(server: MemoryS3) -> None:
    async with S3Client(server.bucket.settings()) as client:
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, client.head("k/9"))
        assert (await client.head("k/9")).size == 9


async def test_what_an_awaited_listing_had_begun_ends_with_it(server: MemoryS3) -> None:
    reached = Reached()
    server.faults.append(Fault("list", reached, after=1))

    async def read(client: S3Client) -> None:
        async for _ in client.list_objects():
            pass

    async with S3Client(server.bucket.settings()) as client:
        reading = asyncio.create_task(read(client))
        await until(reached.event.is_set)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await client.head("k/9")).size == 9


def test_a_secret_that_a_server_quotes_is_in_no_traceback(server: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_client, "_ATTEMPTS", 1)
    secret = "c4n4ry+of/the=server"
    quote = faults.answering(
        lambda _: Answer(
            "403 Forbidden", {}, f"<Error><Code>AccessDenied</Code><Message>{secret}</Message></Error>".encode()
        )
    )
    server.faults += [Fault(operation, quote) for operation in ("get", "put", "list")]
    with BlockingS3Client(server.bucket.settings(secret_key=secret)) as client:
        for use in (
            lambda: client.download_file("k/1"),
            lambda: client.put("k/1", b""),
            lambda: list(client.list_objects()),
        ):
            with pytest.raises(AccessDenied) as caught:
                use()
            assert secret not in "".join(traceback.format_exception(caught.value))
            assert "***" in str(caught.value)


FORKED = """
import os
from ingest import BlockingS3Client
client = BlockingS3Client()
print(client.head("k/9").size, flush=True)
child = os.fork()
if not child:
    try:
        client.head("k/9")
    except RuntimeError as error:
        print(error, flush=True)
    client.close()
    with BlockingS3Client() as own:
        print(own.head("k/8").size, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(client.head("k/7").size)
"""
UNCLOSED = """
from ingest import BlockingS3Client
client = BlockingS3Client()
print(client.head("k/9").size)
listing = client.list_objects()
print(next(listing).key)
"""
STALLED = """
from ingest import BlockingS3Client
with BlockingS3Client() as client:
    try:
        client.download_to("k/9", "copy")
    except KeyboardInterrupt:
        print(client.head("k/8").size)
        raise
"""
STRICT = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c")


async def test_the_child_of_a_fork_is_told_and_makes_its_own(server: MemoryS3, tmp_path: Path) -> None:
    done = await run_ingest(variables=server.bucket.variables(tmp_path), cwd=tmp_path, program=(*STRICT, FORKED))
    assert (done.code, done.stderr) == (0, "")
    said = "this BlockingS3Client is closed, or was opened before a fork"
    assert done.stdout.splitlines() == ["9", said, "8", "7"]


async def test_a_program_may_end_without_closing_it(server: MemoryS3, tmp_path: Path) -> None:
    done = await run_ingest(variables=server.bucket.variables(tmp_path), cwd=tmp_path, program=(*STRICT, UNCLOSED))
    assert (done.code, done.stdout, done.stderr) == (0, "9\nk/0\n", "")


async def test_ctrl_c_ends_a_call_and_leaves_nothing_half_done(server: MemoryS3, tmp_path: Path) -> None:
    reached = Reached()
    server.faults.append(Fault("get", reached))
    variables = server.bucket.variables(tmp_path / "data")
    async with started(variables=variables, cwd=tmp_path, program=(*STRICT, STALLED)) as process:
        await until(reached.event.is_set)
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert done.code == -signal.SIGINT
    assert done.stdout == "8\n"  # it may still be used
    assert "KeyboardInterrupt" in done.stderr
    assert list(tmp_path.iterdir()) == []

"""What a running consumer tells load balancers, Prometheus and systemd."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.demo.broker import Broker
from ingest.demo.server import free_port
from ingest.demo.verify_service import VerifyService
from ingest.errors import ExitCode, SettingsError
from ingest.observe.endpoints import MOST_CONNECTIONS, Endpoints, serving
from ingest.observe.metrics import Snapshot
from ingest.observe.notify import Notifier
from ingest.store.locks import CopiesLock
from ingest.tasks.stop import Stop
from tests.fixtures.endpoints import ask, until, until_counted
from tests.fixtures.events import eventually, plain, run, sent, settings_for
from tests.fixtures.lines import lines_said
from tests.fixtures.servers import Bucket

NOTHING = Snapshot({}, 0, False, {})


async def test_a_consumer_says_how_it_fares(
    moto: Bucket,
    shared_broker: Broker,
    service: VerifyService,
    topic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url, verify_url=service.url)
    await shared_broker.create(topic, 2)
    await moto.put({"a.pdf": b"12345"})
    port, stop = free_port(), Stop()
    running = asyncio.create_task(run(settings, stop, until_idle=None, listen=f"127.0.0.1:{port}"))

    assert await until(port, "/readyz", 200) == "ok\n"
    assert told.recv(100) == b"READY=1"
    assert told.recv(100) == b"WATCHDOG=1"
    await shared_broker.send(topic, [plain("a.pdf", moto.name), sent("k", b"poison")])
    metrics = await until_counted(port, "ingest_delivered_total 1.0")
    for line in ("ingest_messages_total 2.0", "ingest_downloaded_bytes_total 5.0", "ingest_dead_letters_total 1.0"):
        assert line in metrics
    assert "ingest_delivery_paused 0.0" in metrics
    await until_counted(port, 'ingest_lag_messages{partition="0"} 0.0')

    # A service that fails: not ready, but alive.
    service.fail(503, times=10**6)
    await moto.put({f"{number}.pdf": b"x" for number in range(20)})
    await shared_broker.send(topic, [plain(f"{number}.pdf", moto.name) for number in range(20)])
    assert "paused" in await until(port, "/readyz", 503)
    assert (await ask(port, "/healthz"))[0] == 200
    assert "ingest_delivery_paused 1.0" in (await ask(port, "/metrics"))[1]

    stop.request(signal.SIGTERM)
    assert (await running).exit_code == ExitCode.TERMINATED
    received = b""
    while received != b"STOPPING=1":
        received = told.recv(100)
    told.close()


async def test_it_is_alive_while_the_group_gathers_and_ready_when_it_has(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    long = timedelta(minutes=3)  # the broker lets the first member wait for half of it
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url, kafka_session_timeout=long)
    await shared_broker.create(topic, 1)
    port, stop = free_port(), Stop()
    running = asyncio.create_task(run(settings, stop, until_idle=None, listen=f"127.0.0.1:{port}"))

    assert await until(port, "/healthz", 200) == "ok\n"
    assert await ask(port, "/readyz") == (503, "joining the group\n")
    assert "ingest_messages_total 0.0" in (await ask(port, "/metrics"))[1]

    stop.request(signal.SIGTERM)
    assert (await running).exit_code == ExitCode.TERMINATED


async def test_while_the_bucket_is_away_it_is_not_ready(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url)
    away = settings.model_copy(update={"endpoint": "127.0.0.1:9"})
    await shared_broker.create(topic, 1)
    port, stop = free_port(), Stop()
    running = asyncio.create_task(run(away, stop, until_idle=None, listen=f"127.0.0.1:{port}"))
    assert await until(port, "/readyz", 200) == "ok\n"
    await shared_broker.send(topic, [plain("a.pdf", moto.name)])
    assert "the bucket is away" in await until(port, "/readyz", 503)
    stop.request(signal.SIGTERM)
    assert (await running).exit_code == ExitCode.TERMINATED


async def test_while_another_process_has_the_copies_it_is_not_ready_and_still_obeys(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.engine.record.copies.SAID_SECONDS", 0.1)
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    await moto.put({"a.pdf": b"a"})
    await shared_broker.create(topic, 1)
    await shared_broker.send(topic, [plain("a.pdf", moto.name)])
    held = CopiesLock(settings.own_dir / "locks" / f"{moto.name}-copies.lock")
    with closing(held), lines_said() as lines:
        assert held.take()
        port, stop = free_port(), Stop()
        running = asyncio.create_task(run(settings, stop, until_idle=None, listen=f"127.0.0.1:{port}"))

        async def says_so() -> bool:
            return "has been changing copies" in await until(port, "/readyz", 503)

        await eventually(says_so, running)
        stop.request(signal.SIGTERM)
        report = await running
    assert (report.exit_code, report.counts.downloaded) == (ExitCode.TERMINATED, 0)
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {}
    assert [line["event"] for line in lines].count("copies_locked") == 1
    assert (await run(settings)).counts.downloaded == 1


async def test_an_address_that_is_taken_is_a_clear_error() -> None:
    endpoints = Endpoints(lambda: "", lambda: "", lambda: NOTHING)
    async with serving("127.0.0.1:0", endpoints) as port:
        with pytest.raises(SettingsError, match=f"--listen 127.0.0.1:{port}"):
            async with serving(f"127.0.0.1:{port}", endpoints):
                pass
    with pytest.raises(SettingsError, match="--listen nonsense"):
        async with serving("nonsense", endpoints):
            pass
    with pytest.raises(SettingsError, match="70000 is no port"):
        async with serving("127.0.0.1:70000", endpoints):
            pass


async def test_what_listens_there_may_be_named_in_every_form() -> None:
    endpoints = Endpoints(lambda: "", lambda: "", lambda: NOTHING)
    for form in ("0", ":0", "127.0.0.1:0", "localhost:0"):
        async with serving(form, endpoints) as port:
            assert (await ask(port, "/readyz"))[0] == 200
    async with serving("[::1]:0", endpoints) as port:
        assert b" 200 OK" in await answer_to(port, b"GET /readyz HTTP/1.1\r\n\r\n", host="::1")


async def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: the oldest gives way, so few are open, and whoever asks is answered."""
    monkeypatch.setattr("ingest.observe.endpoints.REQUEST_SECONDS", 3600.0)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            serving("127.0.0.1:0", Endpoints(lambda: "", lambda: "", lambda: NOTHING))
        )
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4 * MOST_CONNECTIONS)]
        assert await ask(port, "/readyz") == (200, "ok\n")
        gone = 3 * MOST_CONNECTIONS + 1
        for reader, _ in silent[:gone]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert not any(reader.at_eof() for reader, _ in silent[gone:])
        for _, writer in silent:
            writer.close()


async def test_a_request_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.observe.endpoints.REQUEST_SECONDS", 0.2)
    async with serving("127.0.0.1:0", Endpoints(lambda: "", lambda: "", lambda: NOTHING)) as port:
        for begun in (b"", b"GET /readyz HT", b"GET /readyz HTTP/1.1\r\nHost: a\r\n"):
            assert await answer_to(port, begun, ends=False) == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /readyz?verbose HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /readyz HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /readyz HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", 405),
        (b"GET /readyz HTTP/2.0\r\n\r\n", 405),
        (b"GET /readyz HTTP/1.1\r\nHo", 400),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a client that speaks TLS\r\n\r\n", 400),
        (b"GET  /readyz\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nX: " + b"x" * (17 << 10), 400),
    ],
)
async def test_whatever_is_asked_is_answered_and_said_in_a_line_at_most(request_: bytes, status: int) -> None:
    with lines_said() as lines:
        async with serving("127.0.0.1:0", Endpoints(lambda: "", lambda: "", lambda: NOTHING)) as port:
            answer = await answer_to(port, request_)
            assert await ask(port, "/healthz") == (200, "ok\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert bool(body) == (not request_.startswith(b"HEAD"))
    refused = [line for line in lines if line["event"] == "request_refused"]
    assert len(refused) == (status in (400, 405))


async def test_figures_that_fail_are_no_reason_to_end() -> None:
    async with serving(
        "127.0.0.1:0", Endpoints(lambda: "", lambda: "", lambda: NOTHING._replace(counters={"?": 1}))
    ) as port:
        assert (await ask(port, "/metrics"))[0] == 500
        assert (await ask(port, "/healthz"))[0] == 200


async def answer_to(port: int, request: bytes, *, host: str = "127.0.0.1", ends: bool = True) -> bytes:
    """Everything that comes for these bytes; `ends` says that no more follow."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    if ends:
        writer.write_eof()
    with suppress(ConnectionResetError):
        await writer.drain()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


async def test_trouble_is_neither_healthy_nor_ready() -> None:
    endpoints = Endpoints(lambda: "it hangs", lambda: "", lambda: NOTHING)
    async with serving("127.0.0.1:0", endpoints) as port:
        assert await ask(port, "/healthz") == (503, "it hangs\n")
        assert await ask(port, "/readyz") == (503, "it hangs\n")


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()
    notifier.send("READY=1")
    notifier.alive()
    assert (notifier.address, notifier.every) == ("", 0.0)


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("\0ingest-test-notify")
        Notifier(address="\0ingest-test-notify").send("READY=1")
        assert told.recv(100) == b"READY=1"

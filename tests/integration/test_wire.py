"""The HTTP client against a server that misbehaves on order: an answer is whole, or it is an error by name."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from ingest.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectionTimedOut,
    NameNotResolved,
    NotTls,
    UnexpectedResponse,
)
from ingest.source.dial import Dialer
from ingest.source.pool import Pool
from ingest.source.timeouts import Timeouts
from ingest.source.wire import MOST_ERROR_BYTES, Exchange, Response
from tests.fixtures.raw_server import RawServer, Script, Visit, raw_server

GET = Exchange(b"GET /bucket/key HTTP/1.1\r\nHost: localhost\r\n\r\n", max_body=1 << 20)
HEAD = GET._replace(head=GET.head.replace(b"GET", b"HEAD"), bodyless=True)
STREAM = GET._replace(streamed=True)
BODY = bytes(range(256)) * 64


# The hook that replaces this fixture would run every test of the suite on every loop.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "asyncio":
        return asyncio.DefaultEventLoopPolicy()
    return pytest.importorskip("uvloop").EventLoopPolicy()  # type: ignore[no-any-return]


@asynccontextmanager
async def connected(
    script: Script, *, limit: int = 4, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[Pool, RawServer]]:
    async with raw_server(script) as server:
        pool = Pool(Dialer("127.0.0.1", server.port, tls=None), limit=limit, timeouts=timeouts or Timeouts())
        try:
            yield pool, server
        finally:
            await pool.aclose()


async def no_chunk(_: bytes) -> None:
    raise AssertionError("nothing may reach the sink")


def accept(_: Response) -> None: ...


async def test_a_body_in_every_fragmentation() -> None:
    """However the network cuts the answer, the same response comes out."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "x"\r\n\r\nabcdef'

    async def script(visit: Visit) -> None:
        cuts = sorted({0, visit.request % len(answer), visit.request * 7 % len(answer), len(answer)})
        await visit.send(*(answer[start:end] for start, end in pairwise(cuts)))

    async with connected(script) as (pool, server):
        for _ in range(len(answer)):
            response = await pool.fetch(GET)
            assert response == (200, {b"content-length": b"6", b"etag": b'"x"'}, b"abcdef")
        assert server.connections == 1


async def test_chunked_with_extensions_and_trailers() -> None:
    """Chunked bodies are joined; what trailers say never replaces a header."""

    async def script(visit: Visit) -> None:
        await visit.send(
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "x"\r\n\r\n3;name=value\r\nabc\r\n',
            b'4\r\ndefg\r\n0\r\nETag: "forged"\r\n\r\n',
        )

    async with connected(script) as (pool, server):
        for _ in range(2):
            response = await pool.fetch(GET)
            assert response.body == b"abcdefg"
            assert response.headers[b"etag"] == b'"x"'
        assert server.connections == 1


async def test_interim_answers_are_skipped() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nETag: "no"\r\n\r\n')
        await visit.answer(b"real")

    async with connected(script) as (pool, _):
        assert await pool.fetch(GET) == (200, {b"content-length": b"4"}, b"real")


async def test_head_has_no_body_and_keeps_its_connection() -> None:
    async def script(visit: Visit) -> None:
        if visit.head.startswith(b"HEAD"):
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        else:
            await visit.answer(b"body")

    async with connected(script) as (pool, server):
        for _ in range(3):
            assert (await pool.fetch(HEAD)).headers[b"content-length"] == b"500"
            assert (await pool.fetch(GET)).body == b"body"
        assert server.connections == 1


async def test_content_encoding_is_not_decoded() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"\x1f\x8bnot really gzip", headers="Content-Encoding: gzip\r\n")

    async with connected(script) as (pool, _):
        assert (await pool.fetch(GET)).body == b"\x1f\x8bnot really gzip"


async def test_redirects_are_not_followed() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(status="307 Temporary Redirect", headers="Location: http://127.0.0.1:1/elsewhere\r\n")

    async with connected(script) as (pool, server):
        assert (await pool.fetch(GET)).status == 307
        assert len(server.heads) == 1


@pytest.mark.parametrize("sent", [0, 1, len(BODY) - 1])
@pytest.mark.parametrize("ending", [Visit.hang_up, Visit.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_cut_body_is_an_error(sent: int, ending: Callable[[Visit], None], streamed: bool) -> None:
    async def script(visit: Visit) -> None:
        await visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:sent])
        ending(visit)

    async def sink(_: bytes) -> None: ...

    async with connected(script) as (pool, server):
        with pytest.raises(ConnectionLost):
            await (pool.stream(STREAM, accept, sink) if streamed else pool.fetch(GET))
        assert len(server.heads) == 1  # an answer that had begun is never asked for again


async def test_a_cut_chunked_body_is_an_error() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        visit.hang_up()

    async with connected(script) as (pool, _):
        with pytest.raises(ConnectionLost):
            await pool.fetch(GET)


async def test_a_success_without_a_length_is_never_whole() -> None:
    """A body that ends with its connection cannot be told from one that was cut."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\n\r\nlooks complete")
        visit.hang_up()

    async with connected(script) as (pool, _):
        with pytest.raises(ConnectionLost, match="without its length"):
            await pool.fetch(GET)


async def test_an_error_document_may_end_with_its_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        visit.hang_up()

    async with connected(script) as (pool, _):
        response = await pool.fetch(GET)
        assert response.status == 400
        assert b"HTTPS server" in response.body


async def test_bodies_are_capped() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(BODY, status="500 Oops" if visit.request % 2 else "200 OK")

    async with connected(script) as (pool, server):
        with pytest.raises(UnexpectedResponse, match="more than the 100 bytes"):
            await pool.fetch(GET._replace(max_body=100))
        assert (await pool.fetch(GET)).body == BODY
        assert server.connections == 2


async def test_a_long_error_document_is_cut_and_its_status_kept() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"x" * (MOST_ERROR_BYTES * 40), status="503 Slow Down")

    async with connected(script) as (pool, _):
        response = await pool.fetch(GET)
        assert response.status == 503
        assert len(response.body) >= MOST_ERROR_BYTES


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", NotTls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", ConnectionLost),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 20_000, UnexpectedResponse),
    ],
    ids=["tls", "ssh", "two lengths", "negative", "two framings", "bad chunk", "upgrade", "endless headers"],
)
async def test_what_is_no_http_is_refused(sent: bytes, error: type[Exception]) -> None:
    async def script(visit: Visit) -> None:
        await visit.send(sent)

    async with connected(script) as (pool, _):
        with pytest.raises(error):
            await pool.fetch(GET)


async def test_a_stale_connection_is_replaced_once() -> None:
    """A server that closed a kept-alive connection, unseen, costs nothing but a second connection."""

    async def script(visit: Visit) -> None:
        if visit.connection == 0 and visit.request == 1:
            visit.reset()
        else:
            await visit.answer(b"body")

    async with connected(script) as (pool, server):
        assert (await pool.fetch(GET)).body == b"body"
        assert (await pool.fetch(GET)).body == b"body"
        assert [len(server.heads), server.connections] == [3, 2]


async def test_a_fresh_connection_that_breaks_is_an_error() -> None:
    async def script(visit: Visit) -> None:
        visit.reset()

    async with connected(script) as (pool, server):
        with pytest.raises(ConnectionLost, match="before the answer"):
            await pool.fetch(GET)
        assert server.connections == 1


async def test_connection_close_and_unasked_bytes_end_a_connection() -> None:
    async def script(visit: Visit) -> None:
        if visit.connection == 0:
            await visit.answer(b"last", headers="Connection: close\r\n")
        elif visit.connection == 1:
            await visit.answer(b"body")
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            await visit.until_closed()
        else:
            await visit.answer(b"right")

    async with connected(script) as (pool, server):
        assert (await pool.fetch(GET)).body == b"last"
        with suppress(ConnectionLost):  # which it is if the forged answer came in the same segment
            assert (await pool.fetch(GET)).body == b"body"
        await _until(lambda: not any(connection.reusable for connection in pool._idle))
        assert (await pool.fetch(GET)).body == b"right"
        assert server.connections == 3


@pytest.mark.parametrize("exchange", [GET, HEAD], ids=["get", "head"])
async def test_a_second_answer_never_replaces_the_first(exchange: Exchange) -> None:
    async def script(visit: Visit) -> None:
        body = b"" if exchange.bodyless else b"body"
        await visit.send(
            b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "real"\r\n\r\n' + body,
            b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "forged"\r\n\r\n',
        )

    async with connected(script) as (pool, _):
        for _ in range(5):
            try:
                assert (await pool.fetch(exchange)).headers[b"etag"] == b'"real"'
            except ConnectionLost:
                continue


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - there is no event for what the loop sees on its own
            await asyncio.sleep(0.001)


async def test_silence_and_trickles_are_timed_out() -> None:
    """A server that sends nothing, and one that sends a byte now and then: both end, in bounded time."""

    async def silent(visit: Visit) -> None:
        await visit.until_closed()

    async def trickling(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await visit.send(b"x")
            await asyncio.sleep(0.01)

    times = Timeouts(idle=0.2, total=0.5)
    async with connected(silent, timeouts=times) as (pool, server):
        with pytest.raises(ConnectionTimedOut, match="no byte"):
            await pool.fetch(GET)
        await asyncio.wait_for(server.closed[0].wait(), 10)
    async with connected(trickling, timeouts=times) as (pool, _):
        with pytest.raises(ConnectionTimedOut, match="only"):
            await pool.fetch(GET)


async def test_a_slow_reader_is_not_the_servers_fault_and_bounds_memory() -> None:
    """While the sink works nothing is read on, and neither the idle nor the total deadline runs."""
    size = 24 << 20
    sent_at_release = -1
    release = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size >> 16):
            await visit.send(bytes(1 << 16))
            progress.append(1 << 16)

    progress: list[int] = []
    received: list[int] = []

    async def sink(piece: bytes) -> None:
        nonlocal sent_at_release
        if not received:
            asyncio.get_running_loop().call_later(1.0, release.set)
            await release.wait()
            sent_at_release = sum(progress)
        received.append(len(piece))

    async with connected(script, timeouts=Timeouts(idle=0.3, total=0.5)) as (pool, _):
        response = await pool.stream(STREAM, accept, sink)
    assert response.body == b""
    assert sum(received) == size
    assert max(received) < 4 << 20
    assert sent_at_release < size


async def test_what_on_head_or_the_sink_raises_comes_through() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(BODY * 100)

    def refuse(response: Response) -> None:
        assert response.status == 200
        raise UnexpectedResponse("not this")

    async def full_disk(_: bytes) -> None:
        raise OSError("disk full")

    async with connected(script) as (pool, server):
        with pytest.raises(UnexpectedResponse, match="not this"):
            await pool.stream(STREAM, refuse, no_chunk)
        with pytest.raises(OSError, match="disk full"):
            await pool.stream(STREAM, accept, full_disk)
        assert server.connections == 2  # a half-read connection is never used again


async def test_a_streamed_error_document_does_not_reach_the_sink() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"<Error/>", status="404 Not Found")

    async with connected(script) as (pool, server):
        for _ in range(2):
            assert await pool.stream(STREAM, accept, no_chunk) == (404, {b"content-length": b"8"}, b"<Error/>")
        assert server.connections == 1


async def test_empty_and_small_streams_keep_their_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"" if visit.request % 2 else b"small")

    pieces: list[bytes] = []

    async def sink(piece: bytes) -> None:
        pieces.append(piece)

    async with connected(script) as (pool, server):
        for _ in range(4):
            await pool.stream(STREAM, accept, sink)
        assert pieces == [b"small", b"small"]
        assert server.connections == 1


async def test_the_limit_moves_while_requests_run() -> None:
    """Never more at once than the limit; raising it admits who waits, lowering it lets those under way end."""
    under_way = most = 0
    gate = asyncio.Semaphore(0)

    async def script(visit: Visit) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.acquire()
        under_way -= 1
        await visit.answer(b"x")

    async with connected(script, limit=2) as (pool, server):
        requests = [asyncio.create_task(pool.fetch(GET)) for _ in range(9)]
        await _until(lambda: under_way == 2)
        pool.limit = 5
        await _until(lambda: under_way == 5)
        pool.limit = 1
        for _ in range(4):
            gate.release()
        await _until(lambda: under_way == 1 and sum(task.done() for task in requests) == 4)
        assert most == 5
        most = 0
        for _ in range(5):
            gate.release()
        assert [response.body for response in await asyncio.gather(*requests)] == [b"x"] * 9
        assert most <= 1
        assert server.connections == 5
        assert len(pool._open) == 1  # those beyond the lowered limit were closed


async def test_cancelled_requests_give_back_their_places() -> None:
    async def script(visit: Visit) -> None:
        if visit.connection == 0:
            await visit.until_closed()
            return
        await visit.answer(b"x")

    async with connected(script, limit=1) as (pool, server):
        first, second = (asyncio.create_task(pool.fetch(GET)) for _ in range(2))
        await _until(lambda: len(server.heads) == 1)
        third = asyncio.create_task(pool.fetch(GET))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        await asyncio.wait({first, second})
        assert (await asyncio.wait_for(third, 10)).body == b"x"
        assert (await asyncio.wait_for(pool.fetch(GET), 10)).body == b"x"
        assert server.connections == 2  # the cancelled request's connection was not used again


async def test_nothing_is_left_behind(recwarn: pytest.WarningsRecorder) -> None:
    """Closing the pool closes every connection, and the loop has no timer of ours any more."""

    async def script(visit: Visit) -> None:
        await visit.answer(b"x")

    async with raw_server(script) as server:
        pool = Pool(Dialer("127.0.0.1", server.port, tls=None), limit=4, timeouts=Timeouts())
        await asyncio.gather(*(pool.fetch(GET) for _ in range(8)))
        await pool.aclose()
        for closed in server.closed:
            await asyncio.wait_for(closed.wait(), 10)
        assert not pool._open
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


async def test_unused_connections_are_closed_in_time() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"x")

    async with connected(script, timeouts=Timeouts(keep_alive=0.05)) as (pool, server):
        await pool.fetch(GET)
        await asyncio.wait_for(server.closed[0].wait(), 10)


async def test_servers_that_are_not_there() -> None:
    async with raw_server(Visit.answer) as server:
        port = server.port
    pool = Pool(Dialer("127.0.0.1", port, tls=None), limit=1, timeouts=Timeouts())
    with pytest.raises(ConnectionRefused, match=f"127.0.0.1:{port} refused"):
        await pool.fetch(GET)
    pool = Pool(Dialer("no-such-host.invalid", 9000, tls=None), limit=1, timeouts=Timeouts())
    with pytest.raises(NameNotResolved, match=r"no-such-host\.invalid"):
        await pool.fetch(GET)
    await pool.aclose()


async def test_a_connection_that_never_opens_is_timed_out() -> None:
    """TLS to a server that accepts and says nothing: the handshake has the connection's deadline."""
    from ingest.source.tls import unchecked_context

    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    pool = Pool(Dialer("127.0.0.1", port, tls=unchecked_context(), timeout=0.2), limit=1, timeouts=Timeouts())
    with pytest.raises(ConnectionTimedOut):
        await pool.fetch(GET)
    await pool.aclose()
    listener.close()

"""The connection pool: limits, time-outs, slow readers, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from ingest.errors import (
    ConnectionRefused,
    ConnectionTimedOut,
    NameNotResolved,
    UnexpectedResponse,
)
from ingest.http.dial import Dialer
from ingest.http.exchange import Response
from ingest.http.pool import Pool
from ingest.http.throttle import Throttle
from ingest.http.timeouts import Timeouts
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.greeter import greeter
from tests.fixtures.pools import BODY, GET, STREAM, accept, connected, loop_policy, no_chunk
from tests.fixtures.process import until

# The hook that replaces this fixture would run every test of the suite on every loop.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return loop_policy(request.param)


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

    async def sink(chunks: list[bytes]) -> None:
        nonlocal sent_at_release
        if not received:
            asyncio.get_running_loop().call_later(1.0, release.set)
            await release.wait()
            sent_at_release = sum(progress)
        received.append(sum(map(len, chunks)))

    async with connected(script, timeouts=Timeouts(idle=0.3, total=0.5)) as (pool, _):
        response = await pool.stream(STREAM, accept, sink)
    assert response.body == b""
    assert sum(received) == size
    assert max(received) < 4 << 20
    assert sent_at_release < size


async def test_a_limited_rate_changes_no_byte() -> None:
    """Reading pauses again and again, in the middle of bodies and between them; and pausing is no time-out."""

    async def script(visit: Visit) -> None:
        await visit.answer(BODY * 20)

    class Counting(Throttle):
        received = 0

        def pause_after(self, received: int) -> float:
            Counting.received += received
            return super().pause_after(received)

    async with raw_server(script) as server:
        pool = Pool(
            Dialer("127.0.0.1", server.port, tls=None),
            limit=3,
            timeouts=Timeouts(idle=0.5, total=0.5),
            throttle=Counting(1 << 20),
        )
        whole = [pool.fetch(GET) for _ in range(4)]
        for response in await asyncio.gather(*whole):
            assert response.body == BODY * 20
        pieces: list[bytes] = []

        async def sink(chunks: list[bytes]) -> None:
            pieces.extend(chunks)

        await pool.stream(STREAM, accept, sink)
        assert b"".join(pieces) == BODY * 20
        assert Counting.received > 5 * len(BODY * 20)
        await pool.aclose()


@pytest.mark.parametrize("farewell", ["Connection: close\r\n", ""])
async def test_a_limited_rate_holds_also_where_each_answer_ends_its_connection(farewell: str) -> None:
    """The next answer is not read before what was received on the connection before it is slept off."""
    debts: list[float] = []

    class Noting(Throttle):
        def pause_after(self, received: int) -> float:
            if received:
                debts.append(super().pause_after(0))
            return super().pause_after(received)

    async def script(visit: Visit) -> None:
        await visit.answer(bytes(30_000), headers=farewell)
        if farewell:
            visit.hang_up()

    async with raw_server(script) as server:
        dialer = Dialer("127.0.0.1", server.port, tls=None)
        pool = Pool(dialer, limit=1, timeouts=Timeouts(), throttle=Noting(300_000))
        for _ in range(4):
            assert len((await pool.fetch(GET)).body) == 30_000
        await pool.aclose()
    assert server.connections == (4 if farewell else 1)
    answers = [debt for debt in debts if debt > 0.01]  # timers may be early by their resolution
    assert len(debts) >= 4
    assert answers == []


async def test_what_on_head_or_the_sink_raises_comes_through() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(BODY * 100)

    def refuse(response: Response) -> None:
        assert response.status == 200
        raise UnexpectedResponse("not this")

    async def full_disk(_: list[bytes]) -> None:
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
            assert (await pool.stream(STREAM, accept, no_chunk))[:3] == (404, {b"content-length": b"8"}, [b"<Error/>"])
        assert server.connections == 1


async def test_empty_and_small_streams_keep_their_connection() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"" if visit.request % 2 else b"small")

    pieces: list[bytes] = []

    async def sink(chunks: list[bytes]) -> None:
        pieces.extend(chunks)

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
        await until(lambda: under_way == 2)
        pool.limit = 5
        await until(lambda: under_way == 5)
        pool.limit = 1
        for _ in range(4):
            gate.release()
        await until(lambda: under_way == 1 and sum(task.done() for task in requests) == 4)
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
        await until(lambda: len(server.heads) == 1)
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
    from ingest.settings.trust import unchecked_context

    async with greeter() as port:
        pool = Pool(Dialer("127.0.0.1", port, tls=unchecked_context(), timeout=0.2), limit=1, timeouts=Timeouts())
        with pytest.raises(ConnectionTimedOut):
            await pool.fetch(GET)
        await pool.aclose()

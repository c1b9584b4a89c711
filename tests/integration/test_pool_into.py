"""Bodies that go straight to their place: whole and exactly there, however they come, or an error."""

from __future__ import annotations

import asyncio

import pytest

from ingest.errors import ConnectionLost
from ingest.http.connection import SCRATCH_BYTES
from ingest.http.dial import Dialer
from ingest.http.exchange import BodyOverflow
from ingest.http.pool import Pool
from ingest.http.throttle import Throttle
from ingest.http.timeouts import Timeouts
from ingest.testing.raw_server import Script, Visit, raw_server
from tests.fixtures.pools import BODY, STREAM, accept, connected, loop_policy

# The hook that replaces this fixture would run every test of the suite on every loop.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
LARGE = BODY * (3 * SCRATCH_BYTES // len(BODY) + 1)


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return loop_policy(request.param)


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


async def at_once(visit: Visit) -> None:
    await visit.send(head(len(LARGE)) + LARGE)


async def in_pieces(visit: Visit) -> None:
    await visit.send(head(len(LARGE)))
    for start in range(0, len(LARGE), 70_001):
        await asyncio.sleep(0)
        await visit.send(LARGE[start : start + 70_001])


async def chunked(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(LARGE), 100_000):
        chunk = LARGE[start : start + 100_000]
        await visit.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    await visit.send(b"0\r\n\r\n")


@pytest.mark.parametrize("script", [at_once, in_pieces, chunked])
async def test_the_buffer_is_filled_and_the_connection_used_again(script: Script) -> None:
    async with connected(script) as (pool, server):
        for _ in range(3):
            buffer = bytearray(len(LARGE))
            response, length = await pool.stream_into(STREAM, accept, memoryview(buffer))
            assert (response.status, length) == (200, len(LARGE))
            assert buffer == LARGE
        assert server.connections == 1


async def test_an_empty_body_fills_an_empty_buffer() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(0))

    async with connected(script) as (pool, server):
        for _ in range(2):
            assert (await pool.stream_into(STREAM, accept, memoryview(b"")))[1] == 0
        assert server.connections == 1


@pytest.mark.parametrize("script", [at_once, in_pieces, chunked])
async def test_what_is_longer_than_the_buffer_is_refused_and_stays_inside_it(script: Script) -> None:
    memory = bytearray(b"." * len(LARGE))
    async with connected(script) as (pool, server):
        with pytest.raises(BodyOverflow):
            await pool.stream_into(STREAM, accept, memoryview(memory)[: len(LARGE) - 10])
        assert bytes(memory[-10:]) == b"." * 10
        await asyncio.wait_for(server.closed[0].wait(), 10)


async def test_what_is_shorter_says_how_long_it_was() -> None:
    async with connected(chunked) as (pool, _):
        _, length = await pool.stream_into(STREAM, accept, memoryview(bytearray(len(LARGE) + 10)))
        assert length == len(LARGE)


async def test_a_connection_that_breaks_in_the_middle_is_an_error() -> None:
    async def script(visit: Visit) -> None:
        await visit.send(head(len(LARGE)) + LARGE[:-1])
        visit.reset()

    async with connected(script) as (pool, _):
        with pytest.raises(ConnectionLost):
            await pool.stream_into(STREAM, accept, memoryview(bytearray(len(LARGE))))


async def test_an_error_document_leaves_the_buffer_alone() -> None:
    async def script(visit: Visit) -> None:
        await visit.answer(b"<Error/>", status="404 Not Found")

    buffer = bytearray(b"........")
    async with connected(script) as (pool, _):
        response, _ = await pool.stream_into(STREAM, accept, memoryview(buffer))
        assert (response.status, response.body, bytes(buffer)) == (404, b"<Error/>", b"........")


async def test_who_is_cancelled_gets_its_buffer_back() -> None:
    """What the server still sends goes nowhere: the buffer may be somebody else's by then."""
    go_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(head(len(LARGE)) + LARGE[:1000])
        await go_on.wait()
        await visit.send(LARGE[1000:])

    buffer = bytearray(len(LARGE))
    async with connected(script) as (pool, server):
        reading = asyncio.ensure_future(pool.stream_into(STREAM, accept, memoryview(buffer)))
        async with asyncio.timeout(10):
            while not buffer[999]:  # noqa: ASYNC110 - there is no event for bytes
                await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait({reading})
        buffer[:] = bytes(len(buffer))
        go_on.set()
        await asyncio.wait_for(server.closed[0].wait(), 10)
        assert not any(buffer)


async def test_a_limited_rate_reads_it_all_the_same() -> None:
    async with raw_server(in_pieces) as server:
        pool = Pool(
            Dialer("127.0.0.1", server.port, tls=None), limit=1, timeouts=Timeouts(), throttle=Throttle(4 << 20)
        )
        buffer = bytearray(len(LARGE))
        assert (await pool.stream_into(STREAM, accept, memoryview(buffer)))[1] == len(LARGE)
        assert buffer == LARGE
        await pool.aclose()

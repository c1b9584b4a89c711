"""Requests with a body: whole and in order, refused in the middle, cut off, sent once more; over TLS as well."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trustme

from ingest.errors import ConnectionLost
from ingest.http.dial import Dialer
from ingest.http.exchange import MOST_ERROR_BYTES, Body, Exchange
from ingest.http.pool import Pool
from ingest.http.timeouts import Timeouts
from ingest.settings.trust import unchecked_context
from ingest.testing.raw_server import RawServer, Script, Visit, raw_server
from tests.fixtures.pools import BODY, loop_policy

# The hook that replaces this fixture would run every test of the suite on every loop.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
LARGE = BODY * 400
"""6.5 MB: more than the kernel takes in for a server that does not read."""
CERTIFICATE = trustme.CA().issue_cert("127.0.0.1")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return loop_policy(request.param)


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tls")


@asynccontextmanager
async def connected(script: Script, tls: bool = False) -> AsyncIterator[tuple[Pool, RawServer]]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CERTIFICATE.configure_cert(context)
    async with raw_server(script, tls=context) as server:
        dialer = Dialer("127.0.0.1", server.port, tls=unchecked_context() if tls else None)
        pool = Pool(dialer, limit=4, timeouts=Timeouts())
        try:
            yield pool, server
        finally:
            await pool.aclose()


def post(body: Body, length: int, *, lenient: bool = False) -> Exchange:
    head = f"POST /v1/verify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
    return Exchange(head, 1000, body=body, lenient=lenient)


@dataclass
class Pieces:
    """A body that comes piece by piece, and how far it was asked for."""

    content: bytes
    size: int = 200_000
    failure: Exception | None = None
    given: list[int] = field(default_factory=list)
    ended: int = 0

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        self.given.append(0)
        try:
            for start in range(0, len(self.content), self.size):
                await asyncio.sleep(0)
                self.given[-1] += 1
                yield self.content[start : start + self.size]
            if self.failure is not None:
                raise self.failure
        finally:
            self.ended += 1


async def take(visit: Visit, *, most: int | None = None) -> bytes:
    length = int(visit.head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    return await visit.reader.readexactly(length if most is None else most)


@pytest.mark.parametrize("size", [0, 1, 100_000, (256 << 10) + 1, len(LARGE)])
@pytest.mark.parametrize("form", ["bytes", "pieces"])
async def test_a_body_arrives_as_it_is_and_the_connection_is_used_again(size: int, form: str, tls: bool) -> None:
    received: list[bytes] = []

    async def script(visit: Visit) -> None:
        received.append(await take(visit))
        await visit.answer(b"taken")

    content = LARGE[:size]
    async with connected(script, tls) as (pool, server):
        for _ in range(3):
            body: Body = content if form == "bytes" else Pieces(content)
            assert (await pool.fetch(post(body, size))).body == b"taken"
        assert server.connections == 1
    assert received == [content] * 3


@pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized", "307 Temporary Redirect"])
@pytest.mark.parametrize("form", ["bytes", "pieces"])
async def test_a_refusal_in_the_middle_is_understood(status: str, form: str, tls: bool) -> None:
    """The server answers, reads nothing more, and keeps the connection open: the rest is not sent."""

    async def script(visit: Visit) -> None:
        await take(visit, most=1000)
        await visit.answer(b"why", status=status)
        await visit.until_closed()

    pieces = Pieces(LARGE)
    async with connected(script, tls) as (pool, server):
        response = await pool.fetch(post(pieces if form == "pieces" else LARGE, len(LARGE)))
        assert (response.status, response.body) == (int(status[:3]), b"why")
        await asyncio.wait_for(server.closed[0].wait(), 10)  # half a request is nothing to go on from
        if form == "pieces":
            assert pieces.given[0] * pieces.size < len(LARGE)
            assert pieces.ended == 1


@pytest.mark.parametrize("form", ["bytes", "pieces"])
@pytest.mark.parametrize("leaves", ["closes", "resets", "says nothing of length"])
async def test_a_refusal_is_understood_of_a_server_that_is_gone_at_once(form: str, leaves: str) -> None:
    """Unread bytes make the kernel reset the connection: what was said before that is read all the same."""

    async def script(visit: Visit) -> None:
        await take(visit, most=1000)
        if leaves == "says nothing of length":
            await visit.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\nwhy")
        else:
            await visit.answer(b"why", status="413 Content Too Large")
        visit.reset() if leaves == "resets" else visit.hang_up()

    async with connected(script) as (pool, server):
        for number in range(20):
            response = await pool.fetch(post(Pieces(LARGE) if form == "pieces" else LARGE, len(LARGE)))
            assert (response.status, response.body) == (413, b"why"), number
        assert server.connections == 20


async def test_an_early_success_ends_the_request(tls: bool) -> None:
    async def script(visit: Visit) -> None:
        await take(visit, most=1000)
        await visit.answer(b"enough")
        await visit.until_closed()

    async with connected(script, tls) as (pool, server):
        assert (await pool.fetch(post(Pieces(LARGE), len(LARGE)))).body == b"enough"
        await asyncio.wait_for(server.closed[0].wait(), 10)


async def test_a_connection_that_was_closed_meanwhile_is_replaced_and_the_body_made_anew() -> None:
    received: list[bytes] = []

    async def script(visit: Visit) -> None:
        if visit.connection == 0 and visit.request == 1:
            await take(visit, most=1000)
            visit.reset()
            return
        received.append(await take(visit))
        await visit.answer(b"taken")

    pieces = Pieces(LARGE)
    async with connected(script) as (pool, server):
        assert (await pool.fetch(post(b"first", 5))).body == b"taken"
        assert (await pool.fetch(post(pieces, len(LARGE)))).body == b"taken"
        assert server.connections == 2
    assert received == [b"first", LARGE]
    assert len(pieces.given) == pieces.ended == 2


async def test_a_fresh_connection_that_breaks_is_an_error_and_nothing_is_sent_twice() -> None:
    async def script(visit: Visit) -> None:
        await take(visit, most=1000)
        visit.reset()

    pieces = Pieces(LARGE)
    async with connected(script) as (pool, server):
        with pytest.raises(ConnectionLost) as raised:
            await pool.fetch(post(pieces, len(LARGE)))
        assert raised.value.sent
        assert server.connections == 1
    assert pieces.ended == 1


async def test_a_body_that_cannot_be_made_leaves_half_a_request_behind_and_says_why() -> None:
    received = asyncio.get_running_loop().create_future()

    async def script(visit: Visit) -> None:
        received.set_result(len(await visit.reader.read(-1)))

    async with connected(script) as (pool, server):
        with pytest.raises(OSError, match="the disk"):
            await pool.fetch(post(Pieces(BODY, failure=OSError("the disk")), len(BODY) + 100))
        await asyncio.wait_for(server.closed[0].wait(), 10)
    assert received.result() <= len(BODY)


async def test_who_gives_up_while_a_server_does_not_read_is_let_go() -> None:
    async def script(visit: Visit) -> None:
        await take(visit, most=1)
        asked.set()
        await visit.until_closed()

    asked = asyncio.Event()
    pieces = Pieces(LARGE)
    async with connected(script) as (pool, server):
        request = asyncio.create_task(pool.fetch(post(pieces, len(LARGE))))
        await asyncio.wait_for(asked.wait(), 10)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.wait_for(server.closed[0].wait(), 10)
    assert pieces.ended == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 201 Created\r\n\r\n",
        b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 3000000\r\n\r\n",
    ],
)
async def test_words_for_people_are_cut_and_may_end_with_the_connection(answer: bytes) -> None:
    async def script(visit: Visit) -> None:
        await take(visit)
        await visit.send(answer, b"x" * 3_000_000)
        visit.hang_up()

    async def short(visit: Visit) -> None:
        await take(visit)
        await visit.send(b"HTTP/1.0 200 OK\r\n\r\n{}")
        visit.hang_up()

    async with connected(script) as (pool, _):
        response = await pool.fetch(post(b"body", 4, lenient=True))
        assert response.status == int(answer.split()[1])
        assert MOST_ERROR_BYTES < len(response.body) < MOST_ERROR_BYTES + (1 << 20)
        assert set(response.body) == {ord("x")}
    async with connected(short) as (pool, _):
        assert (await pool.fetch(post(b"body", 4, lenient=True))).body == b"{}"
        with pytest.raises(ConnectionLost, match="without its length"):
            await pool.fetch(post(b"body", 4))

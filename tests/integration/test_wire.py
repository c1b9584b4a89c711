"""The HTTP client against a server that misbehaves on order: an answer is whole, or it is an error by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest

from ingest.errors import (
    ConnectionLost,
    NotTls,
    UnexpectedResponse,
)
from ingest.http.exchange import MOST_ERROR_BYTES, Exchange
from ingest.testing.raw_server import Visit
from tests.fixtures.pools import BODY, GET, HEAD, STREAM, accept, connected, loop_policy
from tests.fixtures.process import until

# The hook that replaces this fixture would run every test of the suite on every loop.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return loop_policy(request.param)


async def test_a_body_in_every_fragmentation() -> None:
    """However the network cuts the answer, the same response comes out."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "x"\r\n\r\nabcdef'

    async def script(visit: Visit) -> None:
        cuts = sorted({0, visit.request % len(answer), visit.request * 7 % len(answer), len(answer)})
        await visit.send(*(answer[start:end] for start, end in pairwise(cuts)))

    async with connected(script) as (pool, server):
        for _ in range(len(answer)):
            response = await pool.fetch(GET)
            assert (response.status, response.headers, response.body) == (
                200,
                {b"content-length": b"6", b"etag": b'"x"'},
                b"abcdef",
            )
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
        assert (await pool.fetch(GET))[:3] == (200, {b"content-length": b"4"}, [b"real"])


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


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content", "403 Forbidden", "404 Not Found", "503 Slow Down"])
@pytest.mark.parametrize(
    "framing", ["", "Content-Length: 0\r\n", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"]
)
async def test_head_keeps_its_connection_whatever_is_said_of_a_body(status: str, framing: str) -> None:
    """Not every server says the length of what it does not send, least of all with a refusal."""

    async def script(visit: Visit) -> None:
        await visit.send(f"HTTP/1.1 {status}\r\n{framing}\r\n".encode())

    async with connected(script) as (pool, server):
        for _ in range(3):
            assert (await pool.fetch(HEAD)).body == b""
        assert server.connections == 1


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        ("HTTP/1.1 200 OK\r\nConnection: te, close\r\n", False),
        ("HTTP/1.0 200 OK\r\n", False),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
@pytest.mark.parametrize("framing", ["", "Content-Length: 0\r\n"])
async def test_head_ends_the_connection_where_the_server_does(head: str, framing: str, stays: bool) -> None:
    async def script(visit: Visit) -> None:
        await visit.send(f"{head}{framing}\r\n".encode())

    async with connected(script) as (pool, server):
        for _ in range(3):
            await pool.fetch(HEAD)
        assert server.connections == (1 if stays else 3)


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

    async def sink(_: list[bytes]) -> None: ...

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
        await until(lambda: not any(connection.reusable for connection in pool._idle))
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

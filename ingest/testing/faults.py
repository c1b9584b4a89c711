"""What a `Fault` does in place of the correct answer. Each is a `Deed`, or makes one."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from itertools import cycle

from ingest.testing.memory_s3 import Answer, Deed, refusal
from ingest.testing.raw_server import Visit


async def reset(visit: Visit, _: Answer) -> None:
    """RST instead of an answer."""
    visit.reset()


async def stall(visit: Visit, _: Answer) -> None:
    """Not a byte, until the client gives up."""
    await visit.until_closed()


async def stall_half_way(visit: Visit, answer: Answer) -> None:
    await visit.send(answer.head, answer.body[: len(answer.body) // 2])
    await visit.until_closed()


def stall_half_way_noting(reached: asyncio.Event) -> Deed:
    """The same; `reached` is set when the half is sent."""

    async def deed(visit: Visit, answer: Answer) -> None:
        await visit.send(answer.head, answer.body[: len(answer.body) // 2])
        reached.set()
        await visit.until_closed()

    return deed


async def trickle(visit: Visit, answer: Answer) -> None:
    """A byte now and then: never idle, and never done."""
    await visit.send(answer.head)
    for byte in answer.body:
        await visit.send(bytes([byte]))
        await asyncio.sleep(0.02)


def cut(keep: int) -> Deed:
    """Promises the whole body, sends `keep` bytes of it (negative: all of the answer but so many), and closes."""

    async def deed(visit: Visit, answer: Answer) -> None:
        whole, head = answer.head + answer.body, len(answer.head)
        await visit.send(whole[:keep] if keep < 0 else whole[: head + keep])
        visit.hang_up()

    return deed


async def short_without_length(visit: Visit, answer: Answer) -> None:
    """The end of the connection is the end of the body, as HTTP/1.0 has it: the cut does not show."""
    half = answer.plus(answer.body[: len(answer.body) // 2], Connection="close")
    await visit.send(half.head, half.body)
    visit.hang_up()


async def chunked_cut(visit: Visit, answer: Answer) -> None:
    """A chunked body without its last chunk."""
    half = answer.body[: len(answer.body) // 2]
    await visit.send(answer.plus(Transfer_Encoding="chunked").head, f"{len(half):x}\r\n".encode() + half + b"\r\n")
    visit.hang_up()


def answering(change: Callable[[Answer], Answer]) -> Deed:
    """The answer, changed; whole, and on a connection that stays."""

    async def deed(visit: Visit, answer: Answer) -> None:
        changed = change(answer)
        await visit.send(changed.head, b"" if visit.head.startswith(b"HEAD ") else changed.body)

    return deed


def saying(status: str, code: str = "", **headers: str) -> Deed:
    """Another status, with S3's error document (none without a `code`)."""
    return answering(lambda _: refusal(status, code, **headers))


def telling(body: bytes) -> Deed:
    """A 200 with this body."""
    return answering(lambda answer: answer.plus(body))


def web_page(status: str = "200 OK") -> Deed:
    """What a proxy or a console shows to a browser."""
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>"
    return answering(lambda _: Answer(status, {"Content-Type": "text/html"}, page))


def replacing(old: bytes, new: bytes) -> Deed:
    return answering(lambda answer: answer.plus(answer.body.replace(old, new)))


wrong_bytes = answering(lambda answer: answer.plus(bytes(byte ^ 1 for byte in answer.body)))
"""Of the right length, and the same each time."""


def wrong_otherwise_each_time() -> Deed:
    """Of the right length: what a bad line makes of them. The same twice would speak for the bytes."""
    turns = cycle(range(1, 256))

    def spoil(answer: Answer) -> Answer:
        turn = next(turns)
        return answer.plus(bytes(byte ^ turn for byte in answer.body))

    return answering(spoil)


error_in_a_200 = answering(lambda _: refusal("200 OK", "InternalError"))
error_of_the_right_length = answering(
    lambda answer: answer.plus((refusal("", "InternalError").body + b" " * len(answer.body))[: len(answer.body)])
)
gzipped = answering(lambda answer: answer.plus(gzip.compress(answer.body), Content_Encoding="gzip"))
claims_gzip = answering(lambda answer: answer.plus(Content_Encoding="gzip"))
"""The object's own bytes, under a header that asks clients to decode them: they must not."""


def in_turn(*deeds: Deed) -> Deed:
    """One after the other; the last one again and again."""
    left = list(deeds)

    async def deed(visit: Visit, answer: Answer) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(visit, answer)

    return deed


def after(action: Callable[[], object], then: Deed) -> Deed:
    """Does something to the world first."""

    async def deed(visit: Visit, answer: Answer) -> None:
        action()
        await then(visit, answer)

    return deed


def after_awaiting(action: Callable[[], Awaitable[object]], then: Deed) -> Deed:
    async def deed(visit: Visit, answer: Answer) -> None:
        await action()
        await then(visit, answer)

    return deed


sane = answering(lambda answer: answer)

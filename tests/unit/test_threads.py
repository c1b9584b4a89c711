"""No thread outlives the task that started it, however often that is cancelled; and none ends with a complaint that
nobody asked for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ingest.engine.transfer.ordered_hash import OrderedHash
from ingest.tasks.threads import in_thread, together


class Slow:
    """Work of a thread, which goes on when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.go_on, self.begun, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go_on.wait(30)
        self.ended.set()
        if self.error is not None:
            raise self.error


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def begun(work: Slow) -> None:
    assert await asyncio.to_thread(work.begun.wait, 30)


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_cancelled_task_waits_for_its_thread(times: int, complaints: list[dict[str, Any]]) -> None:
    work = Slow(OSError("closed"))
    task = asyncio.create_task(in_thread(None, work))
    await begun(work)
    for _ in range(times):
        task.cancel()
        await turns()
    assert not task.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()
    await turns()
    del task
    gc.collect()
    assert complaints == []


async def test_cancelled_together_all_threads_end_before_it_does(complaints: list[dict[str, Any]]) -> None:
    """As a run is stopped: whoever waits is cancelled, and with it all that it waits for, some of it twice."""
    works = [Slow(OSError("closed")) for _ in range(3)]

    async def nested() -> None:
        await together(in_thread(None, works[1]), in_thread(None, works[2]))

    task = asyncio.create_task(together(in_thread(None, works[0]), nested()))
    for work in works:
        await begun(work)
    for _ in range(3):
        task.cancel()
        await turns()
    for work in works:
        assert not task.done()
        work.go_on.set()
        await turns()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(work.ended.is_set() for work in works)
    await turns()
    gc.collect()
    assert complaints == []


async def test_the_first_error_is_raised_when_the_rest_has_ended() -> None:
    work, failed = Slow(OSError("a later one")), asyncio.Event()

    async def fails() -> None:
        await begun(work)
        failed.set()
        raise ValueError("the first")

    task = asyncio.create_task(together(fails(), in_thread(None, work)))
    await asyncio.wait_for(failed.wait(), 30)
    await turns()
    assert not task.done()
    work.go_on.set()
    with pytest.raises(ValueError, match="the first"):
        await task
    assert work.ended.is_set()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


async def test_a_cancelled_chain_ends_its_thread_by_itself(threads: ThreadPoolExecutor) -> None:
    """Whoever feeds it may have been cancelled before it began, and then tells it nothing."""
    chain = OrderedHash(lambda _: None, threads)
    task = asyncio.create_task(chain.run())
    await turns()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def test_a_chain_without_a_thread_leaves_none_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no thread could be had for stays in line, and comes to the next one: which must not wait for more then."""
    with ThreadPoolExecutor(2) as threads:
        with monkeypatch.context() as patched:

            def start(_: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                await OrderedHash(lambda _: None, threads).run()
        assert await asyncio.wait_for(in_thread(threads, lambda: "the next one"), 30) == "the next one"


@pytest.mark.parametrize("times", [1, 3])
async def test_what_a_thread_opens_for_nobody_is_let_go(times: int) -> None:
    work, discarded = Slow(), list[str]()

    def opens() -> str:
        work()
        return "opened"

    task = asyncio.create_task(in_thread(None, opens, discard=discarded.append))
    await begun(work)
    for _ in range(times):
        task.cancel()
        await turns()
    assert discarded == []
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert discarded == ["opened"]


async def test_what_was_received_is_its_owners() -> None:
    discarded = list[str]()
    assert await in_thread(None, lambda: "opened", discard=discarded.append) == "opened"
    assert discarded == []

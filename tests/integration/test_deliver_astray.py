"""An address where nobody takes anything rejects no object: all wait, cleanup keeps them, and the right one gets them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import update

from ingest.catalog import outbox
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import deliveries
from ingest.demo.verify_service import VerifyService
from ingest.engine.options import CleanupOptions
from ingest.errors import ExitCode
from ingest.jobs.cleanup import cleanup
from ingest.jobs.show import history
from ingest.model import DeliveryState, RunReport
from ingest.observe.progress import Silence
from ingest.plan.verdicts import MANY
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.raw_server import RawServer, Visit, raw_server
from tests.fixtures.catalogs import writing
from tests.fixtures.servers import Bucket
from tests.fixtures.verify_service import in_line, run_deliver, run_sync

KEYS = {f"k{number:02}": b"x" for number in range(12)}


async def totals(settings: Settings) -> dict[str, int]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        return await outbox.totals(catalog, 1)


async def all_are_due(settings: Settings) -> None:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(deliveries).values(next_attempt_at=deliveries.c.created_at))


async def clean(settings: Settings) -> RunReport:
    return await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())


def waits(report: RunReport, number: int, code: str = "endpoint_astray") -> None:
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, code), report.error
    assert (report.counts.rejected, report.counts.dead, report.counts.pending) == (0, 0, number)


@pytest.mark.parametrize("number", [1, MANY - 1, MANY, 12])
async def test_a_typing_error_in_the_path(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str, number: int
) -> None:
    """404 from the very first one on. Nothing is pruned; and once the path is right all of it arrives."""
    keys = dict([*KEYS.items()][:number])
    wrong = await in_line(weed, f"{service.url}fy", keys, tmp_path / "data", database_url)
    report = await run_deliver(wrong, patience=0.0)
    waits(report, number)
    assert report.error is not None
    assert "404" in report.error.message
    assert "VERIFY_URL" in report.error.hint
    assert (await clean(wrong)).counts.pruned == 0
    right = wrong.model_copy(update={"verify_url": service.url})
    taken = await run_deliver(right, take_over=True)
    assert (taken.exit_code, taken.counts.delivered) == (0, number)


@pytest_asyncio.fixture
async def odd() -> AsyncIterator[Callable[[str, bytes, str], object]]:
    """Something else than the service at its address."""
    opened = []

    async def start(status: str, body: bytes = b"", headers: str = "") -> RawServer:
        async def answer(visit: Visit) -> None:
            length = int(re.search(rb"content-length: (\d+)", visit.head, re.IGNORECASE)[1])  # type: ignore[index]
            await visit.reader.readexactly(length)
            await visit.answer(body, status=status, headers=headers)

        server = raw_server(answer)
        opened.append(server)
        return await server.__aenter__()

    yield start
    for server in opened:
        await server.__aexit__(None, None, None)


PAGE = b"<!doctype html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        ("404 Not Found", PAGE, "endpoint_astray"),
        ("400 Bad Request", b"The plain HTTP request was sent to HTTPS port", "endpoint_astray"),
        ("410 Gone", b"", "endpoint_astray"),
        ("415 Unsupported Media Type", b"", "endpoint_astray"),
        ("422 Unprocessable Entity", b'{"detail": "another form"}', "endpoint_astray"),
        ("405 Method Not Allowed", b"", "endpoint_refused"),
        ("411 Length Required", b"", "endpoint_refused"),
        ("421 Misdirected Request", b"", "endpoint_refused"),
        ("501 Not Implemented", b"", "endpoint_refused"),
        ("511 Network Authentication Required", PAGE, "endpoint_refused"),
        ("200 OK", PAGE, "endpoint_astray"),
        ("302 Found", b"", "endpoint_redirect"),
    ],
)
async def test_something_else_at_the_address(
    weed: Bucket, tmp_path: Path, odd: Callable[..., object], status: str, body: bytes, code: str
) -> None:
    server: RawServer = await odd(status, body)  # type: ignore[misc]
    url = f"http://127.0.0.1:{server.port}/v1/verify"
    settings = await in_line(weed, url, KEYS, tmp_path / "data")
    waits(await run_deliver(settings, patience=0.0), len(KEYS), code)
    assert (await clean(settings)).counts.pruned == 0


async def test_an_ingress_that_is_redeployed(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """It took objects before, and answers 404 for a while: those wait, and are taken afterwards."""
    settings = await in_line(weed, service.url, {"before": b"y"}, tmp_path / "data", database_url)
    assert (await run_deliver(settings)).counts.delivered == 1
    await weed.put(KEYS)
    await run_sync(settings)
    service.fail(404, times=100)
    waits(await run_deliver(settings, patience=0.0), len(KEYS))
    service.fail(200, times=0)
    await all_are_due(settings)
    report = await run_deliver(settings)
    assert (report.exit_code, report.counts.delivered) == (0, len(KEYS))


async def test_a_few_that_are_refused_in_a_quiet_night(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """A verdict of the service is one; what any proxy says waits until something is taken again."""
    settings = await in_line(weed, service.url, {"before": b"y"}, tmp_path / "data", database_url)
    assert (await run_deliver(settings)).counts.delivered == 1
    service.rejects = {"/verdict": 422, "/proxy": 404}
    await weed.put({"verdict": b"1"})
    await run_sync(settings)
    report = await run_deliver(settings, patience=0.0)
    assert (report.exit_code, report.counts.rejected) == (ExitCode.PARTIAL, 1)
    await weed.put({"proxy": b"2"})
    await run_sync(settings)
    waits(await run_deliver(settings, patience=0.0), 1)
    await weed.put({"good": b"3"})
    await run_sync(settings)
    await all_are_due(settings)
    report = await run_deliver(settings)
    assert (report.counts.delivered, report.counts.rejected, report.counts.pending) == (1, 1, 0)
    (verdict,) = (await history(settings, "proxy"))["deliveries"]
    assert (verdict["state"], verdict["response_status"]) == ("rejected", 404)


async def test_many_bad_ones_are_rejected_once_a_good_one_was_taken(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """Taken for the address's fault at first; with 4, and nothing lost."""
    keys = {f"bad{number}": b"x" for number in range(MANY + 2)}
    settings = await in_line(weed, service.url, keys, tmp_path / "data", database_url)
    service.rejects = {f"/{key}": 422 for key in keys}
    waits(await run_deliver(settings, patience=0.0), len(keys))
    await weed.put({"good": b"y"})
    await run_sync(settings)
    await all_are_due(settings)
    report = await run_deliver(settings)
    assert (report.counts.delivered, report.counts.rejected, report.counts.pending) == (1, len(keys), 0)
    assert report.exit_code == ExitCode.PARTIAL


async def test_what_an_earlier_address_rejected_is_told_of_and_taken_over_on_demand(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """Also when its copy was pruned since. What that address took, or gave up for a newer version, is nobody's."""
    earlier = await in_line(
        weed,
        "http://earlier.example.com/",
        {"a": b"1", "b": b"2", "c": b"3", "d": b"4"},
        tmp_path / "data",
        database_url,
    )
    states = {"a": "rejected", "b": "dead", "c": "delivered", "d": "pending"}
    async with Catalog.open(database_url) as catalog, writing(catalog) as connection:
        for key, state in states.items():
            await connection.execute(update(deliveries).where(deliveries.c.key == key).values(state=state, attempts=30))
    settings = earlier.model_copy(update={"verify_url": service.url})
    assert (await clean(settings)).counts.pruned == 2  # a and c are ruled on
    asked = await run_deliver(settings)
    assert (asked.notes["waiting_elsewhere"], asked.notes["refused_elsewhere"]) == (1, 2)
    plain = await run_deliver(settings, take_over=True)
    assert plain.counts.delivered == 1
    again = await run_deliver(settings, take_over=True, again=(DeliveryState.REJECTED, DeliveryState.DEAD))
    assert (again.exit_code, again.counts.delivered, again.notes["refused_elsewhere"]) == (0, 2, 0)
    assert sorted(service.accepted) == ["a", "b", "d"]
    assert await totals(settings) == {"delivered": 4}

"""The endpoint in trouble: nothing is lost, nothing is hammered, and each fault is named with its exit code."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import deliveries, events
from ingest.delivery.service import Service
from ingest.demo.verify_service import VerifyService, verify_service
from ingest.engine.run import Run
from ingest.errors import ExitCode
from ingest.jobs.show import history, status
from ingest.model import RunReport, RunStatus
from ingest.plan.rulings import MOST_DELIVERIES
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.catalogs import reading, writing
from tests.fixtures.process import ended, run_ingest, started, until
from tests.fixtures.servers import Bucket, Certificates
from tests.fixtures.verify_service import in_line, opened, run_deliver, run_sync, run_work

TOKEN = "canary-token-5e1f"


async def delivery_of(settings: Settings, key: str) -> dict[str, Any]:
    (found,) = (await history(settings, key))["deliveries"]
    return dict(found)


async def everything_is_due(settings: Settings) -> None:
    """Hours later."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(deliveries).values(next_attempt_at=deliveries.c.created_at))


def codes(report: RunReport) -> tuple[int, str | None]:
    return report.exit_code, report.error.code if report.error else None


@pytest.mark.parametrize("failing", [500, 503, 408])
async def test_a_fault_is_tried_again_in_the_same_run(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str, failing: int
) -> None:
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)
    service.fail(failing)
    report = await run_deliver(settings)
    assert (codes(report), report.counts.delivered) == ((0, None), 1)
    assert (service.requests, service.accepted) == (2, ["k"])
    assert (await delivery_of(settings, "k"))["attempts"] == 2


async def test_what_keeps_failing_is_left_in_line_with_its_reason_and_goes_on_later(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"k": b"x", "l": b"y"}, tmp_path / "data", database_url)
    service.fail(500, times=2)
    report = await run_deliver(settings, patience=0.0)
    assert (codes(report), report.status) == ((ExitCode.PARTIAL, None), RunStatus.PARTIAL)
    assert (report.counts.pending, report.counts.failed, report.counts.delivered) == (2, 2, 0)
    left = await delivery_of(settings, "k")
    assert (left["state"], left["response_status"], left["attempts"]) == ("pending", 500, 1)
    assert left["last_error"].endswith("answered 500")
    assert left["claimed_by"] is None
    again = await run_deliver(settings)  # its pause goes on across runs, and is short enough to be waited for
    assert (codes(again), again.counts.delivered, again.counts.pending) == ((0, None), 2, 0)


async def test_what_fails_for_days_is_given_up(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(deliveries).values(attempts=MOST_DELIVERIES - 1))
    service.fail(500)
    report = await run_deliver(settings, patience=0.0)
    assert (report.exit_code, report.counts.dead) == (ExitCode.PARTIAL, 1)
    assert "given up after 30 attempts" in (await delivery_of(settings, "k"))["last_error"]


async def test_too_many_requests_holds_everything_for_as_long_as_asked(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    keys = {f"k{number:02}": b"x" for number in range(30)}
    settings = await in_line(weed, service.url, keys, tmp_path / "data", database_url)
    service.fail(429, times=100, Retry_After="600")
    report = await run_deliver(settings, patience=1.0)
    assert 1 <= service.requests <= 16, "at most what was under way when the first answer came"
    assert (report.exit_code, report.counts.delivered, report.counts.pending) == (ExitCode.PARTIAL, 0, 30)
    service.fail(200, times=0)
    await everything_is_due(settings)
    assert codes(await run_deliver(settings)) == (0, None)
    assert sorted(service.accepted) == sorted(keys)


async def test_no_answer_in_time_is_a_fault(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(
        weed, service.url, {"k": b"x"}, tmp_path / "data", database_url, verify_timeout=timedelta(seconds=0.3)
    )
    service.fail(200, delay=2.0)
    report = await run_deliver(settings, patience=0.0)
    assert report.counts.pending == 1
    assert (await delivery_of(settings, "k"))["last_error"].endswith("no answer in time")


async def test_an_endpoint_that_is_down_opens_the_circuit_and_closes_it_when_it_is_back(
    weed: Bucket, tmp_path: Path, database_url: str
) -> None:
    keys = {f"k{number:02}": b"x" for number in range(40)}
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))  # bound, and not listening: refused
        port = reserved.getsockname()[1]
        settings = await in_line(weed, f"http://127.0.0.1:{port}/v1/verify", keys, tmp_path / "data", database_url)
        down = await run_deliver(settings, patience=0.0)
    assert codes(down) == (ExitCode.SOURCE, "endpoint_unreachable")
    assert (down.counts.delivered, down.counts.pending) == (0, 40)
    assert (await delivery_of(settings, "k00"))["attempts"] == 0, "it is not the object's fault"

    async def work(run: Run) -> None:
        with ExitStack() as stack:
            async with opened(run) as dispatcher:
                draining = asyncio.create_task(dispatcher.run(Stop(), until_empty=True))
                await until(lambda: dispatcher.paused)
                found.append(await asyncio.to_thread(stack.enter_context, verify_service(port=port)))
                await draining
                assert not dispatcher.paused
                assert dispatcher.trouble is None

    found: list[VerifyService] = []
    report = await run_work(settings, work)
    assert (report.error, report.counts.delivered) == (None, 40)
    assert sorted(found[0].accepted) == sorted(keys)


async def test_one_object_that_always_fails_does_not_stand_in_the_way_of_what_comes(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"poison": b"x"}, tmp_path / "data", database_url)
    service.rejects = {"/poison": 500}

    async def work(run: Run) -> None:
        stop = Stop()
        async with opened(run) as dispatcher:
            dispatcher.breaker.threshold = 1
            standing = asyncio.create_task(dispatcher.run(stop, until_empty=False))
            await until(lambda: dispatcher.paused)
            await until(lambda: not dispatcher.paused)  # nobody consumes while it is, so nothing else could tell
            await weed.put({"good": b"y"})
            assert (await run_sync(settings)).counts.downloaded == 1
            dispatcher.wake()
            await until(lambda: dispatcher.counts.delivered == 1)
            stop.request(signal.SIGTERM)
            await standing

    assert (await run_work(settings, work)).error is None
    assert service.accepted == ["good"]


async def rename(run: Run, table: str, to: str) -> None:
    async with writing(run.catalog) as connection:
        await connection.execute(text(f"ALTER TABLE {table} RENAME TO {to}"))


async def test_a_standing_dispatcher_waits_for_its_database(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)

    async def work(run: Run) -> None:
        stop = Stop()
        async with opened(run) as dispatcher:
            await rename(run, "deliveries", "away")
            standing = asyncio.create_task(dispatcher.run(stop, until_empty=False))
            await until(lambda: "outbox_failed" in caplog.text)
            await rename(run, "away", "deliveries")
            await until(lambda: dispatcher.counts.delivered == 1)
            stop.request(signal.SIGTERM)
            await standing

    assert (await run_work(settings, work)).error is None
    assert service.accepted == ["k"]


async def test_a_copy_is_brought_back_once_what_stood_in_its_way_is_over(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """The database fails the row of what was fetched, though not the outbox; a standing dispatcher heals by itself."""
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)
    copy = settings.data_dir / weed.name / "k"
    copy.unlink()

    async def work(run: Run) -> None:
        stop = Stop()
        async with opened(run) as dispatcher:
            await rename(run, "events", "away")
            standing = asyncio.create_task(dispatcher.run(stop, until_empty=False))
            await until(lambda: bool(dispatcher.postponed))
            copy.unlink(missing_ok=True)  # it was placed, and only its row was not written
            await rename(run, "away", "events")
            await until(lambda: dispatcher.counts.delivered == 1)
            assert list((settings.data_dir / ".ingest" / "tmp").glob("*.part")) == []
            stop.request(signal.SIGTERM)
            await standing

    assert (await run_work(settings, work)).error is None
    assert service.accepted == ["k"]


async def test_refused_credentials_pause_everything_and_lose_nothing(
    weed: Bucket, tmp_path: Path, database_url: str
) -> None:
    with verify_service(authorization=f"Bearer {TOKEN}") as service:
        keys = {f"k{number:02}": b"x" for number in range(40)}
        wrong = await in_line(
            weed, service.url, keys, tmp_path / "data", database_url, verify_authorization="Bearer wrong"
        )
        report = await run_deliver(wrong, patience=0.0)
        assert codes(report) == (ExitCode.SOURCE, "endpoint_refused")
        assert report.error is not None
        assert "VERIFY_AUTHORIZATION" in report.error.hint
        assert (report.counts.pending, report.counts.rejected) == (40, 0)
        assert service.requests <= 16
        await everything_is_due(wrong)
        right = wrong.model_copy(update={"verify_authorization": type(wrong.database_url)(f"Bearer {TOKEN}")})
        assert codes(await run_deliver(right)) == (0, None)
        assert sorted(service.accepted) == sorted(keys)


async def test_a_redirect_is_an_error_and_the_other_host_gets_no_request(weed: Bucket, tmp_path: Path) -> None:
    async def elsewhere(visit: Visit) -> None:
        await visit.answer(b"{}")

    async with raw_server(elsewhere) as other:

        async def redirect(visit: Visit) -> None:
            length = int(re.search(rb"Content-Length: (\d+)", visit.head)[1])  # type: ignore[index]
            await visit.reader.readexactly(length)
            await visit.answer(
                status="307 Temporary Redirect",
                headers=f"Location: http://user:canary@127.0.0.1:{other.port}/v1/verify?token=canary\r\n",
            )

        async with raw_server(redirect) as server:
            url = f"http://127.0.0.1:{server.port}/v1/verify"
            settings = await in_line(weed, url, {"k": b"x"}, tmp_path / "data", verify_authorization=f"Bearer {TOKEN}")
            report = await run_deliver(settings, patience=0.0)
        assert codes(report) == (ExitCode.SOURCE, "endpoint_redirect")
        assert report.error is not None
        assert f"127.0.0.1:{other.port}" in report.error.message
        assert "canary" not in report.error.message
        assert report.counts.pending == 1
        assert other.connections == 0


async def test_https_is_asked_of_a_service_without_tls(weed: Bucket, service: VerifyService, tmp_path: Path) -> None:
    """No certificate is at fault: the address is, and it says which part of it."""
    url = service.url.replace("http://", "https://")
    report = await run_deliver(await in_line(weed, url, {"k": b"x"}, tmp_path / "data"), patience=0.0)
    assert (codes(report), service.requests) == ((ExitCode.SOURCE, "endpoint_tls"), 0)
    assert report.error is not None
    assert "http://" in report.error.hint


async def test_only_a_trusted_service_is_sent_anything(
    weed: Bucket, tmp_path: Path, certificates: Certificates
) -> None:
    with verify_service(certificate=(certificates.chain, certificates.key)) as service:
        plain = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data")
        report = await run_deliver(plain, patience=0.0)
        assert (codes(report), service.requests) == ((ExitCode.SOURCE, "endpoint_tls"), 0)
        pinned = plain.model_copy(update={"verify_ca_bundle": certificates.ca})
        assert codes(await run_deliver(pinned)) == (0, None)
        assert service.accepted == ["k"]


async def test_the_secret_is_nowhere_even_when_the_service_echoes_it(
    weed: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heads: list[bytes] = []

    async def echo(visit: Visit) -> None:
        heads.append(visit.head)
        length = int(re.search(rb"Content-Length: (\d+)", visit.head)[1])  # type: ignore[index]
        await visit.reader.readexactly(length)
        failing = "400 Bad Request" if len(heads) % 2 else "200 OK"
        await visit.answer(b'{"headers": "' + visit.head.replace(b"\r\n", b" ") + b'"}', status=failing)

    async with raw_server(echo) as server:
        url = f"http://127.0.0.1:{server.port}/v1/verify"
        variables = weed.variables(tmp_path / "data") | {
            "VERIFY_URL": url,
            "VERIFY_AUTHORIZATION": f"Bearer {TOKEN}",
        }
        await weed.put({"k": b"x", "l": b"y"})
        said = ""
        for command in (["sync", "--deliver", "-v"], ["deliver", "-v", "--json"], ["history", "k"], ["status"]):
            said += (await run_ingest(*command, variables=variables, cwd=tmp_path)).output
    assert any(TOKEN.encode() in head for head in heads), "it was sent where it belongs"
    assert TOKEN not in said
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
    settings = weed.settings(tmp_path / "data", verify_url=url, verify_authorization=f"Bearer {TOKEN}")
    assert TOKEN not in repr(settings) + repr(Service(settings.service, settings.source)) + repr(vars(settings))
    assert (await status(settings))["deliveries"] == {"delivered": 1, "rejected": 1}


async def test_a_kill_in_the_middle_loses_nothing_and_records_nothing_twice(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    keys = {f"k{number:03}": b"x" for number in range(300)}
    settings = await in_line(weed, service.url, keys, tmp_path / "data", database_url)
    variables = weed.variables(tmp_path / "data") | {"DATABASE_URL": database_url, "VERIFY_URL": service.url}
    for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, ExitCode.TERMINATED)):
        before = len(service.accepted)
        async with started("deliver", "-q", variables=variables, cwd=tmp_path) as process:
            await until(lambda: len(service.accepted) >= before + 40)
            process.send_signal(number)
            assert (await ended(process)).code == expected
    last = await run_deliver(settings)  # at once: what the killed one held is free
    assert (codes(last), last.counts.pending) == ((0, None), 0)
    assert set(service.accepted) == set(keys)
    async with Catalog.open(database_url) as catalog, reading(catalog) as connection:
        found = await connection.execute(select(events.c.key).where(events.c.what == "delivered"))
        assert sorted(found.scalars()) == sorted(keys), "each recorded once"


@pytest.mark.parametrize(
    "command", [["sync", "--deliver"], ["backfill", "--since", "2020-01-01", "--deliver"], ["deliver"]]
)
async def test_delivery_needs_its_address(tmp_path: Path, command: list[str]) -> None:
    variables = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "statements", "INGEST_DATA_DIR": str(tmp_path / "d")}
    done = await run_ingest(*command, variables=variables, cwd=tmp_path)
    assert (done.code, "VERIFY_URL is not set" in done.output) == (2, True)

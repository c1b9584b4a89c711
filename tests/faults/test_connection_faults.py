"""Faulty networks, TLS and answers where they concern the server as a whole, not one object."""

from __future__ import annotations

import datetime
import itertools
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trustme

from ingest.engine.transfer import session
from ingest.plan.concurrency import Concurrency
from ingest.testing import faults
from ingest.testing.memory_s3 import Fault, MemoryS3
from tests.faults import invariants
from tests.faults.proxy import Proxy, proxied
from tests.faults.rig import OBJECTS, QUICK, Rig, holding, rigged, run_sync, settings_for, shorten_deadlines
from tests.fixtures.lines import lines_said
from tests.fixtures.servers import Bucket

EXPIRED = faults.saying("403 Forbidden", "ExpiredToken")
NOW = datetime.datetime.now(datetime.UTC)
MANY = {f"k/{number:03}": b"x" for number in range(500)}
DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(("row", "code"), [("refused", "refused"), ("DNS", "dns")])
async def test_no_server(rig: Rig, row: str, code: str) -> None:
    """Nothing answers: 4, and the name of what is wrong."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        endpoint = f"http://127.0.0.1:{port}" if row == "refused" else "http://no-such-host.invalid:9000"
        report = await rig.run(4, settings=rig.settings.replace(endpoint=endpoint))
    assert report.error is not None
    assert report.error.code == code
    assert report.counts.listed == 0
    await rig.heal()


async def test_a_dying_server_is_not_hammered(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    """500 objects, and 500 in answer to every GET: those on their way meet it, then probes do, one by one."""
    async with rigged(tmp_path, sqlite_url, MANY, page=1000) as rig:
        rig.server.faults = [Fault("get", faults.saying("500 Internal Server Error", "InternalError"))]
        report = await rig.run(4)
        assert report.counts.failed == 0
        asked = [asked.key for asked in rig.server.asked if asked.operation == "get" and "range" not in asked.headers]
        assert len(asked) == len(set(asked)) <= Concurrency().floor


async def test_what_is_refused_is_asked_for_once(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    async with rigged(tmp_path, sqlite_url, MANY, page=1000) as rig:
        rig.server.faults = [Fault("get", faults.saying("403 Forbidden"))]
        report = await rig.run(4)
        assert report.counts.failed == rig.server.count("get") == len(MANY)


@pytest.mark.parametrize("status", ["503 Slow Down", "429 Too Many Requests"])
async def test_slow_down_lowers_the_concurrency(rig: Rig, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """One refusal halves the number of transfers, and the run still ends well."""
    levels: list[Concurrency] = []

    def kept(transfers: int | None) -> Concurrency:
        levels.append(found := Concurrency(ceiling=64))
        return found

    monkeypatch.setattr(session, "concurrency_for", kept)
    rig.server.faults = [Fault("get", faults.saying(status, "SlowDown"), times=3)]
    await rig.run(0)
    assert [level.current for level in levels] == [Concurrency().floor // 2]
    await rig.heal()


@pytest.mark.parametrize("operation", ["list", "get"])
async def test_credentials_that_expire_in_mid_run_are_reloaded_once(
    rig_on_each: Rig, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The chain has newer keys: they are read once, and the run goes on without a failure."""
    rig = rig_on_each
    for name, value in (("AWS_ACCESS_KEY_ID", "old"), ("AWS_SECRET_ACCESS_KEY", invariants.SECRET)):
        monkeypatch.setenv(name, value)
    renew = partial(monkeypatch.setenv, "AWS_ACCESS_KEY_ID", "new")
    rig.server.faults = [Fault(operation, faults.after(renew, EXPIRED), after=1, times=1)]
    report = await rig.run(0, settings=rig.settings.replace(access_key=None, secret_key=None))
    assert report.counts.downloaded == len(OBJECTS)
    signed = [
        asked.headers["authorization"].partition("Credential=")[2].partition("/")[0] for asked in rig.server.asked
    ]
    assert (set(signed), signed[-1]) == ({"old", "new"}, "new")
    await rig.heal()


async def test_credentials_that_stay_refused_are_not_reloaded_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", "old"), ("AWS_SECRET_ACCESS_KEY", invariants.SECRET)):
        monkeypatch.setenv(name, value)
    rig.server.faults = [Fault("get", EXPIRED)]
    report = await rig.run(4, settings=rig.settings.replace(access_key=None, secret_key=None))
    assert report.error is not None
    assert report.error.code == "credentials_expired"
    assert rig.server.count("get") == 2 * len(OBJECTS)
    await rig.heal()


async def test_clock_skew_names_both_clocks(rig: Rig) -> None:
    rig.server.faults = [
        Fault("list", faults.saying("403 Forbidden", "RequestTimeTooSkewed", Date="Mon, 02 Feb 2026 03:04:05 GMT"))
    ]
    report = await rig.run(4)
    assert report.error is not None
    assert report.error.code == "clock_skew"
    assert "the server's clock: 2026-02-02 03:04:05 UTC, ours: " in report.error.message
    assert rig.server.count("list") == 1
    await rig.heal()


# TLS: refused before any signed byte is sent.


@asynccontextmanager
async def tls_rig(home: Path, ca: trustme.CA, leaf: trustme.LeafCert) -> AsyncIterator[MemoryS3]:
    ca.cert_pem.write_to_path(str(home / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    async with holding(OBJECTS, tls=context) as server:
        yield server


@pytest.mark.parametrize(
    ("issue", "code"),
    [
        (lambda ca: trustme.CA().issue_cert("127.0.0.1"), "tls_untrusted"),
        (lambda ca: ca.issue_cert("127.0.0.1", not_before=NOW - 2 * DAY, not_after=NOW - DAY), "tls_expired"),
        (lambda ca: ca.issue_cert("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 2 * DAY), "tls_not_yet_valid"),
        (lambda ca: ca.issue_cert("elsewhere.example.com"), "tls_wrong_host"),
        (lambda ca: ca.issue_cert("127.0.0.1"), ""),
    ],
    ids=["unknown CA", "expired", "not yet valid", "wrong host", "right"],
)
async def test_tls(
    tmp_path: Path, sqlite_url: str, swift: None, issue: Callable[[trustme.CA], trustme.LeafCert], code: str
) -> None:
    """A certificate that is wrong in one way: 4, it is named, and not one request arrived."""
    ca = trustme.CA()
    async with tls_rig(tmp_path, ca, issue(ca)) as server:
        settings = settings_for(server, tmp_path / "data", database_url=sqlite_url, ca_bundle=tmp_path / "ca.pem")
        rig = Rig(server, settings, tmp_path)
        report = await rig.run(4 if code else 0)
        assert (report.error.code if report.error else "") == code
        assert bool(server.raw.heads) == (not code)


# The real server behind a bad line.


def bodies(count: int) -> dict[str, bytes]:
    return {f"k/{number:03}": random.Random(number).randbytes(20_000) for number in range(count)}


@pytest.mark.parametrize(
    ("spoil", "resets"),
    [
        (lambda proxy: setattr(proxy, "latency", 0.02), False),
        (lambda proxy: setattr(proxy, "rate", 2e6), False),
        (lambda proxy: setattr(proxy, "reset_after", sometimes()), True),
    ],
    ids=["latency", "throttle", "reset after n bytes"],
)
async def test_a_bad_line_to_a_real_server(
    weed: Bucket, tmp_path: Path, swift: None, spoil: Callable[[Proxy], None], resets: bool
) -> None:
    """All arrives all the same, byte for byte; what was cut is fetched again."""
    objects = bodies(40)
    await weed.put(objects)
    async with proxied(int(weed.endpoint.rpartition(":")[2])) as proxy:
        spoil(proxy)
        settings = weed.settings(tmp_path / "data", endpoint=f"http://127.0.0.1:{proxy.port}")
        report = await run_sync(settings)
    assert (report.exit_code, report.counts.downloaded) == (0, len(objects)), report.error
    invariants.assert_versions(invariants.files_of(settings), {key: [body] for key, body in objects.items()})
    (await invariants.look(settings)).assert_recorded()
    assert bool(proxy.resets) == resets


def sometimes() -> Callable[[], int | None]:
    """Three connections in four live; the others end at odd places: in a head, in a body, between two answers."""
    places = itertools.cycle([None, 7, None, None, 20_300, None, 45_001, None])
    return lambda: next(places)


async def test_a_line_that_never_recovers(weed: Bucket, tmp_path: Path, swift: None) -> None:
    """Every connection is reset: the retries end, and so does the run; healed, it goes on."""
    objects = bodies(10)
    await weed.put(objects)
    async with proxied(int(weed.endpoint.rpartition(":")[2])) as proxy:
        proxy.reset_after = lambda: 100
        settings = weed.settings(tmp_path / "data", endpoint=f"http://127.0.0.1:{proxy.port}")
        report = await run_sync(settings)
        invariants.check_said(report)
        assert report.exit_code == 4
        assert report.error is not None
        assert report.error.code == "connection_lost"
        proxy.reset_after = lambda: None
        assert (await run_sync(settings)).counts.downloaded == len(objects)
    invariants.assert_versions(invariants.files_of(settings), {key: [body] for key, body in objects.items()})
    (await invariants.look(settings)).assert_recorded()


async def test_a_low_rate_is_said_and_trips_no_deadline(
    tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing alone takes several times as long as a request may: that time is ours, and not the server's."""
    shorten_deadlines(monkeypatch)
    objects = {f"k/{number:03}": b"x" for number in range(400)}
    async with rigged(tmp_path, sqlite_url, objects, page=1000) as rig:
        with lines_said() as lines:
            report = await rig.run(0, bwlimit=150_000)
        assert report.seconds > QUICK.total
        (said,) = [line["message"] for line in lines if line["event"] == "slow_rate"]
        assert said.startswith(
            "146.5 KiB a second is little, less than 1.0 MiB: one page of a listing, 0.3 MB, takes 2 s"
        )
        with lines_said() as lines:
            await rig.run(0, bwlimit=QUICK.slowest)
        assert [line for line in lines if line["log_level"] == "warning"] == []

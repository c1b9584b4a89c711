"""Faulty networks, bytes and answers: what goes wrong with one object, and what must follow."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ingest.engine.options import SyncOptions
from ingest.jobs.sync import backfill
from ingest.testing import faults
from ingest.testing.memory_s3 import Deed, Fault
from tests.faults.rig import OBJECTS, TARGET, Rig, shorten_deadlines
from tests.fixtures.lines import lines_said

OTHERS = len(OBJECTS) - 1
MOST_TRIES = 5
AWAY = ("connection_lost", "timeout", "server_fault", "slow_down")
"""What is the source's fault where nothing else is answered."""


class Case(NamedTuple):
    """`error` is the code under which the object fails when the fault stays; "" when it is no failure.

    `tries` are the requests for it: those that can help are repeated, the others not.
    """

    row: str
    fault: Deed
    error: str
    tries: int = MOST_TRIES

    @property
    def is_slow(self) -> bool:
        """Only a deadline ends it."""
        return self.error == "timeout"


CASES = [
    Case("network: reset", faults.reset, "connection_lost"),
    Case("network: cut at byte 0", faults.cut(0), "connection_lost"),
    Case("network: cut at byte 1", faults.cut(1), "connection_lost"),
    Case("network: cut at byte n-1", faults.cut(-1), "connection_lost"),
    Case("network: stall before the answer", faults.stall, "timeout"),
    Case("network: stall in the body", faults.stall_half_way, "timeout"),
    Case("network: one byte now and then", faults.trickle, "timeout"),
    Case("bytes: wrong bytes of the right length", faults.wrong_bytes, "damaged_transfer"),
    Case("bytes: short body without a length", faults.short_without_length, "connection_lost"),
    Case("bytes: chunked cut", faults.chunked_cut, "connection_lost"),
    Case("bytes: <Error> in a 200", faults.error_in_a_200, "server_fault"),
    Case("bytes: <Error> in a 200, under the object's headers", faults.error_of_the_right_length, "damaged_transfer"),
    Case("bytes: gzipped on the way", faults.gzipped, "unexpected_response", 1),
    Case("status: 500", faults.saying("500 Internal Server Error", "InternalError"), "server_fault"),
    Case("status: 502 of a proxy", faults.saying("502 Bad Gateway"), "server_fault"),
    Case("status: 503 SlowDown", faults.saying("503 Slow Down", "SlowDown"), "slow_down"),
    Case("status: 503 without a word", faults.saying("503 Service Unavailable"), "slow_down"),
    Case("status: 403 in mid-run", faults.saying("403 Forbidden", "AccessDenied"), "access_denied", 1),
    Case("status: 403 InvalidAccessKeyId", faults.saying("403 Forbidden", "InvalidAccessKeyId"), "access_key_unknown", 1),
    Case("status: 403 ExpiredToken", faults.saying("403 Forbidden", "ExpiredToken"), "credentials_expired", 2),
    Case("status: RequestTimeTooSkewed", faults.saying("403 Forbidden", "RequestTimeTooSkewed"), "clock_skew", 1),
    Case("status: 404 between list and get", faults.saying("404 Not Found", "NoSuchKey"), "", 1),
    Case("status: 404 that is a web page", faults.web_page("404 Not Found"), "unexpected_response", 1),
    Case("status: 416", faults.saying("416 Range Not Satisfiable", "InvalidRange"), "range_not_satisfiable", 1),
    Case("status: redirect", faults.saying("307 Temporary Redirect", Location="http://elsewhere.example.com/"), "redirect", 1),
]  # fmt: skip


@pytest.fixture
def deadlines(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.is_slow:
        shorten_deadlines(monkeypatch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
@pytest.mark.usefixtures("deadlines")
async def test_one_object_fails_and_the_others_go_on(rig: Rig, case: Case) -> None:
    """The fault stays: bounded tries, its own reason, nothing in its place, everything else done; 3, and then healed."""
    rig.server.faults = [Fault("get", case.fault, TARGET)]
    failed = 1 if case.error else 0
    report = await rig.run(3 if failed else 0)
    assert (report.counts.downloaded, report.counts.failed) == (OTHERS, failed)
    await rig.check_all(report)
    assert not (rig.settings.data_dir / rig.settings.bucket / TARGET).exists()
    rows = await rig.rows()
    # A connection that had served before, and ends without a byte, is opened anew at once: that is no try of its own.
    # Whether it alone is asked to wait shows only when others were answered since.
    most = 2 * case.tries if case.fault is faults.reset or case.error == "slow_down" else case.tries
    assert case.tries <= rig.server.count("get", TARGET) <= most
    if case.error:
        assert rows[TARGET]["state"] == "failed"
        assert rows[TARGET]["last_error"].startswith(f"{case.error}: ")
    else:  # gone, and believed to be: the next test tells for how long
        assert rows[TARGET]["gone_at"]
        assert rows[TARGET]["last_error"].startswith("no_such_key: ")
    report = await rig.heal()
    assert (report.counts.downloaded, report.counts.unchanged) == (1, OTHERS)


@pytest.mark.parametrize("changed", [False, True], ids=["new", "changed"])
@pytest.mark.parametrize("operation", ["get", "get and changed", "backfill"])
async def test_what_is_listed_night_after_night_and_not_there_fails(
    rig_on_each: Rig, changed: bool, operation: str
) -> None:
    """As by a stale entry of an index: gone between its listing and its GET is believed once, with a line."""
    rig = rig_on_each
    if changed:
        await rig.run(0)
        rig.server.put(TARGET, b"another version")
    absent = faults.saying("404 Not Found", "NoSuchKey")
    if operation == "get and changed":  # another version says GET, and HEAD that there is none
        rig.server.faults = [
            Fault("get", faults.saying("412 Precondition Failed"), TARGET),
            Fault("head", faults.saying("404 Not Found"), TARGET),
        ]
    else:
        rig.server.faults = [Fault("get", absent, TARGET)]
    for night in range(3):
        with lines_said() as lines:
            report = await (backfill(rig.settings, SyncOptions()) if operation == "backfill" else rig.attempt())
        assert (report.exit_code, report.counts.failed) == ((3, 1) if night else (0, 0)), report.error
        said = [line["log_level"] for line in lines if line.get("key") == TARGET]
        assert said == ["error" if night else "info"]
        row = (await rig.rows())[TARGET]
        assert (row["state"], row["gone_at"]) == ("present" if changed else "failed", night == 0)
        assert (row["attempts"], row["last_error"].partition(":")[0]) == (night + 1, "no_such_key")
        await rig.check_all(report)
    await rig.heal()


async def test_what_is_gone_and_no_longer_listed_is_forgotten(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("404 Not Found", "NoSuchKey"), TARGET)]
    await rig.run(0)
    body = rig.server.objects.pop(TARGET)
    for _ in range(2):
        assert (await rig.run(0)).counts.gone == 0
    rig.server.objects[TARGET] = body
    await rig.heal()


PASSING = [case for case in CASES if case.tries == MOST_TRIES]


@pytest.mark.parametrize("case", PASSING, ids=lambda case: case.row)
@pytest.mark.usefixtures("deadlines")
async def test_what_passes_is_tried_again(rig: Rig, case: Case) -> None:
    """The fault comes once: one more request, and nothing failed."""
    rig.server.faults = [Fault("get", case.fault, TARGET, times=1)]
    report = await rig.run(0)
    assert (report.counts.downloaded, report.counts.failed) == (len(OBJECTS), 0)
    assert rig.server.count("get", TARGET) == 2
    await rig.check_all(report)
    await rig.heal()


ALL_DATABASES = [case for case in CASES if case.row in (
    "network: reset", "bytes: wrong bytes of the right length", "status: 503 SlowDown", "status: 404 between list and get",
)]  # fmt: skip
HOPELESS = [case for case in CASES if case.row in (
    "network: reset", "network: stall before the answer", "status: 500", "status: 503 SlowDown",
    "status: 403 in mid-run", "status: RequestTimeTooSkewed",
)]  # fmt: skip


@pytest.mark.parametrize("case", HOPELESS, ids=lambda case: case.row)
@pytest.mark.usefixtures("deadlines")
async def test_nothing_works(rig: Rig, case: Case) -> None:
    """Every object meets the fault: the source is at fault, not the objects; 4. One that is away is charged to none."""
    rig.server.faults = [Fault("get", case.fault)]
    report = await rig.run(4)
    assert report.error is not None
    assert report.error.code == case.error
    assert report.counts.failed == (0 if case.error in AWAY else len(OBJECTS))
    await rig.check_all(report)
    await rig.heal()


@pytest.mark.parametrize("case", ALL_DATABASES, ids=lambda case: case.row)
async def test_the_old_copy_stays_until_the_new_one_is_whole(rig_on_each: Rig, case: Case) -> None:
    """The object changed and its new version cannot be had: the old copy and its row stay what they are; 3."""
    rig = rig_on_each
    await rig.run(0)
    old = rig.server.objects[TARGET].body
    rig.server.put(TARGET, old[::-1] + b"!")
    rig.server.faults = [Fault("get", case.fault, TARGET)]
    report = await rig.run(3 if case.error else 0)
    assert report.counts.failed == (1 if case.error else 0)
    assert (rig.settings.data_dir / rig.settings.bucket / TARGET).read_bytes() == old
    await rig.check_all(report)
    await rig.heal()

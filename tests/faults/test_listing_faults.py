"""A faulty listing: never a silent end, and nothing is marked gone on the word of a broken listing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import pytest

from ingest.engine.transfer import session
from ingest.engine.transfer.pool import TransferPool
from ingest.source import bucket
from ingest.tasks.stop import TERMINATED, Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Deed, Fault, token_behind
from ingest.testing.raw_server import Visit
from tests.faults.rig import OBJECTS, TARGET, Rig, rigged, shorten_deadlines

FIRST_KEY = min(OBJECTS)
MODIFIED = re.compile(rb"<LastModified>[^<]*<")


class Case(NamedTuple):
    """A fault of every listing answer from number `after` on; it ends the run with `error`."""

    row: str
    fault: Deed
    error: str = "listing"
    after: int = 1


def without(element: bytes) -> Callable[[Answer], Answer]:
    """Cuts ``<element>…</element>`` out."""

    def change(answer: Answer) -> Answer:
        head, found, rest = answer.body.partition(b"<" + element + b">")
        return answer.plus(head + rest.partition(b"</" + element + b">")[2] if found else head)

    return change


def truncated(token: bytes) -> Deed:
    """Every answer says that there is more, and names this token (none when empty)."""
    element = b"<NextContinuationToken>" + token + b"</NextContinuationToken>" if token else b""

    def change(answer: Answer) -> Answer:
        body = without(b"NextContinuationToken")(answer).body
        body = body.replace(b"<IsTruncated>false<", b"<IsTruncated>true<")
        return answer.plus(body.replace(b"</IsTruncated>", b"</IsTruncated>" + element))

    return faults.answering(change)


def ever_new_tokens() -> Deed:
    """All of them stand for the beginning."""
    numbers = itertools.count()

    async def deed(visit: Visit, answer: Answer) -> None:
        await truncated(token_behind("") + b" " * next(numbers))(visit, answer)

    return deed


CASES = [
    Case("truncated without a token", truncated(b"")),
    Case("repeated token", truncated(token_behind(FIRST_KEY))),
    Case("repeated token from the start", truncated(token_behind(FIRST_KEY)), after=0),
    Case("the same page under ever new tokens", ever_new_tokens(), after=0),
    Case("refused token", faults.saying("400 Bad Request", "InvalidArgument"), "unexpected_response"),
    Case("HTML", faults.web_page()),
    Case("HTML from the start", faults.web_page(), after=0),
    Case("HTML with 404", faults.web_page("404 Not Found"), "unexpected_response"),
    Case("empty", faults.telling(b"")),
    Case("empty from the start", faults.telling(b""), after=0),
    Case("malformed: cut inside", faults.answering(lambda answer: answer.plus(answer.body[: len(answer.body) // 2]))),
    Case("malformed: another root", faults.replacing(b"ListBucketResult", b"ListAllMyBucketsResult")),
    Case("malformed: not said whether complete", faults.answering(without(b"IsTruncated"))),
    Case("malformed: a size that is no number", faults.replacing(b"</Size>", b"x</Size>")),
    Case("malformed: an entry without its key", faults.answering(without(b"Key"))),
    Case("another bucket", faults.replacing(b"<Name>statements<", b"<Name>other<")),
    Case("huge", faults.answering(lambda answer: answer.plus(answer.body + b" " * 70_000)), "unexpected_response"),
    Case("DTD", faults.replacing(b"<ListBucketResult", b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult')),
    Case("KeyCount beyond what it holds", faults.replacing(b"<KeyCount>", b"<KeyCount>9")),
    Case("<Error> in a 200", faults.error_in_a_200, "server_fault"),
    Case("500", faults.saying("500 Internal Server Error", "InternalError"), "server_fault"),
    Case("503 SlowDown", faults.saying("503 Slow Down", "SlowDown"), "slow_down"),
    Case("403 in mid-run", faults.saying("403 Forbidden", "AccessDenied"), "access_denied"),
    Case("404 NoSuchBucket", faults.saying("404 Not Found", "NoSuchBucket"), "no_such_bucket"),
    Case("reset", faults.reset, "connection_lost"),
    Case("cut at byte n-1", faults.cut(-1), "connection_lost"),
    Case("chunked cut", faults.chunked_cut, "connection_lost"),
    Case("stall", faults.stall_half_way, "timeout"),
]


@pytest.fixture(autouse=True)
def small_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that "huge" is cheap to make."""
    monkeypatch.setattr(bucket, "MOST_LISTING_BYTES", 64 << 10)


@pytest.mark.parametrize("server", ["MinIO", "SeaweedFS", "unknown"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
async def test_a_listing_that_cannot_be_trusted(
    tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: pytest.MonkeyPatch, case: Case, server: str
) -> None:
    """On a known bucket: 4, nothing marked as gone, no copy touched; and the next run is as if nothing had been."""
    if case.error == "timeout":
        shorten_deadlines(monkeypatch)
    async with rigged(tmp_path, sqlite_url, name=server) as rig:
        await rig.run(0)
        known = await rig.rows()
        rig.server.put("zz/new.pdf", b"new tonight")
        rig.server.faults = [Fault("list", case.fault, after=case.after)]
        report = await rig.run(4)
        assert report.error is not None
        assert report.error.code.startswith(case.error)
        assert report.counts.gone == 0
        await rig.check_all(report)
        found = await rig.rows()
        assert {key: found[key] for key in known} == known
        healed = await rig.heal()
        assert healed.counts.gone == 0
        assert report.counts.downloaded + healed.counts.downloaded == 1


def reversed_pages() -> Deed:
    def change(answer: Answer) -> Answer:
        entries = ENTRY.findall(answer.body)
        return answer.plus(ENTRY.sub(lambda _: entries.pop(), answer.body))

    return faults.answering(change)


def overlapping_pages() -> Deed:
    """Each page but the first begins with the last key of the one before."""

    def change(answer: Answer) -> Answer:
        keys = re.findall(b"<Key>([^<]*)</Key>", answer.body)
        if len(keys) < 2:
            return answer
        token = re.compile(b"(?<=<NextContinuationToken>)[^<]*")
        return answer.plus(token.sub(token_behind(unquote(keys[-2].decode())), answer.body))

    return faults.answering(change)


ENTRY = re.compile(b"<Contents>.*?</Contents>")
repeated_entries = faults.answering(lambda answer: answer.plus(ENTRY.sub(rb"\g<0>\g<0>", answer.body)))
counts_nothing = faults.answering(
    lambda answer: answer.plus(re.sub(b"<KeyCount>[0-9]+<", b"<KeyCount>0<", answer.body))
)


@pytest.mark.parametrize("server", ["MinIO", "SeaweedFS", "unknown"])
@pytest.mark.parametrize(
    "fault",
    [reversed_pages(), overlapping_pages(), repeated_entries, faults.answering(without(b"KeyCount")), counts_nothing],
    ids=["out of order", "duplicates across pages", "duplicates in a page", "no KeyCount", "KeyCount too low"],
)  # fmt: skip
async def test_a_listing_that_can_be_handled(
    tmp_path: Path, sqlite_url: str, swift: None, fault: Deed, server: str
) -> None:
    """Odd, and yet complete: every object ends as one row and one copy, tonight and tomorrow, and nothing is gone.

    A server that was taken for a byte-ordered one, and shows that it is none, ends the run that learns it; the next one
    knows.
    """
    async with rigged(tmp_path, sqlite_url, name=server) as rig:
        for _ in range(2):
            rig.server.faults = [Fault("list", fault)]
            learning = await rig.attempt()
            learnt = learning.error is not None and learning.error.code == "listing_order"
            report = await rig.run(0) if learnt else learning
            assert (report.exit_code, report.counts.gone, report.counts.failed) == (0, 0, 0), report.error
            await rig.check_all(report)
            assert set(await rig.rows()) == set(rig.server.objects)
            rig.server.put("zz/new.pdf", b"new tonight")
        await rig.heal()


@pytest.mark.parametrize("written", [b"2026/02/%FF%FE.pdf", b"2026/02/\xff\xfe.pdf"], ids=["escaped", "raw"])
async def test_undecodable_keys(rig_on_each: Rig, written: bytes) -> None:
    """A key that is not UTF-8 has no name: it fails by itself, the others are done, and it merges with no other."""
    rig = rig_on_each
    rig.server.faults = [Fault("list", faults.replacing(quote(TARGET).encode(), written))]
    for downloaded in (len(OBJECTS) - 1, 0):
        report = await rig.run(3)
        assert (report.counts.downloaded, report.counts.failed, report.counts.gone) == (downloaded, 1, 0)
        await rig.check_catalog()
        assert set(await rig.rows()) == set(OBJECTS) - {TARGET}
    await rig.heal()


@pytest.mark.parametrize("long", ["k/" * 512 + "k", "\u00fc/" * 341 + "kk", "d" * 3_000 + "/x", "k" * 3_000])
@pytest.mark.parametrize("server", ["MinIO", "SeaweedFS"])
async def test_a_key_longer_than_s3_has_them(
    tmp_path: Path, each_url: str, swift: None, server: str, long: str
) -> None:
    """Over 1,024 bytes no index of PostgreSQL has room for it: it fails by itself, and takes no batch with it."""
    longest = "2026/" + "k/" * 509 + "k"
    assert (len(longest), len(long.encode()) > 1_024) == (1_024, True)
    async with rigged(tmp_path, each_url, OBJECTS | {longest: b"fits", long: b"does not"}, name=server) as rig:
        for downloaded in (len(OBJECTS) + 1, 0):
            report = await rig.run(3)
            assert (report.counts.downloaded, report.counts.failed, report.counts.gone) == (downloaded, 1, 0)
            await rig.check_catalog()
            assert set(await rig.rows()) == {*OBJECTS, longest}
        del rig.server.objects[long]
        await rig.heal()


@pytest.mark.parametrize("server", ["MinIO", "SeaweedFS", "unknown"])
async def test_what_is_really_gone_is_marked(tmp_path: Path, sqlite_url: str, swift: None, server: str) -> None:
    """So that "nothing was marked" above means something: a sane listing without the object marks it, and only it."""
    async with rigged(tmp_path, sqlite_url, name=server) as rig:
        await rig.run(0)
        del rig.server.objects[TARGET]
        report = await rig.run(0)
        assert report.counts.gone == 1
        assert {key for key, row in (await rig.rows()).items() if row["gone_at"]} == {TARGET}
        assert (rig.settings.data_dir / rig.settings.bucket / TARGET).exists()
        await rig.heal()


async def test_a_listing_that_is_refused_is_asked_for_once(rig: Rig) -> None:
    rig.server.faults = [Fault("list", faults.saying("403 Forbidden"))]
    await rig.run(4)
    assert rig.server.count("list") == 1
    await rig.heal()


async def test_a_page_that_cannot_be_had_is_not_asked_for_ever(rig: Rig) -> None:
    """The others come: it is no fault of the source, and nothing is waited for."""
    rig.server.faults = [Fault("list", faults.saying("500 Internal Server Error"), TARGET)]
    report = await rig.run(4)
    assert report.error is not None
    assert "waited" not in report.error.message
    await rig.heal()


async def test_a_stop_after_a_failed_listing_leaves_its_reason(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what was listed is still being downloaded."""
    stop, drain = Stop(), TransferPool.drain

    async def stopped_meanwhile(pool: TransferPool) -> None:
        stop.request(TERMINATED)
        await drain(pool)

    monkeypatch.setattr(TransferPool, "drain", stopped_meanwhile)
    monkeypatch.setattr(session, "GRACE", 0.0)
    rig.server.faults = [
        Fault("list", faults.saying("403 Forbidden", "AccessDenied"), "zz/last.pdf"),
        Fault("get", faults.stall, TARGET),
    ]
    report = await rig.run(4, stop=stop)
    assert report.error is not None
    assert report.error.code == "access_denied"
    await rig.heal()


def dated(text: bytes) -> Deed:
    return faults.answering(lambda answer: answer.plus(MODIFIED.sub(b"<LastModified>" + text + b"<", answer.body)))


@pytest.mark.parametrize("date", [b"0001-01-01T00:00:00+23:00", b"9999-12-31T23:59:59-23:00", b"0000-00-00T00:00:00Z"])
async def test_a_date_that_no_calendar_has(rig_on_each: Rig, date: bytes) -> None:
    rig = rig_on_each
    await rig.run(0)
    rig.server.faults = [Fault("list", dated(date))]
    report = await rig.run(4)
    assert report.error is not None
    assert f"has '{date.decode()}' for its date" in report.error.message
    assert (await rig.heal()).counts.gone == 0


@pytest.mark.parametrize("date", [b"0001-01-01T00:00:00.000Z", b"9999-12-31T23:59:59.999Z"])
async def test_the_first_and_the_last_date_are_kept(rig_on_each: Rig, date: bytes) -> None:
    rig = rig_on_each
    rig.server.faults = [Fault("list", dated(date))]
    assert (await rig.run(0)).counts.downloaded == len(OBJECTS)
    rig.server.put("zz/new.pdf", b"new tonight")
    assert (await rig.run(0)).counts.downloaded == 1
    await rig.check_catalog()

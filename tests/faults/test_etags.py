"""What servers write for an etag, and what must follow: an etag is taken for no more than it proves.

The server of our own replays what real ones send: MinIO without compatibility, VAST, Ceph behind proxies, Versity,
`rclone serve s3`.
"""

from __future__ import annotations

import base64
import random
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from ingest.engine.options import CleanupOptions, RestoreOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan import pieces
from ingest.plan.checks import MIB
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Asked, Deed, Fault, Stored, etag_of, quoted
from tests.faults.rig import MODIFIED, Rig, rigged
from tests.fixtures.objects import multipart_etag

SMALL, MIDDLE, LARGE = "a/small.pdf", "b/middle.pdf", "c/large.pdf"
OBJECTS = {
    SMALL: random.Random("s").randbytes(900),
    MIDDLE: random.Random("m").randbytes(100_000),
    LARGE: random.Random("l").randbytes((4 << 20) + 77),
}
"""One for each way that an object is fetched in."""


@pytest_asyncio.fixture
async def three(tmp_path: Path, sqlite_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as made:
        yield made


def always(text: str | None) -> Callable[[Stored], str | None]:
    return lambda _: text


def weak(stored: Stored) -> str:
    return f'W/"{stored.etag}"'


def made_up(stored: Stored) -> str:
    """A UUID for each content."""
    return f'"{uuid.uuid5(uuid.NAMESPACE_OID, stored.etag).hex[:12]}4{stored.etag[:3]}8{stored.etag[4:19]}"'


class Written(NamedTuple):
    """How a server writes etags, and whether the bytes can be proven by them."""

    server: str
    listed: Callable[[Stored], str | None] = quoted
    own: Callable[[Stored], str | None] = quoted
    verified: bool = True
    downloads: int = 1
    """Of each object in the first night."""


def throughout(server: str, write: Callable[[Stored], str | None], downloads: int = 1) -> Written:
    """In the listing and in answers, and no MD5 of the bytes."""
    return Written(server, write, write, False, downloads)


SERVERS = [
    Written("weak throughout", weak, weak),
    Written("weak answers of a proxy", quoted, weak),
    Written("no quotes", lambda stored: stored.etag, lambda stored: stored.etag),
    Written("two pairs of quotes in the listing", lambda stored: f'""{stored.etag}""'),
    Written("a compressing proxy", quoted, lambda stored: f'"{stored.etag}-gzip"'),
    Written("none in the listing", always(None)),
    Written("an empty one in the listing", always("")),
    Written("another one in the listing", lambda stored: f'"{etag_of(stored.etag.encode())}"'),
    throughout("none anywhere", always(None)),
    throughout("empty ones", always('""')),
    throughout("zeros", always(f'"{"0" * 32}-1"')),
    throughout("the MD5 of no bytes", always(f'"{etag_of(b"")}"')),
    throughout("a constant", always('"constant"')),
    throughout("a constant like an MD5", always(f'"{"1a" * 16}"'), 2),
    throughout("UUIDs", made_up, 2),
    throughout("no MD5, and -1", lambda stored: f'"{stored.etag}-1"', 2),
    throughout("no MD5, and -2", lambda stored: f'"{stored.etag}-2"'),
    throughout("with commas", lambda stored: f'"{stored.etag},;{stored.etag}"'),
    throughout("of a kilobyte", lambda stored: f'"{stored.etag * 32}"'),
]


@pytest.fixture(params=SERVERS, ids=lambda written: written.server)
def written(request: pytest.FixtureRequest) -> Written:
    found: Written = request.param
    return found


@pytest.fixture
def server_of(three: Rig, written: Written) -> Rig:
    three.server.listed_etag, three.server.own_etag = written.listed, written.own
    return three


async def test_every_object_comes_once_and_a_change_of_the_same_size_is_noticed(
    server_of: Rig, written: Written
) -> None:
    rig = server_of
    report = await rig.run(0)
    assert (report.counts.downloaded, report.counts.failed) == (len(OBJECTS), 0)
    rows = await rig.rows()
    assert {row["verified"] for row in rows.values()} == {"verified" if written.verified else "unverifiable"}
    whole = rig.server.count("get", SMALL) + rig.server.count("get", MIDDLE)
    assert whole <= 2 * written.downloads + 2  # the first that a server refuses are asked for once more
    asked = rig.server.count("get")
    report = await rig.run(0, page_memory=False)
    assert (report.counts.unchanged, rig.server.count("get")) == (len(OBJECTS), asked)
    for number, (key, body) in enumerate(OBJECTS.items(), 1):
        rig.server.modified = MODIFIED + timedelta(minutes=number)
        rig.server.put(key, body[::-1])
    report = await rig.run(0)
    assert (report.counts.changed, report.counts.downloaded) == (len(OBJECTS), len(OBJECTS))
    assert (rig.settings.data_dir / rig.settings.bucket / LARGE).read_bytes() == OBJECTS[LARGE][::-1]
    report = await rig.run(0, page_memory=False)
    assert report.counts.unchanged == len(OBJECTS)


async def test_what_was_pruned_is_not_downloaded_again_and_can_be_restored(server_of: Rig, written: Written) -> None:
    rig = server_of
    await rig.run(0)
    pruned = await prune(rig)
    assert (pruned.exit_code, pruned.counts.pruned, pruned.counts.kept) == (0, len(OBJECTS), 0)
    rig.server.put("a/new.pdf", b"the page changes")
    asked = rig.server.count("get")
    report = await rig.run(0)
    assert (report.counts.downloaded, report.counts.unchanged) == (1, len(OBJECTS))
    assert not {SMALL, MIDDLE, LARGE} & set(rig.server.keys("get")[asked:])
    restored = await restore(rig.settings, RestoreOptions(prefix=""), progress=Silence(), stop=Stop())
    assert (restored.exit_code, restored.counts.restored) == (0, len(OBJECTS))
    report = await rig.run(0, page_memory=False)
    assert (report.counts.downloaded, report.counts.unchanged) == (0, len(OBJECTS) + 1)


async def test_a_copy_is_kept_whose_object_has_changed(server_of: Rig, written: Written) -> None:
    rig = server_of
    await rig.run(0)
    rig.server.modified = MODIFIED + timedelta(minutes=1)
    rig.server.put(SMALL, OBJECTS[SMALL][::-1])
    pruned = await prune(rig)
    assert (pruned.exit_code, pruned.counts.pruned, pruned.counts.kept) == (0, len(OBJECTS) - 1, 1)
    assert (rig.settings.data_dir / rig.settings.bucket / SMALL).exists()


async def prune(rig: Rig) -> RunReport:
    return await cleanup(rig.settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())


async def test_what_a_weak_etag_names_is_asked_for_without_a_condition(three: Rig) -> None:
    three.server.listed_etag = three.server.own_etag = weak
    await three.run(0)
    assert not [asked for asked in three.server.asked if "if-match" in asked.headers]


async def test_a_server_that_refuses_the_very_version_it_has(three: Rig) -> None:
    """412 to the etag that HEAD confirms: once more without `If-Match`, and from then on."""
    three.server.faults = [conditional(faults.saying("412 Precondition Failed", "PreconditionFailed"))]
    report = await three.run(0)
    assert report.counts.downloaded == len(OBJECTS)
    assert {row["verified"] for row in (await three.rows()).values()} == {"verified"}
    for key in (SMALL, MIDDLE):
        assert three.server.count("get", key) == 2


def conditional(deed: Deed) -> Callable[[Asked, Answer], Deed | None]:
    return lambda asked, _: deed if "if-match" in asked.headers else None


async def test_a_proxy_takes_the_etag_out_of_the_answers_to_get(three: Rig) -> None:
    """What comes is the listed version by its moment, and its bytes are proven by the listed etag."""
    del three.server.objects[LARGE]

    def without(answer: Answer) -> Answer:
        return answer._replace(headers={name: value for name, value in answer.headers.items() if name != "ETag"})

    three.server.faults = [Fault("get", faults.answering(without))]
    await three.run(0)
    assert {row["verified"] for row in (await three.rows()).values()} == {"verified"}
    report = await three.run(0, page_memory=False)
    assert report.counts.unchanged == len(OBJECTS) - 1


async def test_versions_are_not_mixed_without_etags(three: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large object changes between two of its ranges, on a server that has no etags and knows no conditions."""
    monkeypatch.setattr(pieces, "PIECE", 100_000)
    rig = three
    rig.server.listed_etag = rig.server.own_etag = always(None)
    rig.server.heeds_conditions = False
    newer = OBJECTS[LARGE][::-1]

    def change() -> None:
        rig.server.modified = MODIFIED + timedelta(minutes=1)
        rig.server.put(LARGE, newer)

    rig.server.faults = [Fault("get", faults.after(change, faults.sane), LARGE, after=2, times=1)]
    report = await rig.run(0)
    assert report.counts.downloaded == len(OBJECTS)
    assert (rig.settings.data_dir / rig.settings.bucket / LARGE).read_bytes() == newer


def crc32_of(body: bytes) -> dict[str, str]:
    return {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
            "x-amz-checksum-type": "FULL_OBJECT"}  # fmt: skip


def store_checksums(rig: Rig, of: Callable[[bytes], bytes] = bytes) -> None:
    for key, stored in rig.server.objects.items():
        rig.server.objects[key] = stored._replace(headers=crc32_of(of(stored.body)))


async def test_a_stored_checksum_outranks_the_etag(three: Rig) -> None:
    three.server.listed_etag = three.server.own_etag = made_up
    store_checksums(three)
    await three.run(0)
    assert {row["verified"] for row in (await three.rows()).values()} == {"verified"}
    assert three.server.count("get", SMALL) == three.server.count("get", MIDDLE) == 1


async def test_what_its_stored_checksum_contradicts_is_damaged_however_often_it_comes(three: Rig) -> None:
    three.server.listed_etag = three.server.own_etag = made_up
    store_checksums(three, lambda body: body[:-1])
    report = await three.run(3)
    assert report.counts.failed == len(OBJECTS)
    assert {row["last_error"].partition(":")[0] for row in (await three.rows()).values()} == {"damaged_transfer"}


@pytest.mark.parametrize(("mib", "parts_of"), [(14, 6), (24, 11), (24, 8)])
async def test_parts_of_any_whole_number_of_mib_are_checked(three: Rig, mib: int, parts_of: int) -> None:
    """On servers that do not tell a part's size (Ceph, Swift): whatever size the number of parts allows."""
    body = random.Random(mib).randbytes(mib * MIB + 5)
    three.server.put(LARGE, body)
    etag = multipart_etag(body, parts_of * MIB)
    three.server.objects[LARGE] = three.server.objects[LARGE]._replace(etag=etag)
    await three.run(0)
    assert (await three.rows())[LARGE]["verified"] == "verified"


async def test_what_is_learnt_of_a_server_is_remembered(three: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """The first night takes two downloads to see that the etags are no MD5s; the next ones take one."""
    three.server.listed_etag = three.server.own_etag = made_up
    await three.run(0)
    assert three.server.count("get", SMALL) == 2
    assert capsys.readouterr().err.count("etags_prove_nothing") <= 1
    three.server.put("new.pdf", b"tomorrow")
    await three.run(0)
    assert three.server.count("get", "new.pdf") == 1
    assert (await three.rows())["new.pdf"]["verified"] == "unverifiable"


async def test_one_damaged_object_does_not_unmake_what_the_others_prove(three: Rig) -> None:
    """A proxy that spoils one object alike each time: two downloads agree, and so do the etags of all others."""
    three.server.faults = [Fault("get", faults.wrong_bytes, SMALL)]
    await three.run(3)
    assert (await three.rows())[SMALL]["last_error"].startswith("damaged_transfer: ")
    three.server.put("later.pdf", b"tomorrow")
    three.server.faults = [Fault("get", faults.wrong_bytes, "later.pdf"), *three.server.faults]
    await three.run(3)
    three.server.faults.clear()
    report = await three.run(0)
    assert report.counts.downloaded == 2
    assert {row["verified"] for row in (await three.rows()).values()} == {"verified"}


async def test_bytes_that_come_out_otherwise_each_time_are_damaged(three: Rig) -> None:
    """Nothing is known of the server yet; but what differs twice is spoilt on its way."""
    flip = iter(range(1, 1000))
    spoil = faults.answering(lambda answer: answer.plus(bytes([next(flip) % 255]) * len(answer.body)))
    three.server.faults = [Fault("get", spoil)]
    report = await three.run(3)
    assert report.counts.failed == len(OBJECTS)
    report = await three.heal()
    assert report.counts.downloaded == len(OBJECTS)

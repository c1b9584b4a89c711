"""Silence is no success: a bucket that is empty, another one, or half of one, marks nothing as gone and is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.catalog.catalog import Catalog
from ingest.engine.options import SyncOptions
from ingest.jobs.sync import backfill
from ingest.model import MarkGone, RunStatus
from ingest.plan.selection import Selection
from ingest.plan.vanishing import MOST_GONE, MostGone
from ingest.testing import faults
from ingest.testing.memory_s3 import Fault, MemoryS3
from tests.faults.rig import Rig, rigged
from tests.fixtures.lines import lines_said

OBJECTS = {f"{place}/{number:03}": b"x" for place in ("a", "b/c") for number in range(60)}
SERVERS = ["MinIO", "SeaweedFS", "unknown"]


def empty(server: MemoryS3) -> None:
    server.objects.clear()


def become_another(server: MemoryS3) -> None:
    server.objects.clear()
    server.fill({f"other/{number:03}": b"y" for number in range(200)})


def lose(count: int) -> Callable[[MemoryS3], None]:
    def lose_some(server: MemoryS3) -> None:
        for key in random.Random(1).sample(sorted(server.objects), count):
            del server.objects[key]

    return lose_some


async def gone(rig: Rig) -> int:
    return sum(bool(row["gone_at"]) for row in (await rig.rows()).values())


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("what", "missing"), [(empty, 120), (become_another, 120), (lose(61), 61)], ids=["empty", "another", "61 of 120"]
)
async def test_more_than_half_is_not_believed(
    tmp_path: Path, each_url: str, swift: None, server: str, what: Callable[[MemoryS3], None], missing: int
) -> None:
    async with rigged(tmp_path, each_url, OBJECTS, page=7, name=server) as rig:
        await rig.run(0)
        before = dict(rig.server.objects)
        what(rig.server)
        for night in range(2):  # the second night knows no more than the first
            report = await rig.run(3)
            assert report.error is not None
            listed = len(rig.server.objects)
            known = len(before | rig.server.objects) if night else len(before)
            said = f"{missing} of {known} objects on record are no longer listed ({listed} are)"
            assert report.error.message == f"{said}: none was marked as gone; if it is true, say --max-gone {missing}"
            assert (report.status, report.counts.gone, report.counts.unmarked) == (RunStatus.PARTIAL, 0, missing)
            assert await gone(rig) == 0
        rig.server.objects.update(before)
        assert (await rig.run(0)).counts.gone == 0
        what(rig.server)
        assert (await rig.run(0, max_gone=MostGone(number=missing))).counts.gone == missing
        assert await gone(rig) == missing
        assert (await rig.run(0)).counts.gone == 0
        await rig.heal()


@pytest.mark.parametrize("server", SERVERS)
async def test_half_is_marked_and_what_is_new_comes_all_the_same(
    tmp_path: Path, sqlite_url: str, swift: None, server: str
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=7, name=server) as rig:
        await rig.run(0)
        lose(60)(rig.server)
        rig.server.put("zz/new", b"new")
        report = await rig.run(3, max_gone=MostGone(percent=49))
        assert (report.counts.downloaded, report.counts.gone) == (1, 0)
        report = await rig.run(0)
        assert (report.counts.downloaded, report.counts.gone) == (0, 60)
        await rig.heal()


@pytest.mark.parametrize("server", SERVERS)
async def test_a_prefix_is_judged_by_itself(tmp_path: Path, sqlite_url: str, swift: None, server: str) -> None:
    """60 objects below it: fewer than a share says much of. A number is taken as it stands."""
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=7, name=server) as rig:
        await rig.run(0)
        for key in [key for key in OBJECTS if key.startswith("a/")]:
            del rig.server.objects[key]
        below = Selection(prefixes=("a/",))
        report = await rig.run(3, selection=below, max_gone=MostGone(number=59))
        assert report.error is not None
        assert report.error.message.startswith("60 of 60 objects on record are no longer listed (0 are)")
        with lines_said() as lines:
            assert (await rig.run(0, selection=below)).counts.gone == 60
        (said,) = [line for line in lines if line["event"] == "nothing_listed"]
        assert said["log_level"] == "warning"
        assert "nothing is listed, where 60 objects are on record" in said["message"]
        await rig.heal()


@pytest.mark.parametrize("server", SERVERS)
async def test_a_dry_run_says_the_same_and_marks_nothing(
    tmp_path: Path, sqlite_url: str, swift: None, server: str
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=7, name=server) as rig:
        await rig.run(0)
        lose(61)(rig.server)
        shown: list[object] = []
        report = await rig.run(3, dry_run=True, on_action=shown.append)
        assert (report.counts.gone, shown) == (0, [])
        report = await rig.run(0, dry_run=True, on_action=shown.append, max_gone=MostGone(number=61))
        assert report.counts.gone == sum(isinstance(action, MarkGone) for action in shown) == 61
        assert await gone(rig) == 0


@pytest.mark.parametrize("server", SERVERS)
async def test_a_backfill_marks_by_the_same_rule(tmp_path: Path, sqlite_url: str, swift: None, server: str) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=7, name=server) as rig:
        await rig.run(0)
        lose(61)(rig.server)
        window = SyncOptions(arguments={"since": "2026-01-01"})
        for resume in (False, True):
            report = await backfill(rig.settings, SyncOptions(arguments=window.arguments, resume=resume))
            assert report.counts.gone == 0
            assert await gone(rig) == 0
        assert (await backfill(rig.settings, SyncOptions(max_gone=MostGone(number=61)))).counts.gone == 61


async def test_what_is_recorded_meanwhile_is_newer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event may have brought an object back between the listing of its page and the end of the whole."""
    await rig.run(0)
    key = min(rig.server.objects)
    del rig.server.objects[key]
    asked = Catalog.rows_for

    async def changed(catalog: Catalog, source_id: int, keys: list[str]) -> dict[str, object]:
        return {name: row._replace(etag="newer") for name, row in (await asked(catalog, source_id, keys)).items()}

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "rows_for", changed)
        assert (await rig.run(0)).counts.gone == 0
    assert (await rig.run(0)).counts.gone == 1


async def test_a_server_that_turns_out_to_list_in_another_order_marks_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """What its ranges did not show may stand elsewhere in its listing."""
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=7, name="MinIO") as rig:
        await rig.run(0)
        lose(10)(rig.server)
        swap = faults.answering(
            lambda answer: answer.plus(
                answer.body.replace(b"<Key>b/c/058<", b"<Key>?<")
                .replace(b"<Key>b/c/059<", b"<Key>b/c/058<")
                .replace(b"<Key>?<", b"<Key>b/c/059<")
            )
        )
        rig.server.faults = [Fault("list", swap)]
        report = await rig.attempt()
        assert report.error is None or report.error.code == "listing_order"
        assert (report.counts.gone == 0) is (report.error is not None)
        await rig.heal()


async def test_the_command_line_says_it_in_one_line(rig: Rig) -> None:
    rig.server.fill({f"k/{number:03}": b"x" for number in range(100)})
    assert (await rig.cli("sync", "-q")).exit_code == 0
    rig.server.objects.clear()
    printed = await rig.cli("sync", "-q")
    assert (printed.exit_code, printed.document["error"]["code"], printed.document["gone"]) == (3, "too_many_gone", 0)
    assert "108 of 108 objects on record are no longer listed (0 are)" in printed.stderr
    assert printed.stderr.count("\n") == 2, printed.stderr  # the error and its hint
    assert (await rig.cli("sync", "-q", "--max-gone", "107")).exit_code == 3
    assert (await rig.cli("sync", "-q", "--max-gone", "101%")).exit_code == 2
    assert (await rig.cli("sync", "-q", "--max-gone", "many")).exit_code == 2
    assert (await rig.cli("backfill", "--since", "2024-01-01", "--max-gone", "100%")).document["gone"] == 108


def test_the_default_is_half_of_a_hundred() -> None:
    assert MostGone(percent=50, least=100) == MOST_GONE

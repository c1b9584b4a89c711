"""The tables of `plan.behind` and `plan.setback`, and the file that a data directory keeps for the first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.plan.behind import Mark, Noted, Standing, is_behind
from ingest.plan.setback import Trail
from ingest.store import last_run

BEGAN = datetime(2026, 11, 24, 2, 0, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 3, tzinfo=UTC)
MARK = Mark(41, BEGAN, 8)


@pytest.mark.parametrize(
    ("noted", "begun", "found", "behind"),
    [
        (Noted(), 1, Standing(), False),
        (Noted(behind=True), 99, Standing(), True),
        (Noted(newest=41), 42, Standing(), False),
        (Noted(newest=41), 41, Standing(), True),
        (Noted(newest=41), 40, Standing(), True),
        (Noted(41, (MARK,)), 42, Standing([MARK], 1), False),
        (Noted(41, (MARK,)), 42, Standing([MARK._replace(written=9)], 1), False),
        (Noted(41, (MARK,)), 42, Standing([MARK._replace(written=7)], 1), True),
        (Noted(41, (MARK,)), 73, Standing([MARK._replace(started_at=LATER)], 1), True),
        (Noted(41, (MARK,)), 73, Standing([], 1), True),
        (Noted(41, (MARK,)), 73, Standing([], 0), True),
        (Noted(41, (MARK,)), 73, Standing([], 41), True),
        (Noted(41, (MARK,)), 73, Standing([], 42), False),
        (Noted(41, (MARK, Mark(40, BEGAN, 3))), 73, Standing([MARK], 1), True),
        (Noted(41, (MARK._replace(written=0),)), 73, Standing([], 1), True),
    ],
    ids=[
        "nothing is noted",
        "found before",
        "a higher number",
        "the same number",
        "a lower number",
        "as it was",
        "further than was known",
        "further back",
        "another run under its number",
        "not there, as a sequence leaves numbers out",
        "no run at all",
        "not there, and it would be the oldest",
        "trimmed away",
        "one of two",
        "one that had written nothing yet",
    ],
)
def test_whether_a_catalog_is_behind(noted: Noted, begun: int, found: Standing, behind: bool) -> None:
    assert is_behind(noted, begun, found) is behind


@pytest.mark.parametrize(
    ("committed", "stands", "offset"),
    [
        ([], 0, None),
        ([(10, 3)], 3, 10),
        ([(10, 3)], 9, 10),
        ([(10, 3)], 2, 5),
        ([(10, 3), (20, 6), (30, 9)], 6, 20),
        ([(10, 3), (20, 6), (30, 9)], 8, 20),
        ([(10, 3), (20, 3)], 3, 20),
        ([(10, 3), (20, 6)], 0, 5),
    ],
)
def test_from_where_a_partition_is_read_again(
    committed: list[tuple[int, int]], stands: int, offset: int | None
) -> None:
    trail = Trail(5)
    for position, written in committed:
        trail.committed(position, written)
    assert trail.back_to(stands) == offset


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / ".ingest").mkdir()
    return tmp_path


def test_what_is_noted_is_read_again(data_dir: Path) -> None:
    assert last_run.noted(data_dir) == Noted()
    last_run.note_mark(data_dir, MARK)
    assert last_run.noted(data_dir) == Noted(0, (MARK,))
    last_run.note_end(data_dir, MARK._replace(written=9))
    assert last_run.noted(data_dir) == Noted(41, (MARK._replace(written=9),))
    for number in range(42, 60):
        last_run.note_end(data_dir, Mark(number, LATER, 1))
    kept = last_run.noted(data_dir)
    assert (kept.newest, [mark.run_id for mark in kept.marks]) == (59, [*range(59, 51, -1)])
    last_run.note_end(data_dir, Mark(50, LATER, 1))  # it began before the others, and ended after them
    assert last_run.noted(data_dir).newest == 59


def test_it_is_behind_until_a_whole_sync_has_ended(data_dir: Path) -> None:
    last_run.note_end(data_dir, MARK)
    last_run.note_behind(data_dir)
    assert last_run.noted(data_dir) == Noted(behind=True)
    last_run.note_end(data_dir, Mark(9, LATER, 2))
    assert last_run.noted(data_dir).behind
    last_run.note_end(data_dir, Mark(10, LATER, 2), whole=True)
    assert last_run.noted(data_dir) == Noted(10, (Mark(10, LATER, 2),))


def test_earlier_versions_read_it_and_are_read(data_dir: Path) -> None:
    """They take the first 32 bytes for a number."""
    file = data_dir / ".ingest" / "last-run"
    last_run.note_end(data_dir, MARK)
    assert int(file.read_text(encoding="ascii")[:32]) == 41
    file.write_text("17\n", encoding="ascii")
    assert last_run.noted(data_dir) == Noted(17)
    file.write_text(f"{18:<31}\n{{}}", encoding="ascii")  # a later version's, in words of its own
    assert last_run.noted(data_dir) == Noted(18)
    file.write_text("nonsense", encoding="ascii")
    assert last_run.noted(data_dir) == Noted()


def test_what_a_kill_left_of_another_version_is_not_thrown_away(data_dir: Path) -> None:
    """A torn intent has seen no rename; a whole one in other words may have seen them all."""
    from ingest.errors import NotesForeign
    from ingest.store.undo_log import UndoLog

    place = data_dir / ".ingest" / "replaced" / "statements"
    place.mkdir(parents=True)
    for written in ('{"version": 2, "copies": []}', '[["key"]]', '[["key", "path", "more"]]', "[1]", "7"):
        (place / "intent").write_text(written)
        with pytest.raises(NotesForeign):
            UndoLog(data_dir, "statements").left()
    for torn in ("", "[", '[["key", "pa'):
        (place / "intent").write_text(torn)
        assert UndoLog(data_dir, "statements").left() == []

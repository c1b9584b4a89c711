"""How long a database is waited for, and what no patience helps."""

from __future__ import annotations

import pytest

from ingest.catalog.sql import deadlines
from ingest.catalog.sql.deadlines import Deadlines
from ingest.errors import DatabaseBusy, DatabaseDataError, DatabaseError, DatabaseLost, DatabaseSilent


class Tries:
    """Fails so many times, then answers."""

    def __init__(self, error: DatabaseError, times: int) -> None:
        self.error, self.times, self.made = error, times, 0

    async def __call__(self) -> str:
        self.made += 1
        if self.made <= self.times:
            raise self.error
        return "done"


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(deadlines, "_LONGEST_PAUSE", 0.0)


@pytest.mark.parametrize("error", [DatabaseBusy("locked"), DatabaseLost("closed"), DatabaseSilent("no answer")])
async def test_what_passes_is_waited_for(error: DatabaseError) -> None:
    tries = Tries(error, 3)
    assert await Deadlines().patiently(tries) == "done"
    assert tries.made == 4


@pytest.mark.parametrize("error", [DatabaseError("permission denied"), DatabaseDataError("out of range")])
async def test_what_does_not_pass_is_not(error: DatabaseError) -> None:
    tries = Tries(error, 9)
    with pytest.raises(DatabaseError):
        await Deadlines().patiently(tries)
    assert tries.made == 1


async def test_nothing_is_tried_again_where_that_is_not_safe() -> None:
    tries = Tries(DatabaseLost("while committing"), 9)
    with pytest.raises(DatabaseLost):
        await Deadlines().patiently(tries, unless=lambda: True)
    assert tries.made == 1


@pytest.mark.parametrize(
    ("error", "made"),
    [(DatabaseBusy("serialization failure"), 3), (DatabaseLost("closed"), 1), (DatabaseSilent("-"), 1)],
)
async def test_once_the_run_is_asked_to_stop_only_a_conflict_is_waited_for(error: DatabaseError, made: int) -> None:
    waiting, tries = Deadlines(), Tries(error, 2)
    waiting.hurry()
    if made > 1:
        assert await waiting.patiently(tries) == "done"
    else:
        with pytest.raises(DatabaseLost):
            await waiting.patiently(tries)
    assert tries.made == made


async def test_the_patience_ends_and_then_there_is_one_try_until_it_answers() -> None:
    waiting = Deadlines(answer=0.0)
    tries = Tries(DatabaseLost("closed"), 9)
    with pytest.raises(DatabaseLost):
        await waiting.patiently(tries)
    assert waiting.given_up
    before = tries.made
    with pytest.raises(DatabaseLost):
        await waiting.patiently(tries)
    assert tries.made == before + 1
    tries.times = 0
    assert await waiting.patiently(tries) == "done"
    assert not waiting.given_up

"""What is committed when partitions come and go while messages are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ingest.broker.messages import Letter
from ingest.catalog.deadletters import LetterRow
from ingest.errors import BrokerError
from ingest.events.in_flight import InFlight
from ingest.events.partitions import Partitions


class Commits(list[dict[int, int]]):
    """Stands for the broker's side of commits, which no broker lets one see one by one."""

    name, trouble = "t", ""
    away = False
    position: int | None = None
    """The group's, before any of these commits."""
    begins_at = 0
    """The oldest message that the broker still has."""

    async def oldest(self, partitions: Sequence[int]) -> dict[int, int]:
        if self.away:
            raise BrokerError("nobody answers")
        return dict.fromkeys(partitions, self.begins_at)

    async def committed(self, _partition: int) -> int | None:
        return self.position

    async def commit(self, positions: Mapping[int, int]) -> None:
        if self.away:
            raise BrokerError("nobody answers")
        self.append(dict(positions))


@dataclass
class Letters:
    """Stands for the letterbox: what is noted there is durable when the test says so."""

    lost: list[tuple[int, int, int]] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)

    def note_lost(self, row: LetterRow, messages: int, then: Callable[[], None]) -> None:
        self.lost.append((row.partition, row.offset, messages))
        self.then.append(then)


def letters(partition: int, *offsets: int) -> list[Letter]:
    return [Letter("t", partition, offset, None, b"{}") for offset in offsets]


async def owning(*numbers: int) -> tuple[Partitions, Commits]:
    commits = Commits()
    partitions = Partitions(cast(Any, Letters()), cast(Any, commits))
    await partitions.assigned(numbers)
    return partitions, commits


def finish(flights: list[InFlight], *indices: int) -> None:
    for index in indices:
        flights[index].finish()


async def test_only_what_has_nothing_open_before_it_is_committed() -> None:
    partitions, commits = await owning(0, 1)
    flights = partitions.flights([*letters(0, 5, 6, 7), *letters(1, 0)])
    finish(flights, 1, 2)
    await partitions.commit()
    assert commits == []
    finish(flights, 0)
    await partitions.commit()
    await partitions.commit()
    assert commits == [{0: 8}]


async def test_a_handover_waits_for_what_is_under_way() -> None:
    partitions, commits = await owning(0)
    flights = partitions.flights(letters(0, 0, 1))
    handing_over = asyncio.create_task(partitions.revoked([0]))
    await asyncio.sleep(0)
    assert not handing_over.done()
    finish(flights, 0, 1)
    await handing_over
    assert commits == [{0: 2}]


async def test_what_takes_too_long_is_left_to_the_next_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.events.partitions.HANDOVER_SECONDS", 0.01)
    partitions, commits = await owning(0, 1)
    flights = partitions.flights([*letters(0, 0, 1), *letters(1, 0)])
    finish(flights, 0)
    await partitions.revoked([0, 1])
    assert commits == [{0: 1}]
    await partitions.assigned([1])
    finish(flights, 1, 2)  # of the time before: of no consequence any more
    await partitions.commit()
    assert commits == [{0: 1}]
    assert partitions.flights(letters(0, 1)) == []  # not ours


async def test_a_commit_that_failed_is_made_up_for() -> None:
    partitions, commits = await owning(0)
    finish(partitions.flights(letters(0, 0)), 0)
    commits.away = True
    await partitions.commit()
    commits.away = False
    await partitions.commit()
    assert commits == [{0: 1}]


async def test_a_topic_that_starts_anew_is_followed_from_its_start() -> None:
    partitions, commits = await owning(0)
    finish(partitions.flights(letters(0, 8)), 0)
    finish(partitions.flights(letters(0, 0)), 0)
    await partitions.commit()
    assert commits == [{0: 1}]


async def test_what_the_broker_removed_before_it_was_read_is_on_record_before_the_offset_moves() -> None:
    partitions, commits = await owning(0)
    noted = cast(Letters, partitions.retry_queue)
    commits.position, commits.begins_at = 40, 100  # while nobody read
    finish(partitions.flights(letters(0, 100)), 0)
    await partitions.commit()
    assert (noted.lost, commits) == ([(0, 40, 60)], [])
    noted.then.pop()()
    await partitions.commit()
    assert commits == [{0: 101}]

    commits.begins_at = 300  # while reading was paused
    finish(partitions.flights(letters(0, 305)), 0)  # of 300 to 304 the topic's compaction has left nothing
    await partitions.commit()
    assert noted.lost[1:] == [(0, 101, 199)]
    noted.then.pop()()
    await partitions.commit()
    assert commits[1:] == [{0: 306}]


async def test_offsets_that_were_compacted_are_no_loss() -> None:
    partitions, commits = await owning(0)
    finish(partitions.flights(letters(0, 0, 5, 9)), 0, 1, 2)
    await partitions.commit()
    assert (cast(Letters, partitions.retry_queue).lost, commits) == ([], [{0: 10}])


async def test_a_broker_that_does_not_say_what_it_has_is_asked_again() -> None:
    partitions, commits = await owning(0)
    commits.position, commits.begins_at, commits.away = 1, 2, True
    finish(partitions.flights(letters(0, 2)), 0)
    await partitions.commit()
    commits.away = False
    assert (cast(Letters, partitions.retry_queue).lost, commits) == ([], [])
    await partitions.commit()
    assert cast(Letters, partitions.retry_queue).lost == [(0, 1, 1)]


async def test_doubts_of_partitions_that_were_taken_away_are_the_next_owners() -> None:
    partitions, commits = await owning(0, 1)
    commits.position, commits.begins_at, commits.away = 1, 2, True
    await partitions.revoked([1])
    commits.away = False
    await partitions.commit()
    assert cast(Letters, partitions.retry_queue).lost == [(0, 1, 1)]

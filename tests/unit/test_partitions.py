"""What is committed when partitions come and go while messages are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from ingest.delivery.messages import Letter
from ingest.errors import BrokerError
from ingest.jobs.errands import Errand
from ingest.jobs.partitions import Partitions


class Commits(list[dict[int, int]]):
    """Stands for the broker's side of commits, which no broker lets one see one by one."""

    away = False

    async def commit(self, positions: Mapping[int, int]) -> None:
        if self.away:
            raise BrokerError("nobody answers")
        self.append(dict(positions))


def letters(partition: int, *offsets: int) -> list[Letter]:
    return [Letter("t", partition, offset, None, b"{}") for offset in offsets]


async def owning(*numbers: int) -> tuple[Partitions, Commits]:
    commits = Commits()
    partitions = Partitions(cast(Any, None), cast(Any, commits))
    await partitions.assigned(numbers)
    return partitions, commits


def finish(errands: list[Errand], *indices: int) -> None:
    for index in indices:
        errands[index].finish()


async def test_only_what_has_nothing_open_before_it_is_committed() -> None:
    partitions, commits = await owning(0, 1)
    errands = partitions.errands([*letters(0, 5, 6, 7), *letters(1, 0)])
    finish(errands, 1, 2)
    await partitions.commit()
    assert commits == []
    finish(errands, 0)
    await partitions.commit()
    await partitions.commit()
    assert commits == [{0: 8}]


async def test_a_handover_waits_for_what_is_under_way() -> None:
    partitions, commits = await owning(0)
    errands = partitions.errands(letters(0, 0, 1))
    handing_over = asyncio.create_task(partitions.revoked([0]))
    await asyncio.sleep(0)
    assert not handing_over.done()
    finish(errands, 0, 1)
    await handing_over
    assert commits == [{0: 2}]


async def test_what_takes_too_long_is_left_to_the_next_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.jobs.partitions.HANDOVER_SECONDS", 0.01)
    partitions, commits = await owning(0, 1)
    errands = partitions.errands([*letters(0, 0, 1), *letters(1, 0)])
    finish(errands, 0)
    await partitions.revoked([0, 1])
    assert commits == [{0: 1}]
    await partitions.assigned([1])
    finish(errands, 1, 2)  # of the time before: of no consequence any more
    await partitions.commit()
    assert commits == [{0: 1}]
    assert partitions.errands(letters(0, 1)) == []  # not ours


async def test_a_commit_that_failed_is_made_up_for() -> None:
    partitions, commits = await owning(0)
    finish(partitions.errands(letters(0, 0)), 0)
    commits.away = True
    await partitions.commit()
    commits.away = False
    await partitions.commit()
    assert commits == [{0: 1}]


async def test_a_topic_that_starts_anew_is_followed_from_its_start() -> None:
    partitions, commits = await owning(0)
    finish(partitions.errands(letters(0, 8)), 0)
    finish(partitions.errands(letters(0, 0)), 0)
    await partitions.commit()
    assert commits == [{0: 1}]

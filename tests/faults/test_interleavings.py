"""Every command stopped at every place behind which something read earlier is acted on, and every other run meanwhile.

The suite tries a quarter of the places of each command on either database, beside the commands that meet it most. `make
interleavings` tries every place beside every command, on both databases.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from ingest.demo.verify_service import verify_service
from ingest.system.failpoints import READ
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.databases import Template
from tests.faults.interleaving import COMMANDS, Oracle, interleaved, places_of
from tests.faults.worlds import World
from tests.fixtures.forks import fork_server

WHOLE = "INGEST_TEST_INTERLEAVINGS" in os.environ
BESIDE: dict[str, tuple[str, ...]] = {
    "sync": ("backfill", "cleanup", "repair", "retry"),
    "sync-deliver": ("deliver", "restore", "backfill"),
    "backfill": ("sync", "sync-deliver", "cleanup"),
    "cleanup": ("sync-deliver", "hold", "release", "retry"),
    "cleanup-trusting": ("hold-prefix", "sync"),
    "restore": ("sync", "hold", "deliver"),
    "repair": ("sync", "sync-deliver", "deliver"),
    "hold": ("cleanup", "sync"),
    "hold-prefix": ("cleanup-trusting",),
    "release": ("cleanup", "restore"),
    "deliver": ("sync", "sync-deliver", "retry", "repair"),
    "take-over": ("sync-deliver", "retry"),
    "retry": ("sync-deliver", "cleanup", "deliver"),
    "rename": ("sync", "attach"),
    "attach": ("forget", "rename"),
    "forget": ("sync-deliver", "deliver"),
}
"""Command -> what meets it most: by turns on PostgreSQL and on SQLite."""
DATABASES = ("postgresql", "sqlite")


def beside(first: str, database: str) -> list[str]:
    """What is tried beside a command on this database."""
    return [*COMMANDS] if WHOLE else [*BESIDE[first][DATABASES.index(database) :: 2]]


PAIRS = [
    (database, first, second) for database in DATABASES for first in COMMANDS for second in beside(first, database)
]
ONLY_ELSEWHERE = {"listing.counted"}
"""Passed where a server lists by directory, and that alone."""


class Stage(NamedTuple):
    """A world on one database, and where each command may be stopped in it."""

    world: World
    places: dict[str, list[str]]


@pytest.fixture(scope="module")
def stages(empty_databases: dict[str, Template]) -> Iterator[Callable[[str], Stage]]:
    """By database, made once: on a disk in memory where there is one, since every step waits for its bytes to be durable."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:

        @cache
        def stage(database: str) -> Stage:
            server = stack.enter_context(running(MemoryS3()))
            service = stack.enter_context(verify_service())
            where = memory if os.access(memory, os.W_OK) else None
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
            runner = stack.enter_context(asyncio.Runner())
            world = World(server, service, fork_server(), home, empty_databases[database], runner)
            stack.callback(world.close)
            world.build()
            return Stage(world, {command: places_of(world, command) for command in COMMANDS})

        yield stage


def dealt(places: list[str], first: str, second: str, database: str) -> list[str]:
    """Those places of `first` at which `second` comes: in the suite every fourth, another one on the other database."""
    if WHOLE:
        return places
    others = beside(first, database)
    mine = [place for place in places if ":" not in place][2 * DATABASES.index(database) :: 4]
    return mine[others.index(second) :: len(others)]


@pytest.mark.parametrize("database", DATABASES)
def test_every_reading_is_a_place_of_some_command(stages: Callable[[str], Stage], database: str) -> None:
    places = stages(database).places
    assert {place for each in places.values() for place in each} >= READ - ONLY_ELSEWHERE


@pytest.mark.timeout(0 if WHOLE else 600)
@pytest.mark.parametrize(("database", "first", "second"), PAIRS)
def test_it_ends_as_one_after_the_other(stages: Callable[[str], Stage], database: str, first: str, second: str) -> None:
    world, places = stages(database)
    oracle = Oracle(world, first, second)
    found = [
        f"{first} at {place}: {fault}"
        for place in dealt(places[first], first, second, database)
        for fault in oracle.faults(interleaved(world, first, place, second))
    ]
    if found:
        pytest.fail("\n".join(found), pytrace=False)

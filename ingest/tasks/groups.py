"""Tasks that end together, and with one error: groups of errors are nothing that anybody above knows how to name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from ingest.errors import IngestError


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the one error that ended it, as if its tasks had been one.

    Not by `except*`: what is raised in it is put into a group once more, up to Python 3.11.3.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise first_of(failed) from None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group comes down to: a defect, where there is one, since nobody expects it; else the first fault."""
    errors = list(_flat(group))
    return next((error for error in errors if not isinstance(error, IngestError)), errors[0])


def _flat(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _flat(inner)
    else:
        yield error

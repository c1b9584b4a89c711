"""No memory, no threads: a run ends with one line, and the next one does what is left."""

from __future__ import annotations

import threading

import pytest

from ingest.errors import OutOfMemory
from tests.faults.rig import Rig


def no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("place", ["ingest.engine.transfer.staging.md5_of_each", "ingest.engine.transfer.fetch.hashed"])
async def test_no_memory_to_hash_by(rig: Rig, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Of objects that are hashed in threads, and of those that are not."""
    with monkeypatch.context() as patched:
        patched.setattr(place, no_memory)
        report = await rig.run(1)
    assert isinstance(report.error, OutOfMemory)
    await rig.heal()


async def test_no_thread_to_be_had(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the run is under way: what was started keeps its threads."""
    start = threading.Thread.start

    def start_none_to_stage(thread: threading.Thread) -> None:
        if thread.name.startswith("stage"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_none_to_stage)
        report = await rig.run(1)
    assert isinstance(report.error, OutOfMemory)
    await rig.heal()

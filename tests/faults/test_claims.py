"""What a dispatcher has claimed, and what becomes of the object meanwhile: evidence is true, and nothing is left behind.

The dispatcher is held by SIGSTOP at a labelled place, in no transaction, while other commands come to their end.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import deliveries
from ingest.demo.verify_service import VerifyService
from ingest.engine.run import Run
from ingest.model import SUPERSEDED
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.commands import Commands
from tests.faults.databases import Template, copy_of
from tests.faults.invariants import look
from tests.fixtures.catalogs import reading
from tests.fixtures.forks import Child
from tests.fixtures.verify_service import opened, run_work

A, B, C = b"version A", b"version B", b"version C"


class Rig(Commands):
    """One object `k`, and what the service at VERIFY_URL was told of it."""

    def put(self, body: bytes) -> None:
        self.server.put("k", body)

    async def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        async with Catalog.open(self.url) as catalog, reading(catalog) as connection:
            found = await connection.execute(select(deliveries).order_by(deliveries.c.id))
            return [tuple(getattr(row, name) for name in columns) for row in found]

    async def states(self) -> dict[bytes, str]:
        """By version of the object: what became of its delivery."""
        return {
            body: state for etag, state in await self.rows("etag", "state") for body in (A, B, C) if md5(body) == etag
        }

    async def assert_true(self, service: VerifyService) -> None:
        """The service got each version under its own etag; what is recorded as delivered there was received there."""
        told = [(taken.fields["etag"], taken.sha256) for taken in service.received]
        assert set(told) <= {(md5(body), hashlib.sha256(body).hexdigest()) for body in (A, B, C)}
        recorded = {etag for etag, state, target in await self.rows("etag", "state", "target")
                    if (state, target) == ("delivered", service.url)}  # fmt: skip
        assert recorded == {etag for etag, _ in told}
        seen = await look(self.settings)
        assert seen.broken_links == []
        seen.assert_settled()


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


@pytest.fixture(params=["sqlite", "postgresql"])
async def rig(
    request: pytest.FixtureRequest, empty_databases: dict[str, Template], service: VerifyService, tmp_path: Path
) -> AsyncIterator[Rig]:
    """Version A of the object waits for its delivery."""
    with running(MemoryS3()) as server:
        url = await copy_of(empty_databases[request.param], tmp_path / "catalog.db")
        made = Rig(server, tmp_path / "data", url, {"VERIFY_URL": service.url})
        made.put(A)
        assert made.run("sync", "--deliver") == 0
        yield made


def go_on(process: Child) -> int:
    process.go_on()
    return process.end()


@pytest.mark.parametrize("at", ["outbox.claimed", "delivery.answered"])
@pytest.mark.parametrize("sync", [("sync", "--deliver"), ("sync",)], ids=" ".join)
async def test_a_claim_names_its_version_to_its_end(
    rig: Rig, service: VerifyService, at: str, sync: tuple[str, ...]
) -> None:
    with rig.held("deliver", at=at) as first:
        rig.put(B)
        assert rig.run(*sync) == 0
        assert go_on(first) == 0
    assert rig.run("deliver") == 0
    was_told = at == "delivery.answered"
    assert await rig.states() == {A: "delivered" if was_told else "dead", B: "delivered"}
    await rig.assert_true(service)


async def test_a_version_that_comes_back_while_its_row_is_in_hand_is_delivered(
    rig: Rig, service: VerifyService
) -> None:
    """A waits, B is recorded, and A comes back while a dispatcher holds A's row, and believes B."""
    rig.put(B)
    assert rig.run("sync", "--deliver") == 0
    with rig.held("deliver", at="outbox.claimed") as first:
        rig.put(A)
        assert rig.run("sync", "--deliver") == 0
        assert go_on(first) == 0
    assert rig.run("deliver") == 0
    assert await rig.states() == {A: "delivered", B: "dead"}
    await rig.assert_true(service)


@pytest.mark.parametrize("sync", [("sync", "--deliver"), ("sync",)], ids=" ".join)
async def test_between_a_rename_and_its_row_a_dispatcher_waits(
    rig: Rig, service: VerifyService, sync: tuple[str, ...]
) -> None:
    """The file is B already, the row is A still, and so it stays for longer than this dispatcher has patience."""

    async def work(run: Run) -> None:
        rig.put(B)
        async with opened(run, patience=0.0) as dispatcher:
            with rig.held(*sync, at="batch.all-renamed") as first:
                await dispatcher.run(Stop(), until_empty=True)
                assert (dispatcher.counts.dead, len(dispatcher.postponed), service.received) == (0, 1, [])
                assert go_on(first) == 0

    report = await run_work(rig.settings.model_copy(update={"verify_url": service.url}), work)
    assert report.error is None
    assert rig.run("deliver") == 0
    assert await rig.states() == {A: "dead", B: "delivered"}
    assert [error for state, error in await rig.rows("state", "last_error") if state == "dead"] == [SUPERSEDED]
    await rig.assert_true(service)


async def test_what_a_killed_run_left_between_a_rename_and_its_row_is_undone_and_delivered(
    rig: Rig, service: VerifyService
) -> None:
    with rig.held("deliver", at="outbox.claimed") as first:
        rig.put(B)
        assert rig.run("sync", "--deliver", INGEST_CRASH_AT="batch.all-renamed") == -signal.SIGKILL
        assert go_on(first) == 0
    assert await rig.states() == {A: "delivered"}
    assert rig.run("deliver") == 0  # and sweeps
    await rig.assert_true(service)


async def test_a_newer_version_takes_over_the_place_in_line_whoever_records_it(
    rig: Rig, service: VerifyService
) -> None:
    """Also of one that nobody asked to be delivered; and its copy stays until then."""
    rig.put(B)
    assert rig.run("sync") == 0
    assert await rig.states() == {A: "pending", B: "pending"}
    assert rig.run("cleanup", "--older-than", "0d") == 0
    assert {row["state"] for row in (await look(rig.settings)).rows.values()} == {"present"}
    assert rig.run("deliver") == 0
    assert await rig.states() == {A: "dead", B: "delivered"}
    await rig.assert_true(service)


@pytest.mark.parametrize("sync", [("sync", "--deliver"), ("sync",)], ids=" ".join)
async def test_a_version_that_is_taken_again_is_due_again_whatever_it_died_of(
    rig: Rig, service: VerifyService, sync: tuple[str, ...]
) -> None:
    (rig.data_dir / "statements" / "k").unlink()
    rig.server.objects.pop("k")
    assert rig.run("deliver") == 3
    assert await rig.states() == {A: "dead"}
    for body in (B, A):
        rig.put(body)
        assert rig.run(*sync) == 0
    assert rig.run("deliver") == 0
    assert (await rig.states())[A] == "delivered"
    await rig.assert_true(service)


async def test_a_repaired_copy_is_due_again(rig: Rig, service: VerifyService) -> None:
    copy, kept = rig.data_dir / "statements" / "k", dict(rig.server.objects)
    copy.unlink()
    rig.server.objects.clear()
    assert rig.run("deliver") == 3
    rig.server.objects.update(kept)
    assert rig.run("verify", "--repair") == 0
    assert await rig.states() == {A: "pending"}
    assert rig.run("deliver") == 0
    assert await rig.states() == {A: "delivered"}
    await rig.assert_true(service)

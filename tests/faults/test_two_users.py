"""A command that root runs in another user's data directory, and the nights of that user after it."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog.schema import schema
from ingest.demo.verify_service import verify_service
from ingest.engine.options import (
    CleanupOptions,
    DeliverOptions,
    HoldOptions,
    RestoreOptions,
    SyncOptions,
    VerifyOptions,
)
from ingest.jobs import hold, sources
from ingest.jobs.cleanup import cleanup
from ingest.jobs.deliver import deliver
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from tests.faults.conftest import SERVICE
from tests.faults.rig import OBJECTS, Rig, rigged, variables_of
from tests.fixtures.process import started, until

LARGE = {"large.bin": random.Random(1).randbytes(20 << 20)}


@pytest.fixture
async def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swift: None, as_service: Sequence[str]
) -> AsyncIterator[Rig]:
    """The service's own home, with nothing in it yet."""
    place = tmp_path / "home"
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    place.mkdir(mode=0o750)
    os.chown(place, SERVICE, SERVICE)
    async with rigged(place, "", OBJECTS | LARGE) as rig:
        os.chown(place / "neighbour", SERVICE, SERVICE)
        yield rig


def of_others(place: Path) -> list[str]:
    """What in the service's home is not the service's, be it a directory, a lock, a note or a part of the database."""
    found = [path for path in place.rglob("*") if path.lstat().st_uid != SERVICE or path.lstat().st_gid != SERVICE]
    return sorted(str(path.relative_to(place)) for path in found)


async def test_what_root_makes_belongs_to_whom_the_directory_belongs(home: Rig, as_service: Sequence[str]) -> None:
    """Whatever makes a file: the catalog and what lies beside it, locks, marks, notes, temporary files, and copies."""
    quiet: dict[str, Any] = {"progress": Silence(), "stop": Stop()}
    with verify_service() as service:
        own = home.settings.model_copy(update={"verify_url": service.url})
        at_once = timedelta(0)
        commands: dict[str, Callable[[], Awaitable[Any]]] = {
            "db upgrade": lambda: schema.upgrade(own.database_url.get_secret_value()),
            "sync": lambda: sync(own, SyncOptions(deliver_to=service.url), **quiet),
            "deliver": lambda: deliver(own, DeliverOptions(), **quiet),
            "hold add": lambda: hold.hold(own, HoldOptions(("index.txt",), reason="audit")),
            "cleanup": lambda: cleanup(own, CleanupOptions(at_once), **quiet),
            "restore": lambda: restore(own, RestoreOptions(("letter.pdf",)), **quiet),
            "verify": lambda: verify(own, VerifyOptions(repair=True), **quiet),
            "source attach": lambda: sources.attach(own, None, dry_run=False),
        }
        for name, command in commands.items():
            report = await command()
            assert getattr(report, "error", None) is None, (name, report)
            assert of_others(home.home) == [], name
        home.server.put("letter.pdf", b"another version, which replaces a copy")
        for line in ("sync --deliver", "deliver", "cleanup --older-than 0s"):
            said = await home.cli(*line.split(), under=as_service, VERIFY_URL=service.url)
            assert said.exit_code == 0, said.stderr


@pytest.mark.parametrize(
    ("label", "command"),
    [
        ("identity.inside-written", "sync"),
        ("partial.noted", "sync --include large.bin"),
        ("batch.replaced-linked", "sync --include letter.pdf"),
        ("batch.all-renamed", "sync"),
    ],
)
async def test_what_a_killed_command_of_roots_leaves(
    home: Rig, as_service: Sequence[str], label: str, command: str
) -> None:
    """At places where no other thread makes a directory: it has its owner a moment after it is there."""
    if label == "batch.replaced-linked":
        assert (await home.cli("sync", under=as_service)).exit_code == 0
        home.server.put("letter.pdf", b"a newer letter")
    variables = variables_of(home.settings) | {"INGEST_STOP_AT": label}
    async with started(*command.split(), variables=variables, cwd=home.home) as stopped:
        pid = stopped.pid
        await until(lambda: state_of(pid) == "T")
        database = sorted(path.name for path in home.settings.own_dir.glob("catalog.db*"))
        assert database == ["catalog.db", "catalog.db-shm", "catalog.db-wal"]
        assert not [path for path in of_others(home.home) if "catalog.db" in path]
    again = await home.cli("sync", under=as_service)
    assert again.exit_code == 0, again.stderr
    assert of_others(home.home) == []


async def test_where_root_may_give_nothing_away_one_line_refuses(home: Rig) -> None:
    assert (await home.cli("sync")).exit_code == 0
    home.server.put("new.pdf", b"new")
    before = sorted(str(path) for path in home.home.rglob("*"))
    without = ("setpriv", "--bounding-set=-chown")
    refused = await home.cli("sync", under=without)
    assert refused.exit_code == 5
    assert "belongs to nobody" in refused.stderr
    assert sorted(str(path) for path in home.home.rglob("*")) == before
    assert (await home.cli("status", under=without)).exit_code == 0  # it asks only


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

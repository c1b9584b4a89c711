"""A row's `local_path` is no proof of where a copy lies: whatever it says, nothing outside the bucket's directory is
touched, the object fails by name, the others go on, and `verify --repair` puts it right."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import objects
from ingest.engine.options import CleanupOptions, RestoreOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from tests.faults.rig import OBJECTS, TARGET, Rig
from tests.fixtures.catalogs import writing

PLACES = {
    "beside the data directory": "statements/../../neighbour",
    "our own files": "statements/../.ingest/precious",
    "our own files, directly": ".ingest/precious",
    "another bucket": "invoices/precious",
    "absolute": "{home}/neighbour",
    "an empty segment": "statements//../../neighbour",
    "a dot": "statements/./../../neighbour",
    "the bucket itself": "statements",
    "a NUL": "statements/a\0b",
    "too long a name": f"statements/{'x' * 256}",
    "nothing": "",
}


async def tamper(rig: Rig, path: str) -> None:
    url = rig.settings.database_url.get_secret_value()
    async with Catalog.open(url) as catalog, writing(catalog) as connection:
        await connection.execute(update(objects).where(objects.c.key == TARGET).values(local_path=path))


@pytest.fixture(params=list(PLACES.values()), ids=list(PLACES))
async def astray(request: pytest.FixtureRequest, rig: Rig) -> dict[Path, str]:
    """The target's row leads elsewhere; the files that it may lead to, with what is in them."""
    for place in (".ingest", "invoices"):
        (rig.settings.data_dir / place).mkdir(exist_ok=True)
        (rig.settings.data_dir / place / "precious").write_text("precious")
    await rig.run(0)
    await tamper(rig, request.param.format(home=rig.home))
    return {path: path.read_text() for path in (rig.home / "neighbour", *rig.settings.data_dir.glob("*/precious"))}


def untouched(found: dict[Path, str]) -> bool:
    return {path: path.read_text() for path in found if path.exists()} == found


async def run_verify(rig: Rig, **options: Any) -> RunReport:
    return await verify(rig.settings, VerifyOptions(**options), progress=Silence(), stop=Stop())


async def prune(rig: Rig) -> RunReport:
    options = CleanupOptions(timedelta(0), trust_catalog=True, trust_clock=True)
    return await cleanup(rig.settings, options, progress=Silence(), stop=Stop())


async def bring_back(rig: Rig) -> RunReport:
    return await restore(rig.settings, RestoreOptions(prefix=""), progress=Silence(), stop=Stop())


async def test_cleanup(rig: Rig, astray: dict[Path, str], caplog: pytest.LogCaptureFixture) -> None:
    report = await prune(rig)
    assert untouched(astray)
    assert (report.exit_code, report.counts.pruned, report.counts.failed) == (3, len(OBJECTS) - 1, 1), report.error
    assert "`ingest verify --repair`" in caplog.text
    assert (await rig.rows())[TARGET]["state"] == "present"


async def test_a_change(rig: Rig, astray: dict[Path, str]) -> None:
    rig.server.fill({TARGET: b"changed", "new": b"new"})
    report = await rig.run(3)
    assert untouched(astray)
    assert (report.counts.downloaded, report.counts.failed) == (1, 1)
    assert "`ingest verify --repair`" in (await rig.rows())[TARGET]["last_error"]


async def test_repair(rig: Rig, astray: dict[Path, str]) -> None:
    assert (await run_verify(rig)).exit_code == 7
    report = await run_verify(rig, repair=True)
    assert (report.exit_code, report.counts.repaired) == (0, 1), report.error
    assert untouched(astray)
    assert (await rig.rows())[TARGET]["local_path"] == f"statements/{TARGET}"
    await rig.check_catalog()


async def test_restore(rig: Rig, astray: dict[Path, str]) -> None:
    """Of a pruned copy nothing lies anywhere: it comes to its own place."""
    await tamper(rig, f"statements/{TARGET}")
    assert (await prune(rig)).counts.pruned == len(OBJECTS)
    await tamper(rig, "statements/../../neighbour")
    report = await bring_back(rig)
    assert (report.exit_code, report.counts.restored) == (0, len(OBJECTS)), report.error
    assert untouched(astray)
    await rig.check_catalog()

"""Migrated databases to copy from, a user without powers, and installations after their first night."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ingest.catalog.schema import schema
from tests.faults.databases import Template
from tests.faults.mortal import Mortal
from tests.faults.rig import Rig, rigged


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty_databases(
    postgres_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Template]]:
    """An empty catalog on each engine."""
    connection = await asyncpg.connect(postgres_uri)
    await connection.execute("CREATE DATABASE empty_catalog")
    await connection.close()
    base, _, query = postgres_uri.partition("?")
    urls = {
        "sqlite": f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('empty')}/catalog.db",
        "postgresql": f"postgresql+asyncpg://{base.partition('://')[2].rpartition('/')[0]}/empty_catalog?{query}",
    }
    for url in urls.values():
        await schema.upgrade(url)
    yield {name: Template(url) for name, url in urls.items()}


@pytest.fixture(scope="module")
def freezing() -> Iterator[Mortal]:
    """To be frozen and thawed by one test after the other."""
    with tempfile.TemporaryDirectory(prefix="ingest-tests-", ignore_cleanup_errors=True) as home:  # as `postgres_uri`
        server = Mortal(Path(home) / "pg")
        yield server
        server.thaw()
        server.stop()


@pytest.fixture
def unprivileged() -> Sequence[str]:
    """A command under which root passes no permission check that others do not pass."""
    command = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
    if (
        os.geteuid() != 0
        or shutil.which("setpriv") is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("only root, with setpriv, can give a directory to another user and become powerless itself")
    return command


SERVICE = 65534
"""The user and group that a service runs as, where a test needs one beside root."""


@pytest.fixture
def as_service() -> Sequence[str]:
    """A command that runs another as an unprivileged user, in no group of root's."""
    return _as_user(SERVICE)


@pytest.fixture
def as_reader() -> Sequence[str]:
    """The same in root's group, who may read what the group of its files may."""
    return _as_user(os.getegid())


def _as_user(group: int) -> Sequence[str]:
    """What the tests are made of, root's Python among it, any of them may read."""
    command = (
        *("setpriv", f"--reuid={SERVICE}", f"--regid={group}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    )
    if (
        os.geteuid() != 0
        or shutil.which("setpriv") is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("only root, with setpriv, can be two users")
    return command


@pytest_asyncio.fixture
async def embedded(tmp_path: Path, swift: None) -> AsyncIterator[Rig]:
    """A first night is over; the catalog lies in the data directory."""
    async with rigged(tmp_path, "") as made:
        await made.run(0)
        yield made


@pytest_asyncio.fixture
async def apart(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    """The same, and the catalog lies elsewhere, on each database in turn."""
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db" if each_url.startswith("sqlite") else each_url
    if url != each_url:
        shutil.rmtree(tmp_path / "data")
    async with rigged(tmp_path, url) as made:
        await made.run(0)
        yield made

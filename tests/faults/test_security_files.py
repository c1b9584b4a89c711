"""Who may read what we write, and what a person is told at each run."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ingest.demo.server import ACCESS_KEY, SECRET_KEY
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

LOOSE = "import os; os.umask(0); from ingest.cli import main; main()"
WATCHES = """
import os, pathlib, sys
from ingest.catalog import catalog
from ingest.cli import main
os.umask(0)
finish = catalog.Catalog.finish_run
async def finish_run(self, *arguments):
    await finish(self, *arguments)
    for path in pathlib.Path(os.environ["INGEST_DATA_DIR"]).rglob("catalog.db*"):  # while the write-ahead log exists
        print(path.name, oct(path.stat().st_mode & 0o777), file=sys.stderr)
catalog.Catalog.finish_run = finish_run
main()
"""


async def test_modes_under_an_open_umask(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"a/b/c": b"x", "d": b"y" * (5 << 20)})
    data = tmp_path / "not" / "yet" / "data"
    given = weed.variables(data)
    done = await run_ingest("sync", "-q", variables=given, cwd=tmp_path, program=("-c", WATCHES))
    assert done.code == 0, done.stderr
    modes = [line for line in done.stderr.split("\n") if line.startswith("catalog.db")]
    assert sorted(modes) == ["catalog.db 0o640", "catalog.db-shm 0o640", "catalog.db-wal 0o640"]
    to = tmp_path / "elsewhere" / "restored"
    command = ("restore", "--prefix", "", "--to", str(to), "-q")
    done = await run_ingest(*command, variables=given, cwd=tmp_path, program=("-c", LOOSE))
    assert done.code == 0, done.stderr
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in tmp_path.rglob("*")}
    copies = [path for path in found if path.name in ("c", "d")]
    assert len(copies) == 4
    wrong = {str(path): oct(mode) for path, mode in found.items() if mode != (0o750 if path.is_dir() else 0o640)}
    assert wrong == {}


async def test_unverified_tls_is_said_at_each_run(weed_tls: Bucket, tmp_path: Path) -> None:
    strict = weed_tls.variables(tmp_path / "data")
    strict.pop("S3_CA_BUNDLE")
    refused = await run_ingest("sync", "-q", variables=strict, cwd=tmp_path)
    assert refused.code == 4
    assert "not trusted" in refused.stderr  # verified unless someone says otherwise
    for _ in range(2):
        done = await run_ingest("sync", "-q", variables=strict | {"S3_VERIFY_SSL": "false"}, cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert "S3_VERIFY_SSL=false: any certificate is accepted" in done.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
async def test_settings_that_others_can_read(weed: Bucket, tmp_path: Path, mode: int, warned: bool) -> None:
    lines = [f"{name}={value}" for name, value in weed.variables(tmp_path / "data").items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    (tmp_path / ".env").chmod(mode)
    done = await run_ingest("status", "-q", variables={}, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert ("chmod 600" in done.stderr) is warned
    assert ACCESS_KEY not in done.output
    assert SECRET_KEY not in done.output

"""The command line as a process: exit codes, JSON, signals, secrets, and a kill at any time."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.servers import Bucket

CANARY = "canary-9f3b-secret"


def ingest(*arguments: str, variables: dict[str, str] | None = None, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not re.match(r"(S3|INGEST|DATABASE|AWS)_", name)}
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        env={**clean, **(variables or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ingest.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'aiohttp', 'botocore', 'pydantic', 'structlog', 'tqdm', 'alembic'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"
    assert "11   another run holds the lock" in shown


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (["bogus"], {}, 2, "No such command"),
        (["sync"], {}, 2, "S3_ENDPOINT is not set"),
        (["sync"], {"S3_ENDPOINT": "ftp://x"}, 2, "S3_ENDPOINT"),
        (["sync"], {"S3_SECURE": "perhaps"}, 2, "S3_SECURE"),
        (["sync"], {"DATABASE_URL": f"mysql://u:{CANARY}@h/d"}, 2, "DATABASE_URL"),
        (["status"], {"DATABASE_URL": f"postgresql://u:{CANARY}@127.0.0.1:1/d"}, 6, "127.0.0.1"),
        (["sync"], {"INGEST_DATA_DIR": "/dev/null/data"}, 5, "/dev/null/data"),
        (["cleanup", "--older-than", "x"], {}, 2, "not a duration"),
        (["sync", "--bwlimit", "fast"], {}, 2, "not a size"),
        (["restore"], {}, 2, "name keys"),
        (["sync"], {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_SECRET_KEY": CANARY}, 4, "refused"),
    ],
)
def test_bad_input_is_named_on_one_line(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    base = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "statements", "S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "s"}
    values = variables if said == "S3_ENDPOINT is not set" else {**base, **variables}
    done = ingest(*arguments, variables=values, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr


async def test_secrets_stay_secret_at_debug_level(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    variables = weed.variables(tmp_path / "data") | {"S3_SECRET_KEY": CANARY, "S3_SESSION_TOKEN": CANARY + "-token"}
    for command in (["check"], ["sync"], ["ls"]):
        done = ingest(*command, "-v", variables=variables, cwd=tmp_path)
        assert done.returncode in (1, 4)
        assert CANARY not in done.stdout + done.stderr


async def test_the_json_summary_has_every_field_and_nothing_else_on_stdout(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    done = ingest("sync", "--json", variables=weed.variables(tmp_path / "data"), cwd=tmp_path)
    document = json.loads(done.stdout)
    fields = (
        "command run_id status listed new changed unchanged skipped downloaded bytes failed gone pruned kept restored"
    )
    assert set((fields + " damaged repaired seconds").split()) <= set(document)
    assert (document["status"], document["downloaded"], document["bytes"]) == ("ok", 1, 1)


async def test_a_stop_is_clean_and_a_kill_is_repaired_by_the_next_run(weed: Bucket, tmp_path: Path) -> None:
    objects = {f"k/{n:04}": random.Random(n).randbytes(3000) for n in range(600)}
    await weed.put(objects)
    variables = weed.variables(tmp_path / "data")
    command = [sys.executable, "-m", "ingest", "sync", "--transfers", "2", "-q", "--json"]
    for number, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGKILL, -9)):
        process = subprocess.Popen(command, env={**os.environ, **variables}, cwd=tmp_path, stdout=subprocess.PIPE)
        time.sleep(random.uniform(0.5, 1.0))
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode in (expected, 0)
        if process.returncode == expected and number != signal.SIGKILL:
            assert json.loads(output)["status"] == "interrupted"
    last = json.loads(ingest("sync", "--json", variables=variables, cwd=tmp_path).stdout)
    assert last["listed"] == 600
    root = tmp_path / "data"
    found = {
        path.relative_to(root / weed.name).as_posix(): path.read_bytes()
        for path in (root / weed.name).rglob("*")
        if path.is_file()
    }
    assert found == objects
    assert list((root / ".ingest" / "tmp").iterdir()) == []
    again = json.loads(ingest("sync", "--json", variables=variables, cwd=tmp_path).stdout)
    assert (again["unchanged"], again["downloaded"]) == (600, 0)


async def test_a_killed_large_download_is_gone_on_with(weed: Bucket, tmp_path: Path) -> None:
    """The rate is limited so that the kill finds it half-way; the second run fetches what the first had not noted."""
    body = random.Random("large").randbytes(80 << 20)
    await weed.put({"large": body})
    variables = weed.variables(tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest", "sync", "-q", "--bwlimit", "40MiB"],
        env={**os.environ, **variables},
        cwd=tmp_path,
    )
    temporaries = tmp_path / "data" / ".ingest" / "tmp"
    while process.poll() is None and not list(temporaries.glob("large-*.json")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    again = json.loads(ingest("sync", "--json", variables=variables, cwd=tmp_path).stdout)
    assert (again["status"], again["downloaded"]) == ("ok", 1)
    assert 0 < again["bytes"] <= 64 << 20
    assert (tmp_path / "data" / weed.name / "large").read_bytes() == body
    assert list(temporaries.iterdir()) == []


def test_the_demo_keeps_its_promises_and_leaves_nothing(tmp_path: Path) -> None:
    own = f"sqlite+aiosqlite:///{tmp_path}/real/catalog.db"
    (tmp_path / ".env").write_text("S3_SECURE=true\nS3_BUCKET=real-bucket\n")
    done = ingest("demo", "--objects", "20", cwd=tmp_path, variables={"TMPDIR": str(tmp_path), "DATABASE_URL": own})
    assert not (tmp_path / "real").exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each did what this tour says" in done.stdout
    assert [path for path in tmp_path.iterdir() if path.name.startswith("ingest-demo")] == []

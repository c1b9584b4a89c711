"""The command line as a process: exit codes, JSON, signals, secrets, and a kill at any time."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from tests.faults.recorder import recording
from tests.fixtures.process import ANEW, ended, run_ingest, started, until
from tests.fixtures.servers import Bucket

CANARY = "canary-9f3b-secret"


async def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ingest.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'aiohttp', 'botocore', 'pydantic', 'structlog', 'tqdm', 'alembic'} & set(sys.modules)))"
    )
    shown = await run_ingest(variables={}, cwd=tmp_path, program=("-c", code))
    assert shown.code == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "[]"
    assert "11   another run holds the lock" in shown.stdout


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
        (["sync", "--bwlimit", "10"], {}, 2, "'10' has no unit; write 10MiB, 10KiB or 10B"),
        (["restore"], {}, 2, "name keys"),
        (["restore", "k", "--to", ""], {}, 2, "--to wants a directory"),
        (["check", "--save-ca", ""], {}, 2, "--save-ca wants a file"),
        (["sync", "--env-file", ""], {}, 2, "--env-file wants a file"),
        (["demo", "--dir", ""], {}, 2, "--dir wants a directory"),
        (["sync", "--include", ""], {}, 2, "--include '' matches no key at all"),
        (["sync", "--exclude", ""], {}, 2, "--exclude '' matches no key at all"),
        (["sync", "--filter", "# a comment"], {}, 2, "--filter '# a comment' matches no key at all"),
        (["sync"], {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_SECRET_KEY": CANARY}, 4, "refused"),
    ],
)
async def test_bad_input_is_named_on_one_line(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    base = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "statements", "S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "s"}
    values = variables if said == "S3_ENDPOINT is not set" else {**base, **variables}
    done = await run_ingest(*arguments, variables=values, cwd=tmp_path)
    assert done.code == code, done.stderr
    assert said.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert CANARY not in done.output


async def test_secrets_stay_secret_at_debug_level(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    variables = weed.variables(tmp_path / "data") | {"S3_SECRET_KEY": CANARY, "S3_SESSION_TOKEN": CANARY + "-token"}
    for command in (["check"], ["sync"], ["ls"]):
        done = await run_ingest(*command, "-v", variables=variables, cwd=tmp_path)
        assert done.code in (1, 4)
        assert CANARY not in done.output


async def test_the_json_summary_has_every_field_and_nothing_else_on_stdout(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"x"})
    done = await run_ingest("sync", "--json", variables=weed.variables(tmp_path / "data"), cwd=tmp_path, program=ANEW)
    document = json.loads(done.stdout)
    fields = (
        "command run_id status listed new changed unchanged skipped downloaded bytes failed gone pruned kept restored"
    )
    assert set((fields + " damaged repaired seconds").split()) <= set(document)
    assert (document["status"], document["downloaded"], document["bytes"]) == ("ok", 1, 1)


async def test_a_stop_is_clean_and_a_kill_is_repaired_by_the_next_run(weed: Bucket, tmp_path: Path) -> None:
    """Each comes when a random part of the work is done, as the requests tell that the server got."""
    objects = {f"k/{n:04}": random.Random(n).randbytes(3000) for n in range(600)}
    await weed.put(objects)
    command = ("sync", "--transfers", "2", "-q", "--json")
    async with recording(weed.endpoint.removeprefix("http://")) as proxy:
        variables = weed.variables(tmp_path / "data") | {"S3_ENDPOINT": proxy.endpoint}
        for number, expected in (
            (signal.SIGTERM, 143),
            (signal.SIGINT, 130),
            (signal.SIGKILL, -9),
            (signal.SIGKILL, -9),
        ):
            proxy.sent.clear()
            wanted = random.randint(1, 200)
            async with started(*command, variables=variables, cwd=tmp_path, program=ANEW) as process:
                await until(lambda: proxy.got() >= wanted or process.returncode is not None)
                if process.returncode is None:
                    process.send_signal(number)
                done = await ended(process)
            assert done.code in (expected, 0), done.stderr
            if done.code == expected and number != signal.SIGKILL:
                assert json.loads(done.stdout)["status"] == "interrupted"
        last = json.loads((await run_ingest("sync", "--json", variables=variables, cwd=tmp_path)).stdout)
        assert last["listed"] == 600
        root = tmp_path / "data"
        found = {
            path.relative_to(root / weed.name).as_posix(): path.read_bytes()
            for path in (root / weed.name).rglob("*")
            if path.is_file()
        }
        assert found == objects
        assert list((root / ".ingest" / "tmp").iterdir()) == []
        again = json.loads((await run_ingest("sync", "--json", variables=variables, cwd=tmp_path)).stdout)
        assert (again["unchanged"], again["downloaded"]) == (600, 0)


async def test_a_killed_large_download_is_gone_on_with(weed: Bucket, tmp_path: Path) -> None:
    """The rate is limited so that the kill finds it half-way; the second run fetches what the first had not noted."""
    body = random.Random("large").randbytes(80 << 20)
    await weed.put({"large": body})
    variables = weed.variables(tmp_path / "data")
    temporaries = tmp_path / "data" / ".ingest" / "tmp"

    def pieces_noted() -> int:
        return sum(note.read_bytes().partition(b"\n")[2].count(b"#") for note in temporaries.glob("large-*.note"))

    async with started("sync", "-q", "--bwlimit", "40MiB", variables=variables, cwd=tmp_path) as process:
        await until(lambda: pieces_noted() >= 4 or process.returncode is not None)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    again = json.loads((await run_ingest("sync", "--json", variables=variables, cwd=tmp_path)).stdout)
    assert (again["status"], again["downloaded"]) == ("ok", 1)
    assert 0 < again["bytes"] <= 64 << 20
    assert (tmp_path / "data" / weed.name / "large").read_bytes() == body
    assert list(temporaries.iterdir()) == []


async def test_the_demo_keeps_its_promises_and_leaves_nothing(tmp_path: Path) -> None:
    own = f"sqlite+aiosqlite:///{tmp_path}/real/catalog.db"
    (tmp_path / ".env").write_text("S3_SECURE=true\nS3_BUCKET=real-bucket\n")
    given = {"TMPDIR": str(tmp_path), "DATABASE_URL": own}
    done = await run_ingest("demo", "--objects", "20", cwd=tmp_path, variables=given, program=ANEW)
    assert not (tmp_path / "real").exists()
    assert done.code == 0, done.output
    assert "each did what this tour says" in done.stdout
    assert [path for path in tmp_path.iterdir() if path.name.startswith("ingest-demo")] == []

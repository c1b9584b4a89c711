"""The container's nightly script: what it runs, when, and how it stops. The commands it calls are stand-ins that log."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "nightly.sh"
STOP = "kill -TERM $PPID"


def nightly(home: Path, *arguments: str, ingest: str, sleep: str) -> tuple[int, list[str], str]:
    """Exit code, the commands in their order, and stderr. `ingest` and `sleep` are what those do once they are logged."""
    for name, body in (("ingest", ingest), ("sleep", sleep)):
        stand_in = home / name
        stand_in.write_text(f'#!/bin/sh\necho "{name} $*" >> {home}/log\n{body}\n', encoding="utf-8")
        stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env={"PATH": f"{home}:{os.environ['PATH']}"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    log = home / "log"
    return done.returncode, log.read_text(encoding="utf-8").splitlines() if log.exists() else [], done.stderr


def test_a_night_is_sync_then_cleanup_then_sleep_until_the_next(tmp_path: Path) -> None:
    code, commands, errors = nightly(
        tmp_path, "02:00", ingest="", sleep=f'[ "$(wc -l < {tmp_path}/log)" -lt 6 ] || {STOP}'
    )
    pauses = [int(command.split()[1]) for command in commands if command.startswith("sleep")]
    assert [command for command in commands if command.startswith("ingest")] == [
        "ingest db upgrade",
        *["ingest sync -q", "ingest cleanup -q"] * 2,
    ]
    assert len(pauses) == 2
    assert all(0 < pause <= 86_400 for pause in pauses)
    assert (code, errors.replace("Terminated\n", "")) == (0, "")  # some shells say what ended them


def test_a_failed_night_prunes_nothing_and_the_next_one_comes(tmp_path: Path) -> None:
    code, commands, errors = nightly(tmp_path, ingest='[ "$1" != sync ] || exit 4', sleep=STOP)
    assert [command.split()[:2] for command in commands][:2] == [["ingest", "db"], ["ingest", "sync"]]
    assert commands[2].startswith("sleep ")
    assert "ended with 4; next at 02:00 UTC" in errors
    assert code == 0


def test_a_stop_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    drain = f"trap 'echo drained >> {tmp_path}/log; exit 143' TERM; {STOP}; while :; do /bin/sleep 0.05; done"
    code, commands, _ = nightly(tmp_path, ingest=f'[ "$1" != sync ] || {{ {drain}; }}', sleep="exit 1")
    assert commands == ["ingest db upgrade", "ingest sync -q", "drained"]
    assert code == 0


def test_a_schema_that_cannot_be_made_ends_it(tmp_path: Path) -> None:
    code, commands, _ = nightly(tmp_path, ingest="exit 6", sleep="exit 1")
    assert (code, commands) == (6, ["ingest db upgrade"])


@pytest.mark.parametrize("at", ["25:99", "nonsense"])
def test_a_wrong_time_is_said_at_once(tmp_path: Path, at: str) -> None:
    code, commands, errors = nightly(tmp_path, at, ingest="", sleep="exit 1")
    assert (code, commands) == (2, [])
    assert re.search(at, errors)

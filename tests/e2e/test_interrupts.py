"""A signal before a run begins, or behind its end: the documented line, code and object, never a traceback."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from ingest.errors import InterruptedRun, TerminatedRun
from ingest.observe.report import frame
from ingest.system import signals
from ingest.tasks.stop import Stop
from tests.fixtures.process import run_ingest

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
EARLY = (
    "import os, signal, sys; from ingest import __main__ as program; sent = int(sys.argv.pop(1))\n"
    "class At:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name == {place!r}: os.kill(os.getpid(), sent)\n"
    "sys.meta_path.insert(0, At()); program.main()"
)
"""Sends itself the signal where a module is first imported."""
LATE = (
    "import os, sys; from ingest import __main__ as program; from ingest.cli import runner; sent = int(sys.argv.pop(1))\n"
    "def as_json(report): os.kill(os.getpid(), sent)\n"
    "import ingest.observe.report as report; report.as_json = as_json; program.main()"
)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("place", ["click", "ingest.cli.sync", "ingest.settings", "uvloop"])
@pytest.mark.parametrize("as_json", [True, False])
async def test_before_the_run(tmp_path: Path, number: signal.Signals, place: str, as_json: bool) -> None:
    program = ("-c", EARLY.format(place=place), str(int(number)))
    variables = {
        "S3_ENDPOINT": "127.0.0.1:1",
        "S3_BUCKET": "statements",
        "S3_ACCESS_KEY": "ours",
        "S3_SECRET_KEY": "hush",
    }
    flags = ["--json"] if as_json else []
    done = await run_ingest("sync", *flags, variables=variables, cwd=tmp_path, program=program)
    check(done.code, done.stdout, done.stderr, number, as_json=as_json)


@pytest.mark.parametrize("number", CODES)
async def test_between_the_run_and_its_report(tmp_path: Path, number: signal.Signals) -> None:
    variables = {
        "S3_ENDPOINT": "127.0.0.1:1",
        "S3_BUCKET": "statements",
        "S3_ACCESS_KEY": "ours",
        "S3_SECRET_KEY": "hush",
    }
    program = ("-c", LATE, str(int(number)))
    done = await run_ingest(
        "cleanup", "--trust-catalog", "--json", "-q", variables=variables, cwd=tmp_path, program=program
    )
    check(done.code, done.stdout, done.stderr, number, as_json=True)


def check(code: int, stdout: str, stderr: str, number: signal.Signals, *, as_json: bool) -> None:
    assert code == CODES[number], stderr
    assert "Traceback" not in stderr
    assert "Aborted" not in stderr
    _, message = signals.SAID[number]
    assert stderr.splitlines()[-2:] == [f"error: {message} (exit {code})", f"hint: {signals.HINT}"]
    if as_json:
        document = json.loads(stdout)
        assert list(document) == list(frame(""))
        assert (document["status"], document["exit_code"]) == ("interrupted", code)
        assert document["command"] in ("sync", "cleanup")
    else:
        assert stdout == ""


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, InterruptedRun), (signal.SIGTERM, TerminatedRun)])
def test_the_words_are_those_of_a_run(number: signal.Signals, kind: type[InterruptedRun]) -> None:
    stop = Stop()
    stop.request(number)
    assert signals.SAID[number] == (kind.code, stop.error.message)
    assert stop.error.hint == signals.HINT

"""``ingest demo --events`` as a newcomer runs it: it keeps its word, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.fixtures.process import ended, run_ingest, started


async def test_the_tour_of_the_events(tmp_path: Path) -> None:
    # Whoever runs it may have settings for a real broker and a real service.
    real = {"KAFKA_TOPIC": "the-real-one", "KAFKA_GROUP_ID": "the-real-one", "VERIFY_URL": "http://127.0.0.1:9/verify"}
    command = ("demo", "--events", "--objects", "8", "--json")
    done = await run_ingest(*command, variables=real | {"TMPDIR": str(tmp_path)}, cwd=tmp_path, seconds=150)
    assert done.code == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert (said["status"], said["commands"][0]) == ("ok", "ingest consume --until-idle 1s")
    assert {"ingest deadletters list", "ingest sync --deliver", "ingest deliver"} <= set(said["commands"])
    assert "17 statements verified, each once" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_served_to_be_used_by_hand(tmp_path: Path) -> None:
    """The lines lead to bucket, topic and service, and what is announced there is downloaded and delivered."""
    command = ("demo", "--serve", "--events", "--objects", "8", "--json")
    async with started(*command, variables={"TMPDIR": str(tmp_path)}, cwd=tmp_path) as process:
        assert process.stdout is not None
        variables = json.loads(await process.stdout.readline())["settings"]
        done = await run_ingest(
            "consume", "--until-idle", "1s", "--json", variables=variables, cwd=tmp_path, seconds=90
        )
        process.send_signal(signal.SIGTERM)
        assert (await ended(process)).code == 0
    assert done.code == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert (said["downloaded"], said["delivered"]) == (8, 8)

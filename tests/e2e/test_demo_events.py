"""``ingest demo --events`` as a newcomer runs it: it keeps its word, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fixtures.process import run_ingest


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

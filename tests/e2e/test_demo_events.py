"""``ingest demo --events`` as a newcomer runs it: it keeps its word, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_tour_of_the_events(tmp_path: Path) -> None:
    # Whoever runs it may have settings for a real broker and a real service.
    own = r"(S3|INGEST|DATABASE|AWS|KAFKA|VERIFY)_"
    clean = {name: value for name, value in os.environ.items() if not re.match(own, name)}
    real = {"KAFKA_TOPIC": "the-real-one", "KAFKA_GROUP_ID": "the-real-one", "VERIFY_URL": "http://127.0.0.1:9/verify"}
    ended = subprocess.run(
        [sys.executable, "-m", "ingest", "demo", "--events", "--objects", "8", "--json"],
        env=clean | real | {"TMPDIR": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = json.loads(ended.stdout)
    assert (said["status"], said["commands"][0]) == ("ok", "ingest consume --until-idle 1s")
    assert {"ingest deadletters list", "ingest sync --deliver", "ingest deliver"} <= set(said["commands"])
    assert "17 statements verified, each once" in ended.stderr
    assert list(tmp_path.iterdir()) == []

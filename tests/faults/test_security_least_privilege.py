"""`sync` and its like only ever send what the policy of docs/operations.md allows: list and get, below one prefix."""

from __future__ import annotations

import fnmatch
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import backfill, sync
from ingest.jobs.verify import verify
from ingest.model import RunStatus
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.tasks.stop import Stop
from tests.faults.recorder import Request, recording
from tests.fixtures.servers import Bucket

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "loans/"


def policy() -> dict[str, str]:
    """Action -> the prefix or key pattern that the documented policy allows it for."""
    shown = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    assert shown is not None
    allowed = {}
    for statement in json.loads(shown[1])["Statement"]:
        assert statement["Effect"] == "Allow"
        condition = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        allowed[statement["Action"]] = condition or statement["Resource"].partition(":::statements/")[2]
    return allowed


def action_of(request: Request) -> tuple[str, str]:
    """The action that S3 asks a policy for, and what for. A HEAD of an object is a GetObject (S3 API, "HeadObject")."""
    if request.method == "GET" and not request.key and request.query.get("list-type") == ["2"]:
        return "s3:ListBucket", request.query["prefix"][0]
    if request.method in ("GET", "HEAD") and request.key and set(request.query) <= {"partNumber"}:
        return "s3:GetObject", request.key
    return f"{request.method} {request.key or 'bucket'} {sorted(request.query)}", ""


async def test_a_night_with_a_key_for_one_prefix(weed: Bucket, tmp_path: Path) -> None:
    allowed = policy()
    assert allowed == {"s3:ListBucket": "loans/*", "s3:GetObject": "loans/*"}
    objects = {f"loans/2026/{n}": b"x" * n for n in range(20)} | {"loans/big": b"y" * (9 << 20), "other/k": b"z"}
    await weed.put(objects)
    quiet = {"progress": Silence(), "stop": Stop()}
    selected = SyncOptions(selection=Selection(prefixes=(PREFIX,)))
    async with recording(weed.endpoint.removeprefix("http://")) as proxy:
        settings = weed.settings(tmp_path / "data", endpoint=f"http://127.0.0.1:{proxy.port}")
        assert (await sync(settings, selected, **quiet)).counts.downloaded == 21  # type: ignore[arg-type]
        await weed.put({"loans/2026/1": b"changed", "loans/new": b"n"})
        await weed.delete("loans/2026/2")
        changed = await sync(settings, selected, **quiet)  # type: ignore[arg-type]
        assert (changed.counts.downloaded, changed.counts.gone) == (2, 1)
        assert (await backfill(settings, selected, **quiet)).status is RunStatus.OK  # type: ignore[arg-type]
        for path in list((tmp_path / "data" / weed.name / "loans" / "2026").iterdir())[:2]:
            path.unlink()
        await verify(settings, VerifyOptions(repair=True), **quiet)  # type: ignore[arg-type]
        pruned = await cleanup(settings, CleanupOptions(timedelta(0)), **quiet)  # type: ignore[arg-type]
        assert pruned.counts.pruned == 21, pruned.error
        assert (await restore(settings, RestoreOptions(prefix=PREFIX), **quiet)).counts.restored == 21  # type: ignore[arg-type]
        requests = proxy.requests

    clock = [request for request in requests if request.method == "HEAD" and not request.key]
    assert len(clock) == 1  # cleanup's question for the time: unsigned, so it asks for no permission
    assert sum(b"uthorization" not in stream for stream in proxy.sent) == 1
    for request in requests:
        if request in clock:
            continue
        action, target = action_of(request)
        assert action in allowed, request
        assert request.bucket == weed.name
        assert fnmatch.fnmatchcase(target, allowed[action]), request


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("PUT", "loans/a", {}),
        ("DELETE", "loans/a", {}),
        ("GET", "loans/a", {"acl": [""]}),
        ("GET", "", {"versions": [""]}),
    ],
)
def test_the_check_itself_refuses(method: str, key: str, query: dict[str, list[str]]) -> None:
    assert action_of(Request(method, "statements", key, query))[0] not in policy()

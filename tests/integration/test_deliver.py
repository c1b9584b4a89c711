"""From the bucket by the outbox to a real FastAPI service, on both databases."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ingest.catalog import queries, schema
from ingest.catalog.catalog import Catalog
from ingest.demo.verify_service import VerifyService
from ingest.jobs.ask import history, status
from ingest.jobs.deliver import deliver
from ingest.jobs.options import DeliverOptions, SyncOptions
from ingest.jobs.stop import Stop
from ingest.jobs.sync import sync
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from tests.fixtures.servers import Bucket

SECRET = "canary-token-5e1f"


async def prepared(
    bucket: Bucket, service: VerifyService, tmp_path: Path, database_url: str = "", **settings: Any
) -> Settings:
    if database_url:
        await schema.upgrade(database_url)
    return bucket.settings(tmp_path / "data", database_url=database_url, verify_url=service.url, **settings)


async def run_sync(settings: Settings) -> RunReport:
    return await sync(settings, SyncOptions(deliver_to=settings.verify_url), progress=Silence(), stop=Stop())


async def run_deliver(settings: Settings, **options: Any) -> RunReport:
    return await deliver(settings, DeliverOptions(**options), progress=Silence(), stop=Stop())


async def test_each_object_is_delivered_once_with_its_bytes_and_what_the_service_said_is_kept(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await prepared(weed, service, tmp_path, database_url)
    objects = {f"2026/{number:03}.pdf": f"statement {number}".encode() * number for number in range(40)}
    objects['odd/"q" é; x.csv'] = b"a,b\r\n"
    objects["large.bin"] = bytes(range(256)) * 4096 * 3  # 3 MiB: streamed
    await weed.put(objects)
    assert (await run_sync(settings)).status is RunStatus.OK
    assert service.requests == 0, "sync posts nothing itself"

    report = await run_deliver(settings)
    assert (report.exit_code, report.counts.delivered, report.counts.pending) == (0, 42, 0), report.error
    assert sorted(service.accepted) == sorted(objects)
    for taken in service.received:
        assert taken.sha256 == hashlib.sha256(objects[taken.key]).hexdigest()
        assert taken.fields["s3_path"] == f"s3://{weed.name}/{taken.key}"
        assert taken.fields["etag"] == hashlib.md5(objects[taken.key]).hexdigest()
        assert "transfer-encoding" not in taken.headers, "the length is stated"
    assert {taken.content_type for taken in service.received if taken.key.endswith(".pdf")} == {"application/pdf"}

    told = await history(settings, "2026/007.pdf")
    (one,) = told["deliveries"]
    assert (one["state"], one["response_status"], one["attempts"]) == ("delivered", 200, 1)
    assert json.loads(one["response"])["sha256"] == hashlib.sha256(objects["2026/007.pdf"]).hexdigest()
    assert [event["what"] for event in told["events"]] == ["downloaded", "delivered"]
    assert (await status(settings))["deliveries"] == {"delivered": 42}

    assert (await run_sync(settings)).counts.unchanged == 42
    again = await run_deliver(settings)
    assert (again.exit_code, again.counts.delivered, service.requests) == (0, 0, 42)
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        assert await queries.check_chain(catalog) == []

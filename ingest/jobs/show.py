"""The questions that change nothing: ls, status, runs, history."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from ingest.catalog import deadletters, outbox, overview
from ingest.catalog.catalog import Catalog, Source
from ingest.catalog.history import deliveries_of, story
from ingest.engine.installation import opened_read_only
from ingest.errors import RowNotFound
from ingest.jobs.answers import History, RunRecord, RunShown, SourceStatus
from ingest.model import LISTS_THE_BUCKET, RemoteObject
from ingest.observe.logs import log
from ingest.plan.why import lists, why_left
from ingest.settings import Settings
from ingest.source.paths import other_prefixes, spellings


async def ls(settings: Settings, prefix: str = "", limit: int | None = None) -> AsyncGenerator[RemoteObject, None]:
    """The bucket's objects with this prefix, in the server's order. Close it (`aclosing`) when leaving it early."""
    from ingest.engine.prefixes import read_prefix
    from ingest.source.client import S3Client

    count = 0
    async with S3Client.from_settings(settings) as client:

        async def matches(text: str) -> bool:
            async with aclosing(client.list_objects(text)) as found:
                return await anext(found, None) is not None

        meant = await read_prefix(prefix, client.bucket, matches)
        async with aclosing(client.list_objects(meant)) as found:
            async for remote in found:
                yield remote
                count += 1
                if count == limit:
                    return
    if not count:
        said = f"the prefix {meant!r} matches nothing in it" if meant else "it is empty"
        log().warning("nothing_matches", message=f"the bucket {client.bucket!r}: {said}")


async def status(settings: Settings) -> SourceStatus:
    """Totals by state, of objects and deliveries, and the last run of each command."""
    async with opened_read_only(settings) as (catalog, source):
        found = await overview.totals(catalog, source.id)
        last = await overview.last_runs(catalog, source.id)
        since, reason = await overview.order_shown(catalog, source.id)
        deliveries = await outbox.totals(catalog, source.id)
        letters = await overview.letters(catalog, source.id)
        unpublished = await deadletters.unpublished(catalog, source.id)
        lost = await deadletters.lost(catalog, source.id)
        gap = None
        found_by = next((run for run in last if run["command"] == "sync" and not run["arguments"].get("dry_run")), None)
        if settings.kafka_topic and found_by is not None:
            gap = await overview.unannounced(catalog, source.id, found_by["started_at"], found_by["finished_at"])
    answer = {
        "source": f"s3://{source.bucket}",
        "listing_order": source.order.value,
        "listing_order_since": since,
        "listing_order_reason": reason,
        **found,
        "deliveries": deliveries,
        "dead_letters": letters,
        "unpublished_letters": unpublished,
        "lost_messages": lost,
        "unannounced": gap,
        "last_runs": last,
    }
    return cast(SourceStatus, answer)


async def runs(settings: Settings, limit: int = 20) -> list[RunRecord]:
    """The last runs, the newest first."""
    async with opened_read_only(settings) as (catalog, source):
        return cast(list[RunRecord], await overview.recent_runs(catalog, source.id, limit))


async def run_shown(settings: Settings, run_id: int, limit: int, key: str | None = None) -> RunShown:
    """One run, and the objects that failed in it, at most `limit` of them; of `key`, what it made of that object.

    Raises:
        RowNotFound: the catalog has no such run of this source, or no such key.
    """
    async with opened_read_only(settings) as (catalog, source):
        run: Any = await overview.run_of(catalog, source.id, run_id)
        if run is None:
            raise RowNotFound(f"run {run_id} of {source.bucket} is not on record", hint="`ingest runs` shows the last.")
        found: RunShown = {"run": run, "failures": await overview.troubles(catalog, run, limit)}
        if key is not None:
            row = (await _story(catalog, source, key))[0]
            found["object"] = {"key": row["key"], "state": row["state"], "why": _why(row, run, source.bucket)}
        return found


def _why(row: dict[str, Any], run: dict[str, Any], bucket: str) -> str:
    """What a run made of an object, by its record; of the object as it is on record now."""
    told = run["arguments"]
    if run["command"] not in LISTS_THE_BUCKET:
        return f"no {run['command']} lists the bucket"
    prefixes = [spelled for text in told.get("prefix") or () for spelled in (text, *other_prefixes(text, bucket))]
    if not lists(told, row["key"], prefixes):
        return f"not listed: it begins with no prefix of {told['prefix']}"
    storage_class = row["storage_class"] or "STANDARD"
    remote = RemoteObject(row["key"], row["size"], row["etag"], row["last_modified"], storage_class)
    left = why_left(remote, told)
    return f"not wanted: {left}" if left else "wanted: nothing that the run was told keeps it out"


async def history(settings: Settings, key: str) -> History:
    """The object's row, its events and its deliveries.

    Raises:
        RowNotFound: the catalog does not know the key.
    """
    async with opened_read_only(settings) as (catalog, source):
        row, events = await _story(catalog, source, key)
        deliveries = await deliveries_of(catalog, source.id, row["key"])
        return {"object": row, "events": events, "deliveries": deliveries}


async def _story(catalog: Catalog, source: Source, key: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row and the events of the key that is meant. Raises `RowNotFound`."""
    for spelled in spellings(key, source.bucket):
        row, events = await story(catalog, source.id, spelled)
        if row is not None:
            return row, events
    raise RowNotFound(f"{key!r} is not in the catalog")

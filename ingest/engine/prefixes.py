"""What a prefix means that somebody typed: the same for every command that takes one.

A prefix is literal, and what it says wins wherever anything begins with it. Where nothing does it may be written as a
whole path, or as other tools have it: then it is read so, or refused with the spelling that is meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from ingest.catalog.catalog import Catalog
from ingest.engine.run import Run
from ingest.errors import KeysAstray, SettingsError
from ingest.model import Shard
from ingest.observe.logs import log
from ingest.plan.selection import Selection
from ingest.plan.shards import behind_key, key_range
from ingest.source.bucket import Bucket
from ingest.source.listing import parse_page
from ingest.source.paths import is_url, other_prefixes
from ingest.source.retries import retried

_ATTEMPTS = 5
_FIRST_LOOK, _MOST_LOOKED_AT = 1_000, 100_000
"""Rows whose keys are looked at for one that is wanted: at first, and in all. More would cost a quiet night time."""

Matches = Callable[[str], Awaitable[bool]]
"""Whether anything begins with a prefix."""


async def read_prefix(text: str, bucket: str, matches: Matches) -> str:
    """The prefix that `text` means.

    Raises:
        SettingsError: nothing begins with it, and it is not written as a prefix is.
    """
    url, wild = is_url(text), "*" in text or "?" in text
    others = other_prefixes(text, bucket)

    async def any_begins(prefix: str) -> bool:
        try:
            return await matches(prefix)
        except KeysAstray:  # SeaweedFS lists for /st/ what begins with st/: nothing begins with /st/
            return False

    if not (others or url or wild or text == "/") or await any_begins(text):
        return text
    for other in others:
        if await any_begins(other):
            log().info("prefix_read_as", prefix=text, read_as=other)
            return other
    if url and others:
        return others[-1]
    if url:
        raise SettingsError(f"the prefix {text!r} is not in the bucket that S3_BUCKET names, {bucket!r}")
    if wild or text.startswith("/"):
        hint = "A prefix is literal, and begins as the keys do. For all keys, leave it out, or say ''."
        meant = f"; say {others[-1]!r}" if others else ""
        raise SettingsError(f"nothing begins with the prefix {text!r}{meant}", hint=hint)
    return text


async def read_selection(run: Run, selection: Selection, bucket: Bucket) -> Selection:
    """The selection with the prefixes that are meant (see `read_prefix`)."""

    async def matches(prefix: str) -> bool:
        known = await is_on_record(run.catalog, run.source.id, prefix)
        return known or await _is_listed(bucket, run.source.bucket, prefix)

    meant = [await read_prefix(text, run.source.bucket, matches) for text in selection.prefixes]
    return replace(selection, prefixes=tuple(meant))


async def read_recorded(run: Run, text: str) -> str:
    """The prefix of rows that `text` means; where there are none, says so."""

    async def matches(prefix: str) -> bool:
        return await is_on_record(run.catalog, run.source.id, prefix)

    prefix = await read_prefix(text, run.source.bucket, matches)
    if prefix and not await matches(prefix):
        log().warning("nothing_matches", message=f"the prefix {prefix!r} matches nothing that is on record")
    return prefix


async def is_on_record(catalog: Catalog, source_id: int, prefix: str) -> bool:
    """Whether the catalog has a row whose key begins with `prefix`."""
    return bool(await catalog.rows_between(source_id, *key_range(Shard(prefix)), limit=1))


async def _is_listed(bucket: Bucket, name: str, prefix: str) -> bool:
    """Whether the bucket (of this `name`) has an object whose key begins with `prefix`: one small request."""
    shard = Shard(prefix)
    raw = await retried(lambda: bucket.list_page(prefix, max_keys=1), attempts=_ATTEMPTS)
    page = parse_page(raw, bucket=name, shard=shard, start_after="").page
    return bool(page.objects or page.undecodable)


def warn_of_nothing(prefix: str, bucket: str) -> None:
    """Nothing is listed, and nothing on record, that begins with `prefix`: as a rule it is mistyped."""
    said = f"the prefix {prefix!r} matches nothing" if prefix else f"the bucket {bucket!r} is empty"
    log().warning("nothing_matches", message=f"{said}: no object is listed, and none is on record")


async def warn_of_selection(run: Run, selection: Selection, now: datetime) -> None:
    """Says when a selection cannot want anything, or wants nothing of all that was listed, tonight or before."""
    if selection.since is not None and selection.since > now:
        said = f"the window begins {selection.since:%Y-%m-%d %H:%M} UTC, which is to come: nothing new can be in it"
    elif run.counts.listed and not selection.takes_everything and await _wants_nothing(run, selection):
        asked = {"--include": selection.include, "--exclude": selection.exclude, "--filter": selection.filter}
        told = [name for name, globs in asked.items() if globs]
        told += ["the window"] if selection.since or selection.until else []
        said = f"none of {run.counts.listed} objects listed is wanted: look at {', '.join(told)}"
    else:
        return
    log().warning("nothing_wanted", message=said)


async def _wants_nothing(run: Run, selection: Selection) -> bool:
    """Of what needed no download nobody has asked whether it is wanted: its keys are looked at here, up to the first
    that is. A window says nothing about them: copies of last month are no mistake."""
    counts = run.counts
    if counts.skipped == counts.listed:
        return True
    if not selection.chooses_keys or counts.skipped + counts.unchanged < counts.listed:
        return False
    looked_at, at_once = 0, _FIRST_LOOK
    for root in selection.roots:
        first, behind = key_range(Shard(root))
        while rows := await run.catalog.rows_between(run.source.id, first, behind, limit=at_once):
            if any(not (row.gone or selection.excluded(row.key)) for row in rows):
                return False
            first, looked_at, at_once = behind_key(rows[-1].key), looked_at + len(rows), _MOST_LOOKED_AT // 10
            if looked_at > _MOST_LOOKED_AT:
                return False  # who asks for so little of so much may well mean it
    return True

"""What somebody says of sources, directories and catalogs: which belong together, which was renamed, which is to go.

These commands are there for when nothing else goes on, so they open what is there without comparing it first; what a
run is at work on is neither forgotten nor placed elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from ingest.catalog import registry, sources
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.sources import Known, Source
from ingest.catalog.sql.driver import Dialect, Steps
from ingest.engine.installation import Installation, announce, catalog_place, make_own_dir
from ingest.errors import SettingsError, SourceUnknown
from ingest.plan.identity import DirectoryMark, canonical_endpoint
from ingest.settings import Settings, sendable
from ingest.store import identity
from ingest.store.last_run import note_other_catalog
from ingest.system.failpoints import failpoint
from ingest.system.redaction import protecting

_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


async def listed(settings: Settings) -> list[dict[str, Any]]:
    """Every source of the catalog: its address, where its copies lie, and how many there are."""
    async with _catalog(settings, read_only=True) as catalog:
        held = await registry.holdings(catalog.driver)
        return [_shown(source, held[source.id], settings) for source in await sources.all_sources(catalog.driver)]


async def rename(settings: Settings, old: str, new: str, *, dry_run: bool) -> list[str]:
    """Gives every bucket of the endpoint `old` (or the source of this number) the endpoint `new`. Returns what it does.

    Raises:
        SourceUnknown: none is called so. SettingsError: `new` is no address, or has a bucket of that name on record.
    """
    try:
        endpoint = sendable.host_and_port(new)
    except ValueError as error:
        raise SettingsError(f"{new!r} is {error}; write host or host:port") from None
    async with _catalog(settings, read_only=dry_run) as catalog:
        known = await sources.all_sources(catalog.driver)
        chosen = _called(known, old, settings)
        held = await registry.holdings(catalog.driver)
        for source in chosen:
            there = sources.find(known, endpoint, source.bucket, secure=settings.secure)
            if there is not None and there.id != source.id and held[there.id].objects:
                raise SettingsError(
                    f"s3://{source.bucket} at {there.endpoint} is another source, of {held[there.id].objects} objects",
                    hint=f"If it is the same bucket, forget that one first: `ingest source forget {there.id} --force`.",
                )
        failpoint("sources.read")
        steps = [f"s3://{source.bucket} at {source.endpoint} is at {endpoint} from now on" for source in chosen]
        if not dry_run:
            await catalog.driver.write(partial(registry.rename, chosen, endpoint))
        return steps


async def forget(settings: Settings, called: str, *, force: bool, dry_run: bool) -> list[str]:
    """Removes a source from the catalog; files are left alone. Returns what it does.

    Raises:
        SourceUnknown: none is called so, or more than one is. SettingsError: it has objects, and `force` is not said.
        LockedError: a run of it is under way.
    """
    async with _catalog(settings, read_only=dry_run) as catalog:
        chosen = _called(await sources.all_sources(catalog.driver), called, settings)
        if len(chosen) > 1:
            numbers = ", ".join(str(source.id) for source in chosen)
            raise SourceUnknown(f"{called!r} is the name of several: say one number of {numbers}")
        source = chosen[0]
        found = (await registry.holdings(catalog.driver))[source.id]
        if found.objects and not force:
            raise SettingsError(
                f"s3://{source.bucket} at {source.endpoint} has {found.objects} objects on record, {found.present} "
                "with a copy",
                hint="Say --force to forget what is known of them; the copies stay, and belong to nobody then.",
            )
        failpoint("sources.read")
        steps = [f"s3://{source.bucket} at {source.endpoint} is forgotten, with {found.objects} objects"]
        if found.present:
            steps.append(f"{found.present} copies stay in {settings.data_dir / source.directory}, known to nobody")
        if not dry_run:
            await catalog.driver.write(partial(registry.forget, source))
        return steps


async def attach(settings: Settings, directory: str | None, *, dry_run: bool) -> list[str]:
    """Has the data directory, the catalog and the source that the settings name belong together. Returns what it does.

    `directory` is where the source's copies lie, below the data directory; None leaves that as it is.

    Raises:
        DirectoryTaken: another source has this directory. SettingsError: `directory` is no name, or not what is there.
        LockedError: a run is under way, and `directory` another one than before.
    """
    if directory is not None and _DIRECTORY.fullmatch(directory) is None:
        raise SettingsError(f"--directory {directory!r}: letters, digits, `.`, `-` and `_`, and no dot at the start")
    endpoint, bucket = settings.required("endpoint"), settings.required("bucket")
    with protecting(settings.secrets):
        found = Installation(settings)
        at = None if found.catalog_is_absent else await schema.current(found.url)
        is_absent = found.catalog_is_absent or (settings.sqlite_path is None and not at)
        steps = [f"a new catalog is made at {found.shown}"] if is_absent else []
        if at is not None and await _is_refused_to_upgrade(found, at):
            steps = [f"the catalog at {found.shown} is brought from {at} to {schema.revisions()[-1]}"]
        if dry_run and steps:
            return [*steps, *_of_directory(found, [])]
        if found.is_embedded:
            make_own_dir(settings)
        if steps:
            await schema.upgrade(found.url)
        async with Catalog.open(found.url, found.note) as catalog:
            known = await sources.all_sources(catalog.driver)
            source = sources.find(known, endpoint, bucket, secure=settings.secure)
            if not is_absent and found.inside is not None and found.inside.catalog != found.catalog_id:
                steps.append(f"the copies in {settings.data_dir} belong to the catalog at {found.shown} from now on")
            chosen = _moved_along(found, known, source)
            steps += _of_directory(found, chosen)
            steps += await _of_place(catalog, found, source, directory)
            failpoint("sources.read")
            if steps and not dry_run:
                await _write(catalog, found, _Change(known, chosen, source, directory))
    return steps or ["everything belongs together already; there is nothing to attach"]


async def _is_refused_to_upgrade(found: Installation, at: str) -> bool:
    """A catalog that is older than its id, or was taken back to that, is none that the data directory knows: `ingest db
    upgrade` leaves it alone until somebody says that it is meant."""
    if found.inside is None or at not in schema.revisions()[:-1]:
        return False
    await schema.admitted(found.url, found.note)
    return found.catalog_id is None


def _of_directory(found: Installation, chosen: list[Source]) -> list[str]:
    data_dir = found.settings.data_dir
    steps = []
    if found.inside is None:
        steps.append(f"{data_dir} is a new data directory")
    for one in chosen:
        was = f" (they lay in {one.known.place.path})" if one.known else ""
        if one.directory_id is None or found.inside is None or one.directory_id != found.inside.directory:
            steps.append(f"the copies of s3://{one.bucket} at {one.endpoint} lie in {data_dir} from now on{was}")
        elif one.known is not None and one.known.place != found.place():
            steps.append(f"{data_dir} is where {one.known.place.path} was")
    return steps


async def _of_place(catalog: Catalog, found: Installation, source: Source | None, directory: str | None) -> list[str]:
    if directory is None or (source is not None and source.directory == directory):
        return []
    data_dir = found.settings.data_dir
    if source is None:
        return [f"a new source: its copies lie in {data_dir / directory}"]
    present = (await registry.holdings(catalog.driver))[source.id].present
    if present and source.directory and not identity.holds_anything(data_dir, directory):
        raise SettingsError(
            f"{present} copies lie in {data_dir / source.directory}, and {data_dir / directory} is empty",
            hint=f"Rename the directory first: mv {data_dir / source.directory} {data_dir / directory}",
        )
    steps = [f"the copies of s3://{source.bucket} at {source.endpoint} lie in {data_dir / directory} from now on"]
    if present and not source.directory:
        steps.append(f"{present} copies are on record, and another source had their places: `ingest verify --repair`")
    return steps


def _moved_along(found: Installation, known: list[Source], source: Source | None) -> list[Source]:
    """The source that is named, and those that lay with it and are found here as well."""
    if source is None:
        return []
    data_dir, was = found.settings.data_dir, source.directory_id
    return [
        one
        for one in known
        if one.id == source.id or (was and one.directory_id == was and identity.holds_anything(data_dir, one.directory))
    ]


class _Change(NamedTuple):
    """`known` are the sources, `chosen` those whose copies lie here, `source` the one that is named."""

    known: list[Source]
    chosen: list[Source]
    source: Source | None
    directory: str | None


async def _write(catalog: Catalog, found: Installation, change: _Change) -> None:
    """The catalog first: killed in between, what is on disk does not belong to it yet, and is attached once more."""
    known, chosen, source, directory = change
    settings = found.settings
    directory_id = found.inside.directory if found.inside is not None else identity.new_id()
    make_own_dir(settings)
    seen = Known(found.place(), await catalog_place(catalog, found, None))
    proposed = found.catalog_id or identity.new_id()
    endpoint, bucket = settings.required("endpoint"), settings.required("bucket")

    def write(dialect: Dialect) -> Steps[str]:
        own = yield from registry.attach(proposed, directory_id, seen, chosen, dialect)
        if directory is not None and source is None:
            yield from sources.add(endpoint, bucket, directory, directory_id, dialect, secure=settings.secure)
        elif directory is not None and source is not None and source.directory != directory:
            others = [one for one in known if one.id != source.id]
            yield from sources.make_way(others, endpoint, bucket, directory)
            yield from registry.place(source, directory, dialect)
        return own

    is_new = found.catalog_id is None
    found.catalog_id = await catalog.driver.write(write)
    mark = DirectoryMark(directory_id, found.catalog_id, found.shown)
    await asyncio.to_thread(identity.write_inside, settings.data_dir, mark)
    await asyncio.to_thread(identity.write_outside, settings.data_dir, mark)
    if found.inside is not None and found.inside.catalog != found.catalog_id:
        note_other_catalog(settings.data_dir)
    if is_new and not known:
        announce(found)


@asynccontextmanager
async def _catalog(settings: Settings, *, read_only: bool = False) -> AsyncIterator[Catalog]:
    """The catalog as it is; nothing is made.

    Raises:
        CatalogMissing: there is none.
    """
    with protecting(settings.secrets):
        found = Installation(settings)
        found.require_catalog()
        async with Catalog.open(found.url, found.note, read_only=read_only) as catalog:
            yield catalog


def _called(known: list[Source], called: str, settings: Settings) -> list[Source]:
    """Those of this number, or at this endpoint.

    Raises:
        SourceUnknown: there is none.
    """
    if called.isascii() and called.isdigit():
        chosen = [source for source in known if source.id == int(called)]
    else:
        wanted = canonical_endpoint(called, secure=settings.secure)
        chosen = [one for one in known if canonical_endpoint(one.endpoint, secure=settings.secure) == wanted]
    if not chosen:
        raise SourceUnknown(f"no source is called {called!r}")
    return chosen


def _shown(source: Source, held: registry.Holdings, settings: Settings) -> dict[str, Any]:
    ours = sources.find([source], settings.endpoint, settings.bucket, secure=settings.secure) is not None
    return {
        "id": source.id,
        "endpoint": source.endpoint,
        "bucket": source.bucket,
        "directory": source.directory or None,
        "data_dir": source.known.place.path if source.known else None,
        "data_dir_id": source.directory_id,
        "objects": held.objects,
        "present": held.present,
        "last_complete_sync": held.last_complete_sync,
        "named_by_settings": ours,
    }

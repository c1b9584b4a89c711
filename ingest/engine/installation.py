"""Opens what belongs together, data directory, catalog and source; refuses what does not, before anything is written.

What is compared, and what follows, is decided in `plan.identity`. A command that works gives new directories and
catalogs their ids; one that only asks writes nothing at all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from ingest.catalog import sources
from ingest.catalog.catalog import Catalog, Source
from ingest.catalog.schema import schema
from ingest.catalog.sources import Known
from ingest.catalog.sql.url import Target
from ingest.errors import (
    CatalogForeign,
    CatalogMissing,
    DirectoryForeign,
    DirectoryMissing,
    DirectoryTaken,
    DiskError,
    UnsafePath,
)
from ingest.observe.logs import log
from ingest.plan.identity import DirectoryMark, DirectoryPlace, Fit, Recorded, Seen, belongs, catalog_fits, seen_at
from ingest.settings import Settings
from ingest.store import identity
from ingest.store.directories import disk_error
from ingest.system.failpoints import failpoint
from ingest.system.private_dirs import make_directories, owner_kept_out
from ingest.system.redaction import protecting

_GOOD = frozenset({Fit.FITS, Fit.NEW})
_NOT_MADE = "`ingest sync` makes it; nothing is recorded yet."
_SHOWN_DIGITS = 8
"""Of an id: enough to tell a few apart."""
_EFFECTIVE = os.access in os.supports_effective_ids
"""Asked as what the process is, with its capabilities, where the system can be asked so."""


@dataclass
class Installation:
    """What the settings name, as it is found."""

    settings: Settings
    inside: DirectoryMark | None = field(init=False)
    outside: DirectoryMark | None = field(init=False)
    catalog_id: str | None = None

    def __post_init__(self) -> None:
        try:
            for own in (self.settings.own_dir, self.settings.own_dir / "locks"):
                if own.is_symlink():
                    raise UnsafePath(f"{own} is a symlink, and is not followed")
        except OSError as error:
            raise disk_error(error, str(self.settings.data_dir)) from error
        self._read_marks()

    def _read_marks(self) -> None:
        # In this order: whoever writes both at this moment writes the outer one last.
        self.outside = identity.read_outside(self.settings.data_dir)
        self.inside = identity.read_inside(self.settings.data_dir)

    @property
    def url(self) -> str:
        return self.settings.database_url.get_secret_value()

    @property
    def shown(self) -> str:
        """The catalog's address, without a password."""
        return Target.of(self.url).shown

    @property
    def is_embedded(self) -> bool:
        """Whether the catalog lies in the data directory, and vanishes with it."""
        file = self.settings.sqlite_path
        return file is not None and self.settings.own_dir in file.parents

    @property
    def catalog_is_absent(self) -> bool:
        file = self.settings.sqlite_path
        return file is not None and schema.is_absent(str(file))

    def require_catalog(self) -> None:
        """Raises `CatalogMissing`: its file is not there. Where none was ever made, there is no backup to put back."""
        if self.catalog_is_absent:
            lost = self.inside is not None or self.outside is not None
            raise CatalogMissing(f"there is no {self.shown}", hint=None if lost else _NOT_MADE)

    def admit(self, catalog_id: str | None) -> None:
        """Notes the catalog's id. Raises `DirectoryMissing`, `CatalogMissing`, `CatalogForeign`."""
        self.catalog_id = catalog_id
        self._require(lambda: catalog_fits(self.inside, self.outside, catalog_id), None)

    def note(self, catalog_id: str | None) -> None:
        """Notes the catalog's id, and compares nothing: for commands that are to say what belongs together."""
        self.catalog_id = catalog_id

    def require(self, source: Source | None, recorded: Recorded) -> None:
        """
        Raises:
            DirectoryMissing, DirectoryForeign, DirectoryTaken: this data directory is not that of the source's copies.
        """
        self._require(lambda: belongs(self.inside, self.outside, self.catalog_id, recorded), source)
        if source is not None and not source.directory:
            raise DirectoryTaken(
                f"s3://{source.bucket} at {source.endpoint} has no directory: another bucket of that name has it"
            )

    def _require(self, judge: Callable[[], Fit], source: Source | None) -> None:
        if judge() not in _GOOD:
            self._read_marks()  # another first run may have just written them
            if (verdict := judge()) not in _GOOD:
                self._refuse(verdict, source)

    def _refuse(self, verdict: Fit, source: Source | None) -> NoReturn:
        data_dir, inside, known = self.settings.data_dir, self.inside, source.known if source else None
        ours = "copies and catalog" if self.is_embedded else "copies"
        whose = f"the copies of s3://{source.bucket}" if source else ours
        if verdict is Fit.DIRECTORY_MISSING and known is not None and known.place.path != str(data_dir):
            raise DirectoryForeign(
                f"{data_dir} is not the data directory of s3://{source.bucket if source else ''}: its copies lie in "
                f"{known.place.path} on {known.place.host}"
            )
        if verdict is Fit.DIRECTORY_MISSING:
            raise DirectoryMissing(
                f"the data directory {data_dir} is missing: {identity.describe(data_dir)}; {whose} lie in it"
            )
        if verdict is Fit.OTHER_DIRECTORY or inside is None:
            recorded = source.directory_id if source else None
            expected = _short(recorded or (self.outside.directory if self.outside else None))
            last = f", last seen at {known.place.path}" if known else ""
            found = _short(inside.directory if inside else None)
            raise DirectoryForeign(f"{data_dir} is data directory {found}, and {whose} lie in {expected}{last}")
        if verdict is Fit.CATALOG_MISSING and inside.catalog_at == self.shown:
            how = (
                f"there is no {self.shown}"
                if self.catalog_is_absent
                else f"{self.shown} is empty, or older than its id"
            )
            raise CatalogMissing(f"the catalog of {data_dir} is missing: {how}")
        state = "which is not there" if self.catalog_is_absent else "which is another one"
        raise CatalogForeign(
            f"the copies in {data_dir} belong to the catalog at {inside.catalog_at} ({_short(inside.catalog)}), and "
            f"DATABASE_URL leads to {self.shown}, {state}"
        )

    def place(self) -> DirectoryPlace:
        """Where the data directory is now."""
        data_dir = self.settings.data_dir
        return DirectoryPlace(str(data_dir), socket.gethostname(), identity.inode_of(data_dir))


def _short(found: str | None) -> str:
    return found[:_SHOWN_DIGITS] if found else "none"


async def admit(settings: Settings, *, must_exist: bool = False) -> None:
    """Looks at the catalog alone, for commands about nothing else; nothing is made.

    Raises:
        DirectoryMissing, CatalogMissing, CatalogForeign: it is not that of the data directory. CatalogMissing also
            where there is none, and one `must_exist`.
    """
    found = Installation(settings)
    await schema.admitted(found.url, found.admit)
    if must_exist:
        found.require_catalog()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Catalog, Source]]:
    """The catalog and the source that the settings name, for a command that works; both are made where they are new.

    Raises:
        DirectoryMissing, DirectoryForeign, CatalogMissing, CatalogForeign: what is there does not belong together.
        DirectoryTaken: a new source needs a directory of its own. DiskError, DatabaseError: either failed.
    """
    found = Installation(settings)
    endpoint, bucket = settings.required("endpoint"), settings.required("bucket")
    if found.catalog_is_absent:
        found.admit(None)
    _require_owner_served(settings)
    if found.is_embedded:
        make_own_dir(settings)
    async with Catalog.open(found.url, found.admit) as catalog:
        known, source = await _look(catalog, found, endpoint, bucket)
        directory_id = await _bind(catalog, found, known, source)
        if source is None or source.directory_id is None:
            own = settings.source.directory
            adding = partial(sources.add, endpoint, bucket, own, directory_id, secure=settings.secure)
            source = await catalog.driver.write(adding)
            found.require(source, Recorded(source.directory_id, embedded=found.is_embedded))  # another was faster
        yield catalog, source


@asynccontextmanager
async def opened_read_only(settings: Settings) -> AsyncIterator[tuple[Catalog, Source]]:
    """The same for a command that only asks: nothing is written, and what is not there is answered with nothing.

    Raises:
        As `opened`.
    """
    with protecting(settings.secrets):
        async with _opened_read_only(settings) as opened_catalog:
            yield opened_catalog


@asynccontextmanager
async def _opened_read_only(settings: Settings) -> AsyncIterator[tuple[Catalog, Source]]:
    found = Installation(settings)
    endpoint, bucket = settings.required("endpoint"), settings.required("bucket")
    if found.catalog_is_absent:
        found.admit(None)
        with tempfile.TemporaryDirectory(prefix="ingest-") as nowhere:
            async with Catalog.open(f"sqlite+aiosqlite:///{nowhere}/catalog.db") as empty:
                yield empty, sources.unknown(endpoint, bucket)
        return
    async with Catalog.open(found.url, found.admit, read_only=True) as catalog:
        known, source = await _look(catalog, found, endpoint, bucket)
        if source is None and known:
            others = ", ".join(f"s3://{other.bucket} at {other.endpoint}" for other in known)
            log().warning(
                "unknown_source", message=f"s3://{bucket} at {endpoint} is not on record; these are: {others}"
            )
        yield catalog, source or sources.unknown(endpoint, bucket)


async def _look(
    catalog: Catalog, found: Installation, endpoint: str, bucket: str
) -> tuple[list[Source], Source | None]:
    """The sources on record, and the one that is named, after all that can be compared was compared."""
    known = await sources.all_sources(catalog.driver)
    source = sources.find(known, endpoint, bucket, secure=found.settings.secure)
    recorded = Recorded(embedded=found.is_embedded)
    if source is not None:
        astray = False
        if found.inside is None and source.directory_id is None:
            own = source.directory or found.settings.source.directory
            there = identity.holds_anything(found.settings.data_dir, own)
            astray = not there and await sources.has_copies(catalog.driver, source.id)
        recorded = Recorded(source.directory_id, astray, found.is_embedded)
    found.require(source, recorded)
    if source is not None and source.known is not None and not found.is_embedded:
        _refuse_twin(found, source, source.known, await catalog_place(catalog, found, source.known))
    return known, source


async def catalog_place(catalog: Catalog, found: Installation, known: Known | None) -> str:
    """Where the catalog itself is: a copy of it is elsewhere. Asked only where the data directory has moved."""
    if known is not None and known.place == found.place():
        return known.catalog_place
    file = found.settings.sqlite_path
    if file is not None:
        return str(os.stat(file).st_ino)
    rows = await catalog.driver.fetch("SELECT oid FROM pg_database WHERE datname = current_database()")
    return str(rows[0][0]) if rows else ""


def _refuse_twin(found: Installation, source: Source, known: Known, catalog_place: str) -> None:
    directory = source.directory_id or ""
    now = found.place()
    if known.place == now:
        return
    there = identity.is_there(known.place.path, directory)
    copied = catalog_place != known.catalog_place
    if seen_at(known.place, now, still_there=there, copied_with_catalog=copied) is Seen.TWIN:
        raise DirectoryForeign(
            f"{now.path} is a copy of the data directory {known.place.path} on {known.place.host}, where the copies of "
            f"s3://{source.bucket} lie"
        )


async def _bind(catalog: Catalog, found: Installation, known: list[Source], source: Source | None) -> str:
    """Gives ids to what has none, and notes on each side what the other is. Returns the data directory's id."""
    data_dir, inside = found.settings.data_dir, found.inside
    if found.catalog_id is None:
        found.catalog_id = await catalog.driver.write(partial(sources.name_catalog, identity.new_id()))
        failpoint("identity.catalog-named")
        if not known:
            announce(found)
    if inside is None:
        inside = found.inside = await asyncio.to_thread(_mark, data_dir, found.catalog_id, found.shown)
        others = await sources.other_directories(catalog.driver, inside.directory)
        if others:
            said = f"{data_dir} is a new data directory of this catalog, which has others: {', '.join(others)}"
            log().warning("new_directory", message=said)
    elif inside.catalog_at != found.shown:
        inside = found.inside = inside._replace(catalog_at=found.shown)
        await asyncio.to_thread(identity.write_inside, data_dir, inside)
    noted = source.known if source else await sources.directory(catalog.driver, inside.directory)
    if noted is None or noted.place != found.place():
        seen = Known(found.place(), await catalog_place(catalog, found, None))
        await catalog.driver.write(partial(sources.bind, inside.directory, seen, source.id if source else None))
        failpoint("identity.bound")
    if found.outside != inside:
        written = await asyncio.to_thread(identity.write_outside, data_dir, inside)
        if written is None and found.is_embedded:
            said = (
                f"no mark could be written outside {data_dir}: while its disk is not mounted, it looks like a new one"
            )
            log().warning("no_outer_mark", message=said)
        elif written is not None:
            log().debug("outer_mark", path=str(written), message=f"it tells when {data_dir} is not mounted")
    return inside.directory


def _mark(data_dir: Path, catalog_id: str, shown: str) -> DirectoryMark:
    """The directory's mark: a new one, unless another process has just given it one."""
    with identity.alone(data_dir):
        mark = identity.read_inside(data_dir)
        if mark is None:
            mark = DirectoryMark(identity.new_id(), catalog_id, shown)
            identity.write_inside(data_dir, mark)
        return mark


def announce(found: Installation) -> None:
    """Says that a catalog is a new one: nobody is to take it for another by mistake."""
    settings = found.settings
    there = identity.holds_anything(settings.data_dir, settings.source.directory)
    adopted = "; files that lie there already are adopted where their digest is right" if there else ""
    said = f"a new catalog was made at {found.shown}, for the copies in {settings.data_dir}{adopted}"
    log().warning("new_catalog", message=said)


def _require_owner_served(settings: Settings) -> None:
    """Before anything is made in a data directory that is another user's.

    Raises:
        DiskError: we are root, and may not give that user what we make.
    """
    if owner := owner_kept_out(settings.data_dir):
        raise DiskError(
            f"{settings.data_dir} belongs to {owner}, and this process may give {owner} none of the files that it "
            "would make there",
            hint=f"Run it as {owner}: what root leaves there, the runs of {owner} could not open.",
        )


def make_own_dir(settings: Settings) -> None:
    """An embedded catalog lives in the data directory: if that cannot be written, the disk is at fault.

    Raises:
        DiskError: it cannot be entered, made, or written.
    """
    _require_owner_served(settings)
    try:
        make_directories(settings.own_dir)
        if not os.access(settings.own_dir, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
            raise PermissionError(errno.EACCES, "not writable")
    except OSError as error:
        raise disk_error(error, str(settings.data_dir)) from error

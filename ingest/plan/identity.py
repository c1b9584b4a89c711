"""What belongs together: a data directory, the catalog of its copies, and the sources they came from.

A data directory has a mark in it, and one outside that outlives a missing mount. Both name the directory and its
catalog by their ids; the catalog names the directory of each source. `belongs` compares what is found before anything
is written, in this order:

| outside | in it | catalog | recorded for the source | verdict |
|---|---|---|---|---|
| any | A of C | none, or without an id | any | the catalog is missing |
| any | A of C | D | any | another catalog |
| A | none | any | any | the directory is missing |
| none | none | any | A | the directory is missing |
| none | none | any | none, but copies, and none is there | the directory is missing |
| any | A of C | C | B | another directory |
| B | A of C | C | none; or A, in A itself | another directory stands in its place |
| none | none | any | none | new, or taken over from an earlier version |
| B | A of C | C | A, elsewhere | fits: two against one |
| A or none | A of C | C | A or none | fits |

Which of two directories is meant nobody can know: `ingest source attach` says it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

_PORT = re.compile("[0-9]{1,5}")


class DirectoryMark(NamedTuple):
    """What is written in a data directory, and outside it."""

    directory: str
    """The id of the data directory."""
    catalog: str
    """The id of the catalog that its copies are recorded in."""
    catalog_at: str
    """Where that was, without a password: for people."""


class Fit(StrEnum):
    FITS = "fits"
    NEW = "new"
    """No id is known on either side yet."""
    CATALOG_MISSING = "catalog missing"
    OTHER_CATALOG = "other catalog"
    DIRECTORY_MISSING = "directory missing"
    OTHER_DIRECTORY = "other directory"


class Recorded(NamedTuple):
    """What the catalog says of the source that the settings name."""

    directory_id: str | None = None
    """The data directory of its copies; None before one is known."""
    copies_astray: bool = False
    """Copies are recorded, from before data directories had ids, and where they should lie there is nothing at all."""
    embedded: bool = False
    """The catalog lies in the data directory: what it says of that is no second witness."""


_NOTHING_RECORDED = Recorded()


def catalog_fits(inside: DirectoryMark | None, outside: DirectoryMark | None, catalog: str | None) -> Fit:
    """The part of `belongs` that needs the catalog's id alone; `catalog` of None: there is none, or it has no id."""
    if inside is not None and inside.catalog != catalog:
        return Fit.CATALOG_MISSING if catalog is None else Fit.OTHER_CATALOG
    if inside is None and outside is not None:
        return Fit.DIRECTORY_MISSING
    return Fit.FITS if inside is not None else Fit.NEW


def belongs(
    inside: DirectoryMark | None,
    outside: DirectoryMark | None,
    catalog: str | None,
    recorded: Recorded = _NOTHING_RECORDED,
) -> Fit:
    """The table above. `recorded` is empty for a source that the catalog does not know."""
    verdict = catalog_fits(inside, outside, catalog)
    if verdict not in (Fit.FITS, Fit.NEW):
        return verdict
    if inside is None:
        return Fit.DIRECTORY_MISSING if recorded.directory_id or recorded.copies_astray else Fit.NEW
    if recorded.directory_id is not None and (recorded.directory_id != inside.directory or not recorded.embedded):
        return Fit.FITS if recorded.directory_id == inside.directory else Fit.OTHER_DIRECTORY
    replaced = outside is not None and outside.directory != inside.directory
    return Fit.OTHER_DIRECTORY if replaced else Fit.FITS


class DirectoryPlace(NamedTuple):
    """Where a data directory was seen: by its path, the host, and the number of its mark's file there."""

    path: str
    host: str
    inode: str


class Seen(StrEnum):
    SAME = "same"
    MOVED = "moved"
    """It is elsewhere now, and nothing is where it was."""
    TWIN = "twin"
    """It is a copy of one that still stands where it was, or of which that cannot be told from here."""


def seen_at(recorded: DirectoryPlace, now: DirectoryPlace, *, still_there: bool, copied_with_catalog: bool) -> Seen:
    """Whether the directory of a recorded id is the recorded one: a copy of it has the same id.

    `still_there`: a directory of this id is at the recorded path now. `copied_with_catalog`: the catalog is a copy,
    too: then each has its own, and nothing is shared.
    """
    if recorded.inode == now.inode or recorded.path == now.path:
        return Seen.SAME
    if copied_with_catalog or (recorded.host == now.host and not still_there):
        return Seen.MOVED
    return Seen.TWIN


def same_directory(one: str, other: str) -> bool:
    """Whether two directories' names may be one on some disk: many file systems do not tell upper from lower case."""
    return one.casefold() == other.casefold()


def canonical_endpoint(endpoint: str, *, secure: bool) -> str:
    """One spelling for all of one address: lower case, no dot at the end, no port that goes without saying.

    `endpoint` is ``host``, ``host:port`` or ``[::1]:port``; a scheme in front, as older catalogs may have, is dropped.
    """
    address = endpoint.rpartition("://")[2].lower()
    head, colon, port = address.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None:  # no port, or the end of a bare IPv6 address
        head, port = address, ""
    default = "443" if secure else "80"
    host = _canonical_ipv6(head) if head.startswith("[") else head.removesuffix(".") or head
    return host if not port or int(port) == int(default) else f"{host}:{int(port)}"


def _canonical_ipv6(host: str) -> str:
    from ipaddress import ip_address  # a rare spelling of an address pays for itself

    try:
        return f"[{ip_address(host[1:-1])}]"
    except ValueError:
        return host

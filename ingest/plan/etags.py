"""What an etag names, and what it proves.

An etag names a version at best (RFC 9110, section 8.8.3), and proves bytes only where it is an MD5 and they match. One
that does not look like an MD5, is the same for everything, or is known to be no MD5 on this server may stay as it is
when the object changes: the moment of its last change counts as well then, and stands behind it (`named`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from ingest.plan.storable import LONGEST_ETAG

_MD5_LIKE = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?")
_QUOTES = re.compile(r'^(?:"|&quot;|&#34;)+|(?:"|&quot;|&#34;)+$')
_CODING = re.compile(r"(?:--?|;)(?:gzip|br|zstd|deflate)$")
"""What Apache, Jetty, Caddy and others add where they compress on the way."""
_TIMED = re.compile(r"(?s)(.*)@([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})Z")
_IN_A_HEADER = re.compile(r"[!#-~]{1,1024}")
"""The characters of an entity tag (RFC 9110), without those beyond ASCII."""
_MADE_UP = re.compile(r"[0-9a-f]{12}[147][0-9a-f]{3}[89ab][0-9a-f]{15}")
GRAIN = timedelta(seconds=2)
"""After which no further change can have the same moment: HTTP's dates have whole ones, on both sides."""
_MOST_AHEAD = 10.0
"""Seconds that a change may lie in the future; after that the clocks say nothing of one another."""
MOST_LOOKS = 4
"""Answers to wait for, where an object goes on changing within the grain of its clock."""
_MD5_DIGITS = 32
_ZEROS = "0" * 16
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"


class Shape(StrEnum):
    """The forms of etag that may be MD5s. What is learnt of one says nothing of the others."""

    WHOLE = "md5"
    ONE_PART = "md5-1"
    """MinIO also writes it behind what is no MD5 at all."""
    PARTS = "md5-n"


@dataclass(slots=True)
class Etags:
    """What is known of a server's etags: the shapes that were seen to be MD5s, and those that were seen to be none.

    One match is a proof, which no mismatch takes back: where MD5s are given, what does not match is damaged.
    """

    proven: set[Shape] = field(default_factory=set)
    opaque: set[Shape] = field(default_factory=set)
    is_news: bool = False
    """Something was learnt that is not recorded yet."""

    @classmethod
    def read(cls, kept: str | None) -> Self:
        """From its `text`; what an other version may have written is passed over."""
        found = cls()
        for word in (kept or "").split():
            shape, _, known = word.partition("=")
            if shape in {each.value for each in Shape} and known in ("proven", "opaque"):
                (found.proven if known == "proven" else found.opaque).add(Shape(shape))
        found.opaque -= found.proven
        return found

    @property
    def text(self) -> str:
        """``md5=proven md5-1=opaque``."""
        known = {**dict.fromkeys(self.opaque, "opaque"), **dict.fromkeys(self.proven, "proven")}
        return " ".join(f"{shape}={known[shape]}" for shape in Shape if shape in known)

    def matched(self, shape: Shape) -> None:
        """An etag of this shape was the MD5 of its object's bytes."""
        if shape not in self.proven:
            self.proven.add(shape)
            self.opaque.discard(shape)
            self.is_news = True

    def differed(self, shape: Shape) -> None:
        """One was not, although the bytes are right."""
        if shape not in self.proven and shape not in self.opaque:
            self.opaque.add(shape)
            self.is_news = True

    def is_open(self, shape: Shape) -> bool:
        """Whether nothing is known of this shape."""
        return shape not in self.proven and shape not in self.opaque


def plain(written: str) -> str:
    """The etag itself: without quotes, the mark of a weak one, and what a compressing proxy has added."""
    text, before = written.strip(), None
    while text != before:
        before = text
        text = _QUOTES.sub("", text[2:] if text[:2] in ("W/", "w/") else text).strip()
    return _CODING.sub("", text)


def is_weak(written: str) -> bool:
    """Whether it may not be used in ``If-Match`` (RFC 9110, section 13.1.1)."""
    return written.lstrip()[:2] in ("W/", "w/")


def shape_of(etag: str) -> Shape | None:
    """None for what cannot be an MD5."""
    found = _MD5_LIKE.fullmatch(etag)
    if found is None:
        return None
    return Shape.WHOLE if found[2] is None else Shape.ONE_PART if found[2] == "1" else Shape.PARTS


def is_void(etag: str, size: int) -> bool:
    """Whether it is none, or one that is there for everything: nothing but zeros, or the MD5 of no bytes."""
    return not etag.partition("-")[0].strip("0") or (size > 0 and etag == EMPTY_MD5)


def is_made_up(etag: str) -> bool:
    """Whether it bears the marks of a UUID (RFC 9562), which an MD5 has once in twenty-one times."""
    return _MADE_UP.fullmatch(etag.partition("-")[0]) is not None


def named(etag: str, size: int, modified: datetime | None, opaque: Collection[Shape] = ()) -> str:
    """The name of a version: its etag, with the moment of its last change behind it where the etag alone is no name.

    `opaque` are the shapes that are no MD5s on this server: an etag that no content makes may be the same for any. One
    that no catalog can keep counts as none.
    """
    if len(etag) > LONGEST_ETAG:
        etag = ""
    shape = shape_of(etag)
    if modified is None or (shape is not None and shape not in opaque and not is_void(etag, size)):
        return etag
    return timed(etag, modified)


def timed(name: str, modified: datetime) -> str:
    """The etag, and the moment: in whole seconds of UTC, as HTTP tells it."""
    return f"{etag_of(name)}@{modified.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def etag_of(name: str) -> str:
    """The server's own etag in the name of a version."""
    if name[-1:] != "Z":  # nearly always, and asked some six times of each object
        return name
    found = _TIMED.fullmatch(name)
    return name if found is None else found[1]


def moment_of(name: str) -> datetime | None:
    """The moment in the name of a version; None where there is none."""
    found = _TIMED.fullmatch(name) if name[-1:] == "Z" else None
    return None if found is None else datetime.fromisoformat(f"{found[2]}+00:00")


def is_same(one: str, other: str) -> bool:
    """Whether two names may be those of one version: they are equal, or only one of them says a moment."""
    if one == other:
        return True
    return etag_of(one) == etag_of(other) and (etag_of(one) == one) != (etag_of(other) == other)


def seconds_until_settled(name: str, now: datetime | None) -> float:
    """How long to wait, at the server's time `now`, until a further change shows in the name of the version; 0 where
    its etag tells, or the server does not say what time it is."""
    moment = moment_of(name)
    if moment is None or now is None:
        return 0.0
    age = (now - moment).total_seconds()
    return max(0.0, GRAIN.total_seconds() - age) if age > -_MOST_AHEAD else 0.0


def fits_a_header(etag: str) -> bool:
    return _IN_A_HEADER.fullmatch(etag) is not None


def are_names(etags: Sequence[str]) -> bool:
    """Whether all of a page's etags, of hex digits and dashes only, name their versions by themselves: in one look,
    since nearly all do. False says nothing."""
    joined = "".join(etags)
    if _ZEROS in joined or EMPTY_MD5 in joined:
        return False
    others = [etag for etag in etags if len(etag) != _MD5_DIGITS]
    return joined.count("-") == len(others) and all(map(shape_of, others))

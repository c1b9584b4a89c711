"""What the cases copy and list: descriptions of buckets, which a `Workshop` makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from benchmarks.keyspace import Layout

KIBIBYTE, MEBIBYTE, GIBIBYTE = 1 << 10, 1 << 20, 1 << 30
_QUICK = 50


@dataclass(frozen=True)
class Stored:
    """Objects of random bytes on the embedded server; `size` and `part` in bytes, `round_trip` in seconds."""

    objects: int
    size: int
    part: int = 0
    """Above 0: uploaded in parts of this size."""
    tls: bool = False
    round_trip: float = 0.0

    def quick(self) -> Self:
        """The same, small."""
        if self.objects == 1:
            return replace(self, size=max(self.size // _QUICK, 24 * MEBIBYTE))
        return replace(self, objects=max(self.objects // _QUICK, 20))


@dataclass(frozen=True)
class Listed:
    """Keys on the synthetic server; `delay` in seconds, before each page."""

    objects: int
    layout: Layout = "dates"
    delay: float = 0.0

    def quick(self) -> Self:
        return replace(self, objects=self.objects // _QUICK)


Spec = Stored | Listed

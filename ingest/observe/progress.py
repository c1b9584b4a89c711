"""How far a run is: two bars on a terminal, else a line a minute."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingest.observe.logs import log
from ingest.system.units import format_size

_LINE_EVERY = 60.0
_REFRESH_EVERY = 0.2


class Progress(Protocol):
    """Called for every page and object, so it must cost next to nothing."""

    def listed(self, count: int) -> None: ...

    def planned(self, count: int, size: int) -> None: ...

    def finished(self, size: int, *, failed: bool = False) -> None: ...

    def listing_done(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Tally:
    """What both kinds of progress count."""

    seen: int = 0
    wanted: int = 0
    wanted_bytes: int = 0
    done: int = 0
    done_bytes: int = 0
    failures: int = 0
    complete: bool = False
    _shown: float = field(default_factory=time.monotonic)

    every = _LINE_EVERY

    def listed(self, count: int) -> None:
        self.seen += count
        self._perhaps_show()

    def planned(self, count: int, size: int) -> None:
        self.wanted += count
        self.wanted_bytes += size

    def finished(self, size: int, *, failed: bool = False) -> None:
        self.done += 1
        self.done_bytes += size
        self.failures += failed
        self._perhaps_show()

    def listing_done(self) -> None:
        self.complete = True

    def close(self) -> None:
        """Nothing stays open."""

    def show(self) -> None:
        """One line."""
        log().info(
            "progress",
            listed=self.seen,
            listing="complete" if self.complete else "so far",
            finished=self.done,
            wanted=self.wanted,
            size=format_size(self.done_bytes),
            failures=self.failures,
        )

    def _perhaps_show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= self.every:
            self._shown = now
            self.show()


class Bars(Tally):
    """Objects and bytes, by tqdm."""

    every = _REFRESH_EVERY

    def __init__(self) -> None:
        super().__init__()
        from tqdm import tqdm

        self._objects: Any = tqdm(unit=" objects", position=0, leave=False, dynamic_ncols=True)
        self._bytes: Any = tqdm(
            unit="B", unit_scale=True, unit_divisor=1024, position=1, leave=False, dynamic_ncols=True
        )

    def show(self) -> None:
        self._objects.set_description_str(f"{self.seen} listed{'' if self.complete else ' so far'}", refresh=False)
        if self.failures:
            self._objects.set_postfix_str(f"{self.failures} failed", refresh=False)
        for bar, total, count in (
            (self._objects, self.wanted, self.done),
            (self._bytes, self.wanted_bytes, self.done_bytes),
        ):
            bar.total = total if self.complete else None
            bar.n = count
            bar.refresh()

    def close(self) -> None:
        self._bytes.close()
        self._objects.close()


class Silence(Tally):
    """Counts, and shows nothing."""

    def show(self) -> None:
        """Nobody asked."""


def choose(*, quiet: bool) -> Progress:
    """Bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return Silence()
    return Bars() if sys.stderr.isatty() else Tally()

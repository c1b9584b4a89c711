"""What was measured, against what was aimed at: lines for the terminal, sections for ``RESULTS.md``."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class Unmeasured(Exception):
    """A figure was asked for of a contender that has failed."""


@dataclass
class Samples:
    """The runs of one contender in one case: seconds, seconds of CPU, peak MB. `keys` is what a run goes through."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    keys: int = 0
    failure: str = ""
    """Why it is out of the race; empty while it is in."""

    @property
    def median(self) -> float:
        """Seconds. Raises `Unmeasured` when it is out of the race."""
        if self.failure:
            raise Unmeasured
        return statistics.median(self.seconds)

    @property
    def most(self) -> float:
        """The highest peak, in MB. Raises `Unmeasured` when it is out of the race."""
        if self.failure:
            raise Unmeasured
        return max(self.peak)


_MARK = re.compile(r"^(?=<!-- case: \S+ -->$)", re.MULTILINE)

Results = Mapping[str, Samples]
"""By contender; the first is the one that the others are compared with."""


@dataclass(frozen=True)
class Aim:
    """One line of what a case should reach; `reached` raises `Unmeasured` where a contender it needs has failed."""

    what: str
    reached: Callable[[Results], float]
    least: float | None = None
    aim: float | None = None
    more: bool = False
    """Whether more is better."""

    def verdict(self, value: float) -> str:
        if self.aim is not None and self._holds(value, self.aim):
            return "aim"
        if self.least is not None:
            return "at least" if self._holds(value, self.least) else "missed"
        return "aim missed"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.more else value <= bound


def ratio(*names: str, least: float | None = None, aim: float | None = None) -> Aim:
    """Our seconds to those of the fastest of `names`."""

    def reached(results: Results) -> float:
        return own(results).median / min(results[name].median for name in names)

    return Aim(f"x {names[0]}" if len(names) == 1 else f"x the fastest of {', '.join(names)}", reached, least, aim)


def speed_up(name: str, *, least: float, aim: float) -> Aim:
    """How many times faster than `name`."""
    return Aim(
        f"times faster than {name}", lambda results: results[name].median / own(results).median, least, aim, more=True
    )


def seconds(*, least: float, aim: float) -> Aim:
    return Aim("seconds", lambda results: own(results).median, least, aim)


def rate(*, least: float, aim: float, of: str = "keys") -> Aim:
    return Aim(f"{of} a second", lambda results: own(results).keys / own(results).median, least, aim, more=True)


def peak(*, least: float) -> Aim:
    return Aim("peak MB", lambda results: own(results).most, least)


def peak_above(name: str, *, least: float) -> Aim:
    return Aim(f"MB above the peak of {name}", lambda results: own(results).most - results[name].most, least)


def own(results: Results) -> Samples:
    return next(iter(results.values()))


def section(name: str, title: str, conditions: str, results: Results, aims: Iterable[Aim], *, of: str = "keys") -> str:
    """One case as Markdown, behind a mark that `merged` finds it by; `of` is what is counted."""
    lines = [f"<!-- case: {name} -->", f"## {title}", "", f"`{name}`; {conditions}.", ""]
    lines += [
        f"| tool | seconds (min to max) | ingest / tool | CPU s | peak MB | {of} / s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(tool, samples, own(results)) for tool, samples in results.items()]
    rows = [_aim_row(aim, results) for aim in aims]
    if rows:
        lines += ["", "| | at least | aim | reached | |", "|---|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(tool: str, samples: Samples, ours: Samples) -> str:
    if samples.failure:
        return f"| {tool} | failed: {samples.failure} | | | | |"
    spread = f"{samples.median:.2f} ({min(samples.seconds):.2f} to {max(samples.seconds):.2f})"
    compared = "" if ours.failure else f"{ours.median / samples.median:.2f}"
    cpu, most = f"{statistics.median(samples.cpu):.2f}", f"{samples.most:.0f}"
    return f"| {tool} | {spread} | {compared} | {cpu} | {most} | {samples.keys / samples.median:,.0f} |"


def _aim_row(aim: Aim, results: Results) -> str:
    bounds = f"| {aim.what} | {_number(aim.least, aim)} | {_number(aim.aim, aim)} "
    try:
        value = aim.reached(results)
    except Unmeasured:
        return f"{bounds}| | failed |"
    return f"{bounds}| {_number(value)} | {aim.verdict(value)} |"


def _number(value: float | None, bound_of: Aim | None = None) -> str:
    if value is None:
        return ""
    sign = "" if bound_of is None else ("≥ " if bound_of.more else "≤ ")
    return f"{sign}{value:,.0f}" if abs(value) >= 1_000 else f"{sign}{value:.4g}" if bound_of else f"{value:.2f}"


def merged(before: str, heading: str, sections: Mapping[str, str], order: Iterable[str]) -> str:
    """The document with `heading`, `sections` (by case), and those sections of `before` that are not replaced."""
    parts = re.split(_MARK, before)[1:]
    kept = {part.split(maxsplit=3)[2]: part.rstrip() + "\n" for part in parts}
    together = {**kept, **sections}
    return "\n".join([heading, *(together[name] for name in order if name in together)])


def replace(path: Path, sections: Mapping[str, str], order: Iterable[str]) -> None:
    """Writes `sections` into a document that is there, and leaves its heading alone."""
    before = path.read_text(encoding="utf-8")
    heading = re.split(_MARK, before, maxsplit=1)[0].rstrip() + "\n"
    path.write_text(merged(before, heading, sections, order), encoding="utf-8")


def write(path: Path, heading: str, sections: Mapping[str, str], order: Iterable[str]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(merged(before, heading, sections, order), encoding="utf-8")

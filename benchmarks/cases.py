"""Every case of ``make bench``, with what it should reach. To add one: an entry in `CASES`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.buckets import GIBIBYTE, KIBIBYTE, MEBIBYTE, Listed, Spec, Stored
from benchmarks.keyspace import CUTOFF
from benchmarks.report import Aim, peak, peak_above, rate, ratio, seconds, speed_up
from benchmarks.rivals import Contender, aws, ingest, rclone, s5cmd
from benchmarks.trials import (
    EVERYTHING,
    EVERYTHING_ON_POSTGRES,
    KNOWN,
    KNOWN_ON_POSTGRES,
    Fresh,
    Known,
    Recorded,
    Status,
    Trial,
    Unchanged,
    WithNew,
)


@dataclass(frozen=True)
class Case:
    """`contenders` take turns, `rounds` times, at `trial` on `bucket`; the first one is ours."""

    name: str
    title: str
    bucket: Spec
    trial: type[Trial]
    contenders: tuple[Contender, ...]
    rounds: int
    aims: tuple[Aim, ...] = ()


RCLONE = rclone("--transfers", "32", "--checkers", "32", "--use-server-modtime")
S5CMD, S5CMD_CP = s5cmd("--numworkers", "32"), s5cmd("--numworkers", "32", verb="cp")
AWS, AWS_CP = aws(), aws(verb="cp")
RIVALS = (RCLONE, S5CMD_CP, AWS_CP)
"""At filling an empty directory."""

_STATEMENTS = Stored(10_000, 16 * KIBIBYTE)
_FAR = Stored(3_000, 16 * KIBIBYTE, round_trip=0.05)
_PLAIN_RCLONE = rclone(name="rclone copy, its defaults")
_FAR_RCLONE = rclone("--transfers", "256", "--checkers", "256", "--use-server-modtime", name="rclone copy, 256")
_MANY, _MILLIONS = Listed(200_000), Listed(2_000_000)
_ONE_LISTER = ingest("sync", "--newer-than", CUTOFF, "--listers", "1", name="ingest sync --listers 1")
_FAR_S5CMD = s5cmd("--numworkers", "256", verb="cp", name="s5cmd cp, 256")
_SIZE_ONLY = rclone("--transfers", "32", "--checkers", "32", "--size-only", name="rclone copy --size-only")
_FEWER = replace(KNOWN, name="ingest sync, 200,000 keys", bucket=_MANY)

CASES = (
    Case(
        "fresh-10k", "10,000 x 16 KiB, fresh", _STATEMENTS, Fresh, (EVERYTHING, EVERYTHING_ON_POSTGRES, *RIVALS), 5,
        (ratio(RCLONE.name, S5CMD_CP.name, least=1.0, aim=0.75),),
    ),
    Case(
        "fresh-10k-tls", "10,000 x 16 KiB, fresh, over TLS", replace(_STATEMENTS, tls=True), Fresh,
        (EVERYTHING, *RIVALS), 5, (ratio(RCLONE.name, S5CMD_CP.name, least=0.9, aim=0.7),),
    ),
    Case(
        "fresh-3k-50ms", "3,000 x 16 KiB, fresh, round trips of 50 ms", _FAR, Fresh,
        (EVERYTHING, _FAR_RCLONE, _PLAIN_RCLONE, _FAR_S5CMD, AWS_CP), 3,
        (ratio(_FAR_RCLONE.name, _FAR_S5CMD.name, AWS_CP.name, least=1.0, aim=0.75),),
    ),
    Case(
        "fresh-1k-1m", "1,000 x 1 MiB, fresh", Stored(1_000, MEBIBYTE), Fresh, (EVERYTHING, *RIVALS), 5,
        (ratio(RCLONE.name, least=1.0, aim=0.8),),
    ),
    Case(
        "one-1g", "One object of 1 GiB, whose etag is its MD5", Stored(1, GIBIBYTE), Fresh, (EVERYTHING, *RIVALS), 5,
        (ratio(RCLONE.name, least=1.0, aim=0.8), peak(least=150)),
    ),
    Case(
        "one-1g-parts", "One object of 1 GiB, put in parts of 16 MiB", Stored(1, GIBIBYTE, part=16 * MEBIBYTE), Fresh,
        (EVERYTHING, *RIVALS), 5, (ratio(RCLONE.name, least=0.8), ratio(S5CMD_CP.name, aim=1.1)),
    ),
    Case(
        "nothing-10k", "10,000 keys, nothing to do", _STATEMENTS, Unchanged,
        (EVERYTHING, _SIZE_ONLY, _PLAIN_RCLONE, S5CMD, AWS), 9, (ratio(S5CMD.name, least=1.0, aim=0.6),),
    ),
    Case(
        "nothing-200k", "200,000 keys, nothing to do", _MANY, Unchanged, (EVERYTHING, _SIZE_ONLY, S5CMD, AWS), 3,
        (ratio(_SIZE_ONLY.name, least=0.5, aim=0.25), peak(least=130)),
    ),
    Case(
        "first-200k-50ms", "First listing of 200,000 keys, 50 ms a page", replace(_MANY, delay=0.05), Recorded,
        (KNOWN, _ONE_LISTER), 3, (speed_up(_ONE_LISTER.name, least=4, aim=8),),
    ),
    Case(
        "first-200k-50ms-flat", "First listing of 200,000 keys in one directory, 50 ms a page",
        Listed(200_000, "flat", delay=0.05), Recorded, (KNOWN, _ONE_LISTER), 3,
        (speed_up(_ONE_LISTER.name, least=4, aim=8),),
    ),
    Case(
        "nothing-2m", "2,000,000 keys, nothing to do", _MILLIONS, Known, (KNOWN, KNOWN_ON_POSTGRES, _FEWER), 5,
        (rate(least=100_000, aim=400_000), peak_above(_FEWER.name, least=20)),
    ),
    Case(
        "new-2m", "2,000,000 keys, 0.1 % of them new, spread evenly", _MILLIONS, WithNew, (KNOWN, KNOWN_ON_POSTGRES), 3,
        (rate(least=60_000, aim=150_000),),
    ),
    Case(
        "first-2m", "First listing of 2,000,000 keys, recorded as known", _MILLIONS, Recorded,
        (KNOWN, KNOWN_ON_POSTGRES), 3, (rate(least=40_000, aim=100_000),),
    ),
    Case(
        "status-200k", "Status of 200,000 rows", _MANY, Status, (ingest("status", name="ingest status"),), 9,
        (seconds(least=1.0, aim=0.4),),
    ),
)  # fmt: skip

ORDER = (*(case.name for case in CASES), "events")
"""Of the sections in ``RESULTS.md``; `benchmarks.events` writes the last one."""

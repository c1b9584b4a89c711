"""A run's report as the ``--json`` object and as the line for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ingest.model import RunReport
from ingest.units import format_size


def as_json(report: RunReport) -> dict[str, Any]:
    """The object of ``--json``. Fields may be added, never renamed."""
    document: dict[str, Any] = {"command": report.command, "run_id": report.run_id, "status": report.status.value}
    document |= asdict(report.counts)
    document["seconds"] = report.seconds
    document["exit_code"] = int(report.exit_code)
    if report.error is not None:
        document["error"] = {"code": report.error.code, "message": report.error.message, "hint": report.error.hint}
    return document | report.notes


def as_line(report: RunReport) -> str:
    """``sync ok: 12 listed, 2 new, …``: only counts (and notes) that are not zero, besides the first."""
    counts = report.tallies
    size = counts.pop("bytes")
    shown = [f"{counts.pop('listed')} listed"] if report.command in ("sync", "backfill") else []
    shown += [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    if size:
        shown.append(format_size(size))
    said = ", ".join(shown) or ("nothing was done" if report.error else "nothing to do")
    dry = " (dry run)" if report.notes.get("dry_run") else ""
    below = f" below {report.notes['written_below']}" if "written_below" in report.notes else ""
    return f"{report.command} {report.status.value}{dry}: {said}{below} in {report.seconds:.1f} s"

"""Builds the library of MD5 lanes beside its source, where there is a C compiler. Without one, only speed is missed.

`INGEST_WITHOUT_LIBRARY=1` leaves it out.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, LIBRARY = "ingest/hashing/md5_lanes.c", "ingest/hashing/_md5_lanes.so"
_FLAGS = ("-O3", "-shared", "-fPIC", "-Wno-psabi")
_LONGEST_SECONDS = 120


class LanesHook(BuildHookInterface[Any]):
    """Called by hatchling for a wheel and for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the library to what is packed, and names the platform that it is for."""
        if not build(Path(self.root)):
            self.app.display_warning("no C compiler: digests are computed one by one")
            return
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(root: Path) -> bool:
    """Whether the library is there now."""
    library = root / LIBRARY
    library.unlink(missing_ok=True)
    if os.environ.get("INGEST_WITHOUT_LIBRARY") or sys.platform == "win32":
        return False
    compiler = shlex.split(os.environ.get("CC", "cc"))
    draft = library.with_suffix(".new")
    for wider in (["-DINGEST_CLONES"], []):  # not every compiler can build one function for several processors
        command = [*compiler, *_FLAGS, *wider, "-o", str(draft), str(root / SOURCE)]
        try:
            done = subprocess.run(  # noqa: S603 - the compiler that was named
                command, capture_output=True, timeout=_LONGEST_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode == 0:
            draft.replace(library)
            return True
    return False

"""Which mount a directory belongs to: between two of them no file can be renamed, not even of one file system."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def are_one_mount(descriptor: int, other: int) -> bool:
    """Whether files can be renamed between these two directories, as far as can be told."""
    return _mount_of(descriptor) == _mount_of(other)


def _mount_of(descriptor: int) -> tuple[int, str]:
    device, mount = os.fstat(descriptor).st_dev, ""
    with suppress(OSError):  # Linux only, and not in every container
        said = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
        mount = next((line for line in said.splitlines() if line.startswith("mnt_id:")), "")
    return device, mount

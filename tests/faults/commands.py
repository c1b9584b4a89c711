"""A bucket, a data directory and a catalog, and the command line at work on them as processes of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ingest.settings import Settings
from ingest.testing.memory_s3 import MemoryS3
from tests.fixtures.process import environment

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Commands:
    """`more` are further settings of every command."""

    server: MemoryS3
    data_dir: Path
    url: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.server.bucket.settings(self.data_dir, database_url=self.url)

    def start(self, *command: str, **armed: str) -> subprocess.Popen[bytes]:
        """The command under way; `armed` are the variables of crash points."""
        own = self.server.bucket.variables(self.data_dir) | {"DATABASE_URL": self.url} | self.more | armed
        return subprocess.Popen([sys.executable, "-m", "ingest", *command, "-q"], env=environment(own), cwd=ROOT)

    def run(self, *command: str, **armed: str) -> int:
        """The exit code of the command; it ends within 90 seconds."""
        process = self.start(*command, **armed)
        try:
            return process.wait(90)
        finally:
            process.kill()
            process.wait()

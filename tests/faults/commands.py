"""A bucket, a data directory and a catalog, and the command line at work on them as processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.settings import Settings
from ingest.testing.memory_s3 import MemoryS3
from tests.fixtures.forks import Child, fork_server
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

    def start(self, *command: str, **armed: str) -> Child:
        """The command under way; `armed` are the variables of failpoints."""
        own = self.server.bucket.variables(self.data_dir) | {"DATABASE_URL": self.url} | self.more | armed
        return fork_server().plain([*command, "-q"], environment(own), cwd=ROOT)

    def run(self, *command: str, **armed: str) -> int:
        """The exit code of the command; it ends within 90 seconds."""
        process = self.start(*command, **armed)
        try:
            return process.end()
        finally:
            process.kill()

    @contextmanager
    def held(self, *command: str, at: str) -> Iterator[Child]:
        """The command as a process that stands still at this label, until it goes on."""
        process = self.start(*command, INGEST_STOP_AT=at)
        try:
            assert process.held(), f"it ended with {process.code} and did not pass {at}"
            yield process
        finally:
            process.kill()

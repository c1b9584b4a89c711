"""Tells systemd how the service fares, by its own protocol: one datagram a message (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field


def _address() -> str:
    name = os.environ.get("NOTIFY_SOCKET", "")
    return f"\0{name[1:]}" if name.startswith("@") else name


def _watchdog_seconds() -> float:
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() else 0.0


@dataclass
class Notifier:
    """Sends to NOTIFY_SOCKET; without one, nothing. A message that cannot be sent is no error."""

    address: str = field(default_factory=_address)
    every: float = field(default_factory=lambda: _watchdog_seconds() / 3)
    """Seconds between two signs of life; 0 for none."""
    _alive_at: float = 0.0

    def send(self, message: str) -> None:
        """For example ``READY=1`` or ``STOPPING=1``."""
        if not self.address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as outgoing:
            outgoing.setblocking(False)
            outgoing.sendto(message.encode(), self.address)

    def alive(self) -> None:
        """A sign of life, sent when it is time for the next one."""
        now = time.monotonic()
        if self.every and now - self._alive_at >= self.every:
            self._alive_at = now
            self.send("WATCHDOG=1")

"""Rows that are more than memory should hold, for as long as one run needs them."""

from __future__ import annotations

import sqlite3


def private_database(table: str) -> sqlite3.Connection:
    """A private database of one table: in memory while small, on disk when not, gone when it is closed."""
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(table)
    return connection

"""Conditions on rows of ``objects``, for SQLAlchemy: keys and prefixes are literal, nothing in them is a pattern."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, literal

from ingest.catalog.tables import objects


def between(source_id: int, after: str, upto: str | None) -> ColumnElement[bool]:
    """The rows of a source with ``after < key <= upto``."""
    bounds = [objects.c.source_id == source_id, objects.c.key > after]
    if upto is not None:
        bounds.append(objects.c.key <= upto)
    return and_(*bounds)


def under(prefix: str) -> ColumnElement[bool]:
    """Whether a row's key starts with `prefix`, byte for byte."""
    return func.substr(objects.c.key, 1, len(prefix)) == literal(prefix)

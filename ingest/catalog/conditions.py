"""Conditions on rows of ``objects``, for SQLAlchemy: keys and prefixes are literal, nothing in them is a pattern."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import ARRAY, ColumnElement, Text, and_, any_, exists, func, literal, or_, select

from ingest.catalog.schema.tables import deliveries, objects
from ingest.model import DeliveryState

_RULED = (DeliveryState.DELIVERED.value, DeliveryState.REJECTED.value)
"""The service has the bytes, and has given its verdict."""


def between(source_id: int, first: str, behind: str | None) -> ColumnElement[bool]:
    """The rows of a source with ``first <= key < behind``."""
    bounds = [objects.c.source_id == source_id, objects.c.key >= first]
    if behind is not None:
        bounds.append(objects.c.key < behind)
    return and_(*bounds)


def under(prefix: str) -> ColumnElement[bool]:
    """Whether a row's key starts with `prefix`, byte for byte."""
    return func.substr(objects.c.key, 1, len(prefix)) == literal(prefix)


def among(column: ColumnElement[str], values: Collection[str], *, is_postgres: bool) -> ColumnElement[bool]:
    """Whether a column holds one of `values`. They are one argument of the statement, however many: people name keys by
    the ten thousand, and PostgreSQL takes no more than 32,767 arguments."""
    if is_postgres:
        return column == any_(literal(list(values), ARRAY(Text)))
    listed = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(listed.c.value))


def version_of_row() -> ColumnElement[str]:
    """The name of the version that a row of `objects` has."""
    return func.coalesce(objects.c.version, objects.c.etag)


def undelivered() -> ColumnElement[bool]:
    """Whether the service has not ruled on the object of a row of `objects`, in the version that is recorded: its copy
    must stay, also when it was given up. So must it while an older version waits, whose place it will have. For any
    query on `objects`."""
    given_up = and_(deliveries.c.etag == version_of_row(), deliveries.c.state.not_in(_RULED))
    waiting = exists().where(
        deliveries.c.source_id == objects.c.source_id,
        deliveries.c.key == objects.c.key,
        or_(deliveries.c.state == DeliveryState.PENDING.value, given_up),
    )
    return waiting.correlate(objects)

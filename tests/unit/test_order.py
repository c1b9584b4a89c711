"""What the place of a directory shows of a server's listing order."""

from __future__ import annotations

import pytest

from ingest.model import ListingOrder
from ingest.plan.shards import order_shown, start_of_directory


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        pytest.param("st/x", ListingOrder.BYTES, id="a key of it"),
        pytest.param("st/", ListingOrder.BYTES, id="its marker"),
        pytest.param("st//", ListingOrder.BYTES, id="one without a name"),
        pytest.param(None, ListingOrder.DIRECTORY, id="nothing"),
        pytest.param("su/x", ListingOrder.DIRECTORY, id="what is behind it"),
        pytest.param("st0", ListingOrder.DIRECTORY, id="what is right behind it"),
        pytest.param("st-b/x", None, id="either would list this next"),
        pytest.param("st.pdf", None, id="and this"),
        pytest.param("st!a", None, id="and this, too"),
        pytest.param("st", ListingOrder.UNKNOWN, id="what lies before the question"),
        pytest.param("st!", ListingOrder.UNKNOWN, id="what was asked to be left out"),
        pytest.param("a/x", ListingOrder.UNKNOWN, id="the first of all: the question is ignored"),
    ],
)
def test_the_first_key_behind_a_directory_s_name(found: str | None, shown: ListingOrder | None) -> None:
    assert start_of_directory("st/") == "st!"
    assert order_shown("st/", "st!", found) is shown

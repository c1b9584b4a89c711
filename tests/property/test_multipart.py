"""The form that we write is the form that FastAPI reads, whatever stands in keys, names, values and bytes."""

from __future__ import annotations

import asyncio

from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import FormData, UploadFile

from ingest.delivery.multipart import content_type, quote, wrap

HOSTILE = st.text(
    st.one_of(st.sampled_from('\r\n\0\t\x1b";\\%=:-é😀\u2028 '), st.characters(codec="utf-8")), max_size=60
)
NAMES = HOSTILE.filter(lambda name: name not in ("", "file"))


def read_back(content_type: str, body: bytes) -> FormData:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def parse() -> FormData:
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}
        return await Request(scope, receive).form()

    return asyncio.run(parse())


@given(key=HOSTILE.filter(bool), fields=st.dictionaries(NAMES, HOSTILE, max_size=4), content=st.binary(max_size=200))
@example(key='a/"; name="x".pdf', fields={'"\r\nX: y': "\r\n--b--\r\n"}, content=b"\r\n--")
@example(key="C:\\a\\b;c.pdf", fields={"a\\": "v", 'x"; name="y': "w"}, content=b"")
def test_the_form_survives_its_parser(key: str, fields: dict[str, str], content: bytes) -> None:
    envelope = wrap("0123456789abcdef" * 2, key, fields)
    form = read_back(envelope.content_type, envelope.head + content + envelope.tail)
    file = form["file"]
    assert isinstance(file, UploadFile)
    assert file.file.read() == content
    last = key.rstrip("/").rpartition("/")[2] or key
    assert file.filename == quote(last)
    assert {name: form[name] for name in form if name != "file"} == {quote(n): v for n, v in fields.items()}
    file.file.close()


@given(HOSTILE)
def test_a_name_stays_on_its_line_and_between_its_quotes(name: str) -> None:
    assert not set(quote(name)) & set('\r\n"\\\0')


def test_names_are_escaped_as_browsers_do() -> None:
    assert quote('a"b\r\nc%d é.pdf') == "a%22b%0D%0Ac%d é.pdf"


def test_the_type_comes_from_the_extension_alone() -> None:
    assert content_type("a.PDF") == "application/pdf"
    assert content_type("a.xml") == "text/xml"
    assert content_type("data:evil\r\nX: y,.") == "application/octet-stream"
    assert content_type("a.csv.gz") in ("application/octet-stream", "application/gzip")  # what Python 3.14 calls it
    assert content_type("noname") == "application/octet-stream"

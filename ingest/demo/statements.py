"""Sample statements: real one-page PDFs, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator

NOTES = "statements/2026/notes/"
"""The prefix of the odd names."""
ODD_NAMES = ("Müller & Söhne, Juni 2026.pdf", "50% off + more.pdf", "two  spaces.pdf")
MOST = 480 + len(ODD_NAMES)
_ACCOUNTS = 40
_ACCOUNT = b"ACC-00000"
_MONTH = b"2026-00"
_TITLE = b"Loan statement"


def statements(count: int) -> Iterator[tuple[str, bytes]]:
    """`count` pairs of key and PDF, at most `MOST`; the last few have odd names.

    One page is laid out, then account and month are set in it for each: with as many letters, so that the offsets in
    the PDF's cross-reference table stay right.
    """
    template = _template()
    for number in range(count - len(ODD_NAMES)):
        account, month = f"ACC-{number % _ACCOUNTS:05}", f"2026-{number // _ACCOUNTS + 1:02}"
        body = template.replace(_ACCOUNT, account.encode()).replace(_MONTH, month.encode())
        yield f"statements/{month.replace('-', '/')}/{account}-{month}.pdf", body
    for name in ODD_NAMES[: min(count, len(ODD_NAMES))]:
        yield NOTES + name, template


def corrected(statement: bytes) -> bytes:
    """The same statement under another title: other bytes of the same length."""
    return statement.replace(_TITLE, b"Corrected stmt", 1)


def _template() -> bytes:
    from datetime import UTC, datetime

    from fpdf import FPDF

    page = FPDF()
    page.set_compression(False)  # type: ignore[attr-defined,unused-ignore]  # fpdf2's own, untyped in some releases
    page.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    page.add_page()
    page.set_font("Helvetica", size=16)
    page.cell(text=f"{_TITLE.decode()} {_MONTH.decode()}", new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", size=11)
    page.cell(text=f"Account {_ACCOUNT.decode()}", new_x="LMARGIN", new_y="NEXT")
    for line in range(1, 25):
        row = f"{line:02}  Instalment {line}   interest {line * 3.17:8.2f}   balance {90000 - line * 812:9.2f}"
        page.cell(text=row, new_x="LMARGIN", new_y="NEXT")
    return bytes(page.output())

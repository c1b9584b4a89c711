"""Sample statements: real one-page PDFs, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator

_ACCOUNT = b"ACC-00000"
_MONTH = b"2026-00"
_ODD_NAMES = (
    "statements/2026/notes/M\u00fcller & S\u00f6hne, Juni 2026.pdf",
    "statements/2026/notes/50% off + more.pdf",
    "statements/2026/notes/two  spaces.pdf",
)


def statements(count: int) -> Iterator[tuple[str, bytes]]:
    """`count` pairs of key and PDF. One page is laid out, then account and month are set in it for each."""
    template = _template()
    for number in range(count - len(_ODD_NAMES)):
        account, month = f"ACC-{number % 40:05}", f"2026-{number // 40 % 12 + 1:02}"
        # Same lengths, so the offsets in the PDF's cross-reference table stay right.
        body = template.replace(_ACCOUNT, account.encode()).replace(_MONTH, month.encode())
        yield f"statements/{month.replace('-', '/')}/{account}-{month}.pdf", body
    for name in _ODD_NAMES[: min(count, len(_ODD_NAMES))]:
        yield name, template


def _template() -> bytes:
    from datetime import UTC, datetime

    from fpdf import FPDF

    page = FPDF()
    page.set_compression(False)  # type: ignore[attr-defined,unused-ignore]  # fpdf2's own, untyped in some releases
    page.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    page.add_page()
    page.set_font("Helvetica", size=16)
    page.cell(text=f"Loan statement {_MONTH.decode()}", new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", size=11)
    page.cell(text=f"Account {_ACCOUNT.decode()}", new_x="LMARGIN", new_y="NEXT")
    for line in range(1, 25):
        page.cell(text=f"{line:02}  Instalment {line}  interest {line * 3.17:8.2f}  balance {90000 - line * 812:9.2f}",
                  new_x="LMARGIN", new_y="NEXT")  # fmt: skip
    return bytes(page.output())

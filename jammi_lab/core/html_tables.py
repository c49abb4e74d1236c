"""Tables as HTML and as text.

form = table(["name", "rows"], [["papers", 12], ["notes", None]],
types=["VARCHAR", "BIGINT"], note="2 rows")
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jammi_lab.core.html import (
    Rendered,
    cell,
    count_noun,
    display_width,
    escape,
    escape_invisible,
    heading,
    pad,
    truncate,
    truncate_html,
)

MAX_HTML_COLUMNS = 200
"""Columns of an HTML table. Further ones are named below it."""
TEXT_WIDTH = 160
"""Characters per line of a text table. Further columns are named below it."""
_MIN_SENTENCE_WIDTH = 40
"""Characters that the beginning of a sentence needs to be useful."""
_BORDER_STYLE = "1px solid rgba(128,128,128,0.4)"
_NUMERIC_TYPE = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL\([\d, ]+\)|DECIMAL)",
    re.IGNORECASE,
)


def is_numeric_type(sql_type: str) -> bool:
    """Whether values of that SQL type are right-aligned."""
    return _NUMERIC_TYPE.fullmatch(sql_type.strip()) is not None


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    types: Sequence[str] | None = None,
    aligned: str = "",
    caption: str = "",
    note: str = "",
) -> Rendered:
    """A table. `types` adds each column's SQL type under its name. `aligned` has one letter per
    column, `l` or `r` (default: numbers right)."""
    row_list = list(rows)
    cells = [[cell(v) for v in row] for row in row_list]
    if not aligned:
        aligned = "".join(
            "r"
            if (is_numeric_type(types[i]) if types else _are_numbers(row[i] for row in row_list))
            else "l"
            for i in range(len(headers))
        )
    return Rendered(
        _table_html(headers, cells, types, aligned, caption, note),
        _table_text(headers, cells, types, aligned, caption, note),
    )


def _are_numbers(values: Iterable[Any]) -> bool:
    present = [v for v in values if v is not None]
    return bool(present) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in present
    )


def _text_align(letter: str) -> str:
    return "right" if letter == "r" else "left"


def _table_html(
    headers: Sequence[str],
    cells: list[list[Rendered]],
    types: Sequence[str] | None,
    aligned: str,
    caption: str,
    note: str,
) -> str:
    head, visible_count = "", len(headers) if types is None else min(len(headers), MAX_HTML_COLUMNS)
    for i, name in enumerate(headers[:visible_count]):
        kind = (
            '<br><span style="font-weight:400;opacity:0.65">'
            f"{truncate_html(types[i].lower(), 40)}</span>"
            if types
            else ""
        )
        style = (
            f"text-align:{_text_align(aligned[i])};vertical-align:bottom;white-space:nowrap;"
            f"border-bottom:{_BORDER_STYLE}"
        )
        head += f'<th scope="col" style="{style}">{truncate_html(name, 60) or "&nbsp;"}{kind}</th>'
    body = "".join(
        "<tr>"
        + "".join(_cell_html(f, aligned[i], bool(types)) for i, f in enumerate(row[:visible_count]))
        + "</tr>"
        for row in cells
    )
    grid = (
        '<table cellpadding="4" style="border-collapse:collapse;margin:0.2em 0">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    title = heading(caption).html if caption else ""
    notes = [line for line in (_hidden_columns_note(headers, visible_count), note) if line]
    notes_html = "".join(
        f'<div style="opacity:0.7;font-size:90%;margin:0.2em 0 0.4em 0">{escape(line)}</div>'
        for line in notes
    )
    return f'<div style="overflow-x:auto">{title}{grid}{notes_html}</div>'


def _cell_html(form: Rendered, letter: str, no_wrap: bool) -> str:
    """A table cell. Values and short texts do not wrap, sentences do."""
    style = ";white-space:nowrap" if no_wrap or len(form.text) <= 24 else ""
    return (
        f'<td style="text-align:{_text_align(letter)};vertical-align:top{style}">{form.html}</td>'
    )


def _row_lines(row: list[Rendered]) -> list[list[str]]:
    """A row as lines of text: a cell of several lines continues below its first one."""
    return [
        list(line)
        for line in itertools.zip_longest(*(f.text.split("\n") for f in row), fillvalue="")
    ]


def _table_text(
    headers: Sequence[str],
    cells: list[list[Rendered]],
    types: Sequence[str] | None,
    aligned: str,
    caption: str,
    note: str,
) -> str:
    top = [[truncate(h, 40) for h in headers]] + (
        [[truncate(t.lower(), 24) for t in types]] if types else []
    )
    body = [line for row in cells for line in _row_lines(row)]
    widths = [
        max([1, *(display_width(line[i]) for line in top + body)]) for i in range(len(headers))
    ]
    visible_count, used_width = 0, 0
    while visible_count < len(headers) and (
        visible_count == 0 or used_width + widths[visible_count] <= TEXT_WIDTH
    ):
        used_width += widths[visible_count] + 2
        visible_count += 1
    remaining_width = TEXT_WIDTH - used_width
    # The last column of a listing has sentences, whose beginning matters most: truncate them.
    if (
        visible_count == len(headers) - 1
        and types is None
        and aligned[-1] == "l"
        and remaining_width >= _MIN_SENTENCE_WIDTH
    ):
        body = [[*row[:-1], _shorten(row[-1], remaining_width)] for row in body]
        visible_count += 1
    if visible_count == len(headers) and visible_count and aligned[-1] == "l":
        # The width of the last column must not depend on its cells, so that a duration in it
        # changes no other character.
        widths[-1] = max(display_width(line[-1]) for line in top)
    rule = "  ".join("─" * w for w in widths[:visible_count])
    lines = (
        [_text_row(line[:visible_count], widths, aligned) for line in top]
        + [rule]
        + [_text_row(line[:visible_count], widths, aligned) for line in body]
    )
    hidden_note = _hidden_columns_note(headers, visible_count)
    return "\n".join(
        [
            *([escape_invisible(caption)] if caption else []),
            *(lines if headers else []),
            *([hidden_note] if hidden_note else []),
            *([escape_invisible(note)] if note else []),
        ]
    )


def _shorten(text: str, width: int) -> str:
    return text if display_width(text) <= width else f"{text[: width - 1]}…"


def _hidden_columns_note(headers: Sequence[str], visible_count: int) -> str:
    """The number of hidden columns and the first of their names; empty when there are none."""
    hidden = ", ".join(truncate(h, 40) for h in headers[visible_count : visible_count + 12]) + (
        ", …" if len(headers) > visible_count + 12 else ""
    )
    return (
        f"and {count_noun(len(headers) - visible_count, 'more column')}: {hidden}"
        if visible_count < len(headers)
        else ""
    )


def _text_row(texts: Sequence[str], widths: Sequence[int], aligned: str) -> str:
    return "  ".join(pad(t, widths[i], aligned[i]) for i, t in enumerate(texts)).rstrip()

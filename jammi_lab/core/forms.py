"""The form of every object, as HTML and as text: a title, facts, a table, notes.

form("papers", facts=[("kind", "csv")], table=grid(["name", "rows"], [["papers", 12]]),
notes=["1 source"])
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
    pad,
    plain_text,
    truncate,
    truncate_html,
)

MAX_HTML_COLUMNS = 200
"""Columns of an HTML table. Further ones are named below it."""
TEXT_WIDTH = 160
"""Characters per line of a text table. Further columns are named below it."""
_TYPE_WORD = re.compile(r""""[^"]*"|'[^']*'|(\w+)(?=[()\[\],]|$| (?:WITH TIME|TIME ZONE|ZONE)\b)""")
_MIN_SENTENCE_WIDTH = 40
"""Characters that the beginning of a sentence needs to be useful."""
_UNBROKEN = re.compile(r".{,12}|\S{,24}")
"""A text in an HTML table that is not broken into lines: a few letters, or a name."""
_BORDER_STYLE = "1px solid rgba(128,128,128,0.4)"
_NUMERIC_TYPE = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL\([\d, ]+\)|DECIMAL)",
    re.IGNORECASE,
)


def is_numeric_type(sql_type: str) -> bool:
    """Whether values of that SQL type are right-aligned."""
    return _NUMERIC_TYPE.fullmatch(sql_type.strip()) is not None


def form(
    title: Rendered | str = "",
    *,
    facts: Iterable[tuple[str, Any]] = (),
    table: Rendered | None = None,
    notes: Iterable[str] = (),
) -> Rendered:
    """The form of an object. A fact or a note that is an empty string is left out."""
    lines = []
    for label, value in facts:
        if not (isinstance(value, str) and not value):
            lines.append((label, cell(value, html_cut=400, text_cut=120)))
    blocks = [
        *([_title(title)] if title else []),
        *([_facts(lines)] if lines else []),
        *([table] if table is not None else []),
        *(_note(note) for note in notes if note),
    ]
    return Rendered("".join(b.html for b in blocks), "\n".join(b.text for b in blocks))


def _title(title: Rendered | str) -> Rendered:
    line = title if isinstance(title, Rendered) else plain_text(title)
    return Rendered(f'<div style="font-weight:600;margin:0.3em 0">{line.html}</div>', line.text)


def _facts(lines: Sequence[tuple[str, Rendered]]) -> Rendered:
    width = max(display_width(label) for label, _ in lines)
    rows = "".join(
        '<tr><td style="text-align:left;vertical-align:top;opacity:0.7;white-space:nowrap">'
        f"{escape(label)}</td>"
        f'<td style="text-align:left;vertical-align:top">{value.html}</td></tr>'
        for label, value in lines
    )
    texts = [f"  {pad(label, width, 'l')}  {value.text}".rstrip() for label, value in lines]
    return Rendered(_table_html(f"<tbody>{rows}</tbody>"), "\n".join(texts))


def _note(note: str) -> Rendered:
    return Rendered(
        f'<div style="opacity:0.7;font-size:90%;margin:0.2em 0 0.4em 0">{escape(note)}</div>',
        escape_invisible(note),
    )


def _table_html(content: str) -> str:
    style = "border-collapse:collapse;margin:0.2em 0"
    return f'<table cellpadding="4" style="{style}">{content}</table>'


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    types: Sequence[str] | None = None,
    aligned: str = "",
    caption: str = "",
    note: str = "",
) -> Rendered:
    """A table of values. `types` adds each column's SQL type under its name. `aligned` has one
    letter per column, `l` or `r` (default: numbers right)."""
    values = list(rows)
    cells = [[cell(value) for value in row] for row in values]
    if not aligned:
        is_number = (
            [is_numeric_type(sql_type) for sql_type in types]
            if types
            else [_are_numbers(row[i] for row in values) for i in range(len(headers))]
        )
        aligned = "".join("r" if each else "l" for each in is_number)
    return form(caption, table=_grid(headers, cells, types, aligned), notes=[note])


def listing_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    aligned: str,
    optional: Sequence[str] = (),
    caption: str = "",
    note: str = "",
) -> Rendered:
    """A table of our own texts. Unknown values are empty; an `optional` column without any value is
    left out."""
    lines = [[_listed_cell(value) for value in row] for row in rows]
    shown = []
    for column, header in enumerate(headers):
        if header not in optional or any(line[column].text for line in lines):
            shown.append(column)
    return table(
        [headers[column] for column in shown],
        [[line[column] for column in shown] for line in lines],
        aligned="".join(aligned[column] for column in shown),
        caption=caption,
        note=note,
    )


def _listed_cell(value: Any) -> Rendered:
    if value is None or value == "":
        return plain_text("")
    return cell(value, html_cut=200, text_cut=120) if isinstance(value, str) else cell(value)


def _are_numbers(values: Iterable[Any]) -> bool:
    present = [v for v in values if v is not None]
    return bool(present) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in present
    )


def _grid(
    headers: Sequence[str],
    cells: list[list[Rendered]],
    types: Sequence[str] | None,
    aligned: str,
) -> Rendered:
    lines = _text_lines(headers, cells, types, aligned) if headers else []
    return Rendered(_grid_html(headers, cells, types, aligned), "\n".join(lines))


def shown_type(kind: str) -> str:
    """An SQL type in lower case; names of fields and values of enums stay."""
    return _TYPE_WORD.sub(lambda word: word[0].lower() if word[1] else word[0], kind)


def _align(letter: str) -> str:
    return "text-align:" + ("right" if letter == "r" else "left")


def _grid_html(
    headers: Sequence[str],
    cells: list[list[Rendered]],
    types: Sequence[str] | None,
    aligned: str,
) -> str:
    head, shown = "", len(headers) if types is None else min(len(headers), MAX_HTML_COLUMNS)
    for i, name in enumerate(headers[:shown]):
        kind = (
            '<br><span style="font-weight:400;opacity:0.65">'
            f"{truncate_html(shown_type(types[i]), 40)}</span>"
            if types
            else ""
        )
        style = (
            f"{_align(aligned[i])};vertical-align:bottom;white-space:nowrap;"
            f"border-bottom:{_BORDER_STYLE}"
        )
        head += f'<th scope="col" style="{style}">{truncate_html(name, 60) or "&nbsp;"}{kind}</th>'
    rows = ["".join(map(_cell_html, row, aligned[:shown], [types] * shown)) for row in cells]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    grid = _table_html(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")
    hidden = _hidden_columns_note(headers, shown)
    return f'<div style="overflow-x:auto">{grid}</div>' + (_note(hidden).html if hidden else "")


def _cell_html(content: Rendered, letter: str, types: Sequence[str] | None) -> str:
    """A table cell. Values, numbers and names do not wrap, sentences and long names do."""
    style = "overflow-wrap:anywhere;min-width:7em"  # else what stands beside it is out of sight
    if types or letter == "r" or _UNBROKEN.fullmatch(content.text):
        style = "white-space:nowrap"
    return f'<td style="{_align(letter)};vertical-align:top;{style}">{content.html}</td>'


def _text_lines(
    headers: Sequence[str],
    cells: list[list[Rendered]],
    types: Sequence[str] | None,
    aligned: str,
) -> list[str]:
    top = [[truncate(h, 40) for h in headers]]
    if types:
        top.append([truncate(shown_type(t), 24) for t in types])
    # A cell of several lines continues below its first one.
    body = [
        list(line)
        for row in cells
        for line in itertools.zip_longest(*(f.text.split("\n") for f in row), fillvalue="")
    ]
    widths = [
        max([1, *(display_width(line[i]) for line in top + body)]) for i in range(len(headers))
    ]
    ends = list(itertools.accumulate(width + 2 for width in widths))
    shown = max(1, sum(end - 2 <= TEXT_WIDTH for end in ends))
    remaining_width = TEXT_WIDTH - ends[shown - 1]
    has_sentences = types is None and aligned[-1] == "l"
    # The last column of a listing has sentences, whose beginning matters most: truncate them.
    if shown == len(headers) - 1 and has_sentences and remaining_width >= _MIN_SENTENCE_WIDTH:
        body = [[*row[:-1], _shorten(row[-1], remaining_width)] for row in body]
        shown += 1
    if shown == len(headers) and aligned[-1] == "l":
        # The width of the last column must not depend on its cells, so that a duration in it
        # changes no other character.
        widths[-1] = max(display_width(line[-1]) for line in top)
    rule = ["─" * width for width in widths]
    lines = [
        "  ".join(map(pad, line[:shown], widths[:shown], aligned)).rstrip()
        for line in [*top, rule, *body]
    ]
    hidden = _hidden_columns_note(headers, shown)
    return [*lines, hidden] if hidden else lines


def _shorten(text: str, width: int) -> str:
    return text if display_width(text) <= width else f"{text[: width - 1]}…"


def _hidden_columns_note(headers: Sequence[str], visible_count: int) -> str:
    """The number of hidden columns and the first of their names; empty when there are none."""
    hidden = headers[visible_count:]
    if not hidden:
        return ""
    names = ", ".join([*(truncate(h, 40) for h in hidden[:12]), *(["…"] if hidden[12:] else [])])
    return f"and {count_noun(len(hidden), 'more column')}: {names}"

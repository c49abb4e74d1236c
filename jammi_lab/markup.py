"""What every form is made of: one escape, cells, tables, facts, verdict marks, pictures. Pure strings, no I/O.

    form = table(["name", "rows"], [["papers", 12], ["notes", None]], types=["VARCHAR", "BIGINT"], note="2 rows")
    form.html · form.text                      # the same content for a notebook and for a terminal

    class Status(Shown):                       # gives `__repr__` and `_repr_html_` from one method
        def _form(self) -> Form: ...

A cell may be any Python value or a `Form` (a `mark`, a `dim` note). Everything that is not a Form is escaped, here and nowhere else. The HTML
keeps to what a sanitised notebook keeps (`<table> <details> <img src="data:…">`, inline styles) and sets no foreground or background of its
own, so that it reads on light and dark pages. Nothing depends on the moment: a length of time is rounded by `at_least` and `at_most`, and
written in the last column of a table, where it moves nothing else. Forms of whole objects (Status, Plan, …) are in `jammi_lab.forms`.
"""

import base64
import dataclasses
import datetime as dt
import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HTML_CUT, TEXT_CUT, TITLE_CUT = 80, 48, 2_000
"""Characters of a value shown in a cell of either form, and of the whole that pointing at a cut cell shows."""
HTML_COLUMNS = 200
"""Columns of a table in a page; those beyond it are named below."""
TEXT_WIDTH = 160
"""Characters of a line of a text table; columns beyond it are named below."""
_ROOM = 40
"""Characters that the beginning of a sentence needs."""
LINE = "1px solid rgba(128,128,128,0.4)"
_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL\([\d, ]+\)|DECIMAL)", re.IGNORECASE)
_JOINERS = "\u200c\u200d"

MARKS: Mapping[str, tuple[str, str]] = {
    "fresh": ("✓", "#2f8f5b"),
    "possibly stale": ("~", "#b7791f"),
    "stale": ("●", "#d1632a"),
    "undecidable": ("?", "#7c6bd6"),
    "missing manifest": ("○", "#808890"),
    "damaged": ("✕", "#d0454c"),
}
"""Sign and colour of each verdict word. The colours are mid-tones that stand out from white and from black; the word is always there too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """One content, twice: as HTML that is already escaped, and as text."""

    html: str
    text: str

    def __add__(self, other: "Form") -> "Form":
        """Both on one line."""
        return Form(self.html + other.html, self.text + other.text)


class Shown:
    """Whoever has a `_form()` gets a text `repr` and a notebook form."""

    __slots__ = ()

    def _form(self) -> Form:
        raise TypeError(f"{type(self).__name__} gives no form")

    def __repr__(self) -> str:
        return self._form().text

    def _repr_html_(self) -> str:
        return self._form().html


def escape(value: object) -> str:
    """The value's text, fit for HTML content and attribute values. The one escape of the house."""
    return html.escape(visible(str(value)), quote=True)


def visible(text: str) -> str:
    r"""The text with control characters, bidirectional overrides and lone surrogates written out (`\n`, `\u202e`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text)


def plain(text: object) -> Form:
    """Words as they are."""
    return Form(escape(text), visible(str(text)))


def dim(text: object) -> Form:
    """Words in the background."""
    return Form(f'<span style="opacity:0.7;font-size:90%">{escape(text)}</span>', visible(str(text)))


def code(text: object) -> Form:
    """Something to type."""
    return Form(f"<code>{escape(text)}</code>", visible(str(text)))


def lines(html: str) -> str:
    """Lines of text that is escaped already, each character as wide as the next; a long one is broken between words, which JupyterLab does not do."""
    return f'<pre style="margin:0.3em 0;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere">{html}</pre>'


def stack(*forms: Form | None) -> Form:
    """One below the other; None is left out."""
    there = [f for f in forms if f is not None]
    return Form("".join(f"<div>{f.html}</div>" for f in there), "\n".join(f.text for f in there))


def heading(text: object) -> Form:
    """The first line of a form."""
    return Form(f'<div style="font-weight:600;margin:0.3em 0">{escape(text)}</div>', visible(str(text)))


def details(summary: Form, body: Form) -> Form:
    """A line that opens on a click; in text only the line."""
    opened = f'<div style="margin:0.2em 0 0.4em 1.2em">{body.html}</div>'
    return Form(f'<details><summary style="cursor:pointer">{summary.html}</summary>{opened}</details>', summary.text)


def bullets(items: Iterable[object]) -> Form:
    """A list, one line each."""
    lines = [i if isinstance(i, Form) else plain(i) for i in items]
    inside = "".join(f"<li>{f.html}</li>" for f in lines)
    return Form(f'<ul style="margin:0.1em 0;padding-left:1.2em">{inside}</ul>', "\n".join(f"  - {f.text}" for f in lines))


def seconds(value: float | None) -> str:
    """A length of time, always in the unit that a comparison of notebooks leaves out: `12.3 s`."""
    return "" if value is None else f"{value:.{1 if value >= 1 else 2}f} s"


_STEPS = (0, 1, 2, 5, 10, 20, 30)


def at_least(value: float) -> str:
    """A length of time, rounded down so far that it is the same for another run of the same: `0 s`, `2 s`, `10 min`."""
    unit = _unit_of(value)
    return f"{max(step for step in _STEPS if step <= value // _UNITS[unit])} {unit}"


def at_most(value: float) -> str:
    """A length of time, rounded up so far that it is the same for another run of the same: `1 s`, `5 s`, `20 min`."""
    unit = _unit_of(value)
    fits = [step for step in _STEPS[1:] if value <= step * _UNITS[unit]]
    if fits:
        return f"{fits[0]} {unit}"
    return "1 min" if unit == "s" else "1 h" if unit == "min" else f"{math.ceil(value / _UNITS[unit])} h"


_UNITS = {"s": 1, "min": 60, "h": 3600}


def _unit_of(value: float) -> str:
    return "h" if value >= 3600 else "min" if value >= 60 else "s"


def size(value: int | None) -> str:
    """Bytes for people: `812 B`, `3.4 KiB`, `1.2 MiB`."""
    if value is None:
        return ""
    amount, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{value} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def mark(word: str, shown: str = "") -> Form:
    """A verdict's word with its sign; `shown` to say it otherwise. Words without a sign stay as they are."""
    sign, colour = MARKS.get(word, ("", ""))
    label = escape(shown or word)
    if not sign:
        return Form(label, visible(shown or word))
    kept = ' style="white-space:nowrap"' if len(shown) < 40 else ""
    return Form(f'<span{kept}><b style="color:{colour}">{sign}</b> {label}</span>', visible(shown or word))


def answer(sign: str, sentence: str, clauses: Sequence[str], name: str = "") -> Form:
    """A verdict's sentence with its sign; several clauses become a list below its first word. `name`: the table it is about."""
    lead = plain(f"{name}: " if name else "")
    if len(clauses) < 2:
        return lead + mark(sign, sentence)
    return stack(lead + mark(sign, sentence.partition(":")[0] if sentence.startswith((sign, "match")) else sign), bullets(clauses))


def picture(svg: str, alt: str) -> str:
    """An `<img>` with the drawing inside: it survives sanitising, and no script in it ever runs."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}" style="max-width:100%">'


def as_text(value: Any) -> str:
    """A value as SQL people write it: `true`, `2024-01-31 09:30:00`, `[1, 2]`, `{a: 1}`; NULL inside a nested one is `NULL`."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case dt.datetime():
            return value.isoformat(sep=" ")
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes() | bytearray():
            return "\\x" + bytes(value[: TITLE_CUT // 2]).hex() + ("…" if len(value) > TITLE_CUT // 2 else "")
        case tuple() if hasattr(value, "nanoseconds"):
            return _interval(*value)
        case Mapping():
            return "{" + ", ".join(f"{as_text(k)}: {_nested(v)}" for k, v in _some(value.items(), len(value))) + "}"
        case list() | tuple():
            whole = getattr(value, "whole", len(value))
            return "[" + ", ".join(_nested(v) for v in _some(value, whole)) + "]" + (f" ({whole:,})" if whole > 64 else "")
        case _:
            return str(value)


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """A length of time as the engine writes it: `1 year 2 months 3 days 04:05:06.5`."""
    years, left = (abs(months) // 12, abs(months) % 12)
    sign = "-" if months < 0 else ""
    parts = [f"{s}{n} {word}{'' if n == 1 else 's'}" for s, n, word in ((sign, years, "year"), (sign, left, "month")) if n]
    parts += [f"{days} day{'' if abs(days) == 1 else 's'}"] if days else []
    if nanoseconds or not parts:
        seconds, part = divmod(abs(nanoseconds), 10**9)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{part:09}".rstrip("0") if part else "")
        parts.append(f"-{clock}" if nanoseconds < 0 else clock)
    return " ".join(parts)


def _some(items: Iterable[Any], number: int) -> Iterable[Any]:
    for i, item in enumerate(items):
        if i == 64 and number > 64:
            return
        yield item


def _nested(value: Any) -> str:
    return "NULL" if value is None else repr(value) if isinstance(value, str) else as_text(value)


def cell(value: Any, *, html_cut: int = HTML_CUT, text_cut: int = TEXT_CUT) -> Form:
    """A value in a cell: NULL is told from the empty text and from the text 'NULL'; what is cut is whole in `title`."""
    if isinstance(value, Form):
        return value
    if value is None:
        return Form('<span style="opacity:0.55;font-style:italic">NULL</span>', "NULL")
    text = as_text(value)
    if isinstance(value, str) and (not text.strip() or text == "NULL"):
        quoted = visible(f"'{text[:text_cut]}'")
        return Form(f'<span style="opacity:0.55">{escape(quoted)}</span>' if text != "NULL" else "NULL", quoted)
    return Form(_cut_html(text, html_cut), _cut(text, text_cut))


def _cut(text: str, most: int) -> str:
    return visible(text if len(text) <= most else text[: most - 1] + "…")


def _cut_html(text: str, most: int) -> str:
    if len(text) <= most:
        return escape(text)
    whole = text if len(text) <= TITLE_CUT else f"{text[:TITLE_CUT]}… ({len(text):,} characters)"
    return f'<span title="{escape(whole)}">{escape(text[: most - 1])}…</span>'


def numeric(sql_type: str) -> bool:
    """Whether values of that type line up on the right."""
    return _NUMBER.fullmatch(sql_type.strip()) is not None


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    types: Sequence[str] | None = None,
    aligned: str = "",
    caption: str = "",
    note: str = "",
) -> Form:
    """A table. `types` adds each column's SQL type under its name; `aligned` is one letter per column, `l` or `r` (default: numbers right)."""
    kept = list(rows)
    cells = [[cell(v) for v in row] for row in kept]
    if not aligned:
        aligned = "".join("r" if (numeric(types[i]) if types else _numbers(row[i] for row in kept)) else "l" for i in range(len(headers)))
    return Form(
        _table_html(headers, cells, types, aligned, caption, note),
        _table_text(headers, cells, types, aligned, caption, note),
    )


def _numbers(values: Iterable[Any]) -> bool:
    there = [v for v in values if v is not None]
    return bool(there) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in there)


def _side(letter: str) -> str:
    return "right" if letter == "r" else "left"


def _table_html(headers: Sequence[str], cells: list[list[Form]], types: Sequence[str] | None, aligned: str, caption: str, note: str) -> str:
    head, shown = "", len(headers) if types is None else min(len(headers), HTML_COLUMNS)
    for i, name in enumerate(headers[:shown]):
        kind = f'<br><span style="font-weight:400;opacity:0.65">{_cut_html(types[i].lower(), 40)}</span>' if types else ""
        style = f"text-align:{_side(aligned[i])};vertical-align:bottom;white-space:nowrap;border-bottom:{LINE}"
        head += f'<th scope="col" style="{style}">{_cut_html(name, 60) or "&nbsp;"}{kind}</th>'
    body = "".join("<tr>" + "".join(_td(f, aligned[i], bool(types)) for i, f in enumerate(row[:shown])) + "</tr>" for row in cells)
    grid = f'<table cellpadding="4" style="border-collapse:collapse;margin:0.2em 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    above = heading(caption).html if caption else ""
    said = [each for each in (_beyond(headers, shown), note) if each]
    below = "".join(f'<div style="opacity:0.7;font-size:90%;margin:0.2em 0 0.4em 0">{escape(each)}</div>' for each in said)
    return f'<div style="overflow-x:auto">{above}{grid}{below}</div>'


def _td(form: Form, letter: str, value: bool) -> str:
    """A cell; values and words stay on their line, sentences may wrap."""
    kept = ";white-space:nowrap" if value or len(form.text) <= 24 else ""
    return f'<td style="text-align:{_side(letter)};vertical-align:top{kept}">{form.html}</td>'


def _table_text(headers: Sequence[str], cells: list[list[Form]], types: Sequence[str] | None, aligned: str, caption: str, note: str) -> str:
    top = [[_cut(h, 40) for h in headers]] + ([[_cut(t.lower(), 24) for t in types]] if types else [])
    body = [[f.text for f in row] for row in cells]
    widths = [max([1, *(width(line[i]) for line in top + body)]) for i in range(len(headers))]
    shown, used = 0, 0
    while shown < len(headers) and (shown == 0 or used + widths[shown] <= TEXT_WIDTH):
        used += widths[shown] + 2
        shown += 1
    room = TEXT_WIDTH - used
    if shown == len(headers) - 1 and types is None and aligned[-1] == "l" and room >= _ROOM:  # the sentences of a listing, whose beginning says most
        body = [[*row[:-1], row[-1] if width(row[-1]) <= room else f"{row[-1][: room - 1]}…"] for row in body]
        shown += 1
    if shown == len(headers) and shown and aligned[-1] == "l":
        widths[-1] = max(width(line[-1]) for line in top)  # what stands last decides no other character, so that a length of time may
    rule = "  ".join("─" * w for w in widths[:shown])
    lines = [_line(line[:shown], widths, aligned) for line in top] + [rule] + [_line(line[:shown], widths, aligned) for line in body]
    more = _beyond(headers, shown)
    return "\n".join(
        [*([visible(caption)] if caption else []), *(lines if headers else []), *([more] if more else []), *([visible(note)] if note else [])]
    )


def _beyond(headers: Sequence[str], shown: int) -> str:
    """How many columns are not shown, and the first of them; empty when all are."""
    hidden = ", ".join(_cut(h, 40) for h in headers[shown : shown + 12]) + (", …" if len(headers) > shown + 12 else "")
    return f"and {count(len(headers) - shown, 'more column')}: {hidden}" if shown < len(headers) else ""


def _line(texts: Sequence[str], widths: Sequence[int], aligned: str) -> str:
    return "  ".join(_pad(t, widths[i], aligned[i]) for i, t in enumerate(texts)).rstrip()


def _pad(text: str, wide: int, letter: str) -> str:
    space = " " * max(0, wide - width(text))
    return space + text if letter == "r" else text + space


def width(text: str) -> int:
    """Columns that a text takes in a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) or c in _JOINERS else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def facts(title: Form | str, pairs: Iterable[tuple[str, Any]], *, note: str = "") -> Form:
    """A thing and what there is to say about it, one line each; a pair whose value is the empty text is left out."""
    lines = [(label, cell(value, html_cut=400, text_cut=120)) for label, value in pairs if not (isinstance(value, str) and not value)]
    wide = max([0, *(width(label) for label, _ in lines)])
    rows = "".join(
        f'<tr><td style="text-align:left;vertical-align:top;opacity:0.7;white-space:nowrap">{escape(label)}</td>'
        f'<td style="text-align:left;vertical-align:top">{f.html}</td></tr>'
        for label, f in lines
    )
    top = title if isinstance(title, Form) else plain(title)
    grid = f'<table cellpadding="4" style="border-collapse:collapse;margin:0.2em 0"><tbody>{rows}</tbody></table>' if rows else ""
    below = f'<div style="opacity:0.7;font-size:90%">{escape(note)}</div>' if note else ""
    text = [top.text, *(f"  {_pad(label, wide, 'l')}  {f.text}".rstrip() for label, f in lines), *([visible(note)] if note else [])]
    return Form(f'<div style="margin:0.3em 0"><b>{top.html}</b></div>{grid}{below}', "\n".join(text))

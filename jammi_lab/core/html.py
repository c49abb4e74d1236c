"""Building blocks of every repr, as HTML and as text: escaping, cells, lists, verdict icons,
images. Pure functions on strings, without I/O.

    form = verdict_icon("stale") + plain_text(" since yesterday")
    form.html, form.text            # the same content for a notebook and for a terminal

    class Status(ReprMixin):        # gets `__repr__` and `_repr_html_` from one method
        def _rendered(self) -> Rendered: ...

A cell may be any Python value or a `Rendered` (a `verdict_icon`, a `dim_text` note). Everything
that is not a Rendered is escaped, here and nowhere else. The HTML is limited to what a sanitised
notebook keeps (`<table> <details> <img src="data:…">`, inline styles). It sets no foreground or
background colour but that of a verdict's icon, so that it is readable on light and dark pages.

The output does not vary from run to run: durations are rounded by `round_down_duration` and
`round_up_duration`, and shown in the last column of a table, where they shift nothing else. The
form of an object, a title, facts, a table and notes, is in `jammi_lab.core.forms`.
"""

import base64
import dataclasses
import datetime as dt
import html
import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jammi_lab.core.argument_suggestions import answer_arguments, answer_calls
from jammi_lab.core.attribute_suggestions import (
    answer_assignment,
    answer_deletion,
    answer_guess,
    answer_item,
    answer_operand,
)

MAX_HTML_CHARS, MAX_TEXT_CHARS, MAX_TITLE_CHARS = 80, 48, 2_000
"""Characters of a value shown in a cell of either form, and of the full value in the tooltip of a
truncated cell."""
_JOINERS = "\u200c\u200d"

VERDICT_ICONS: Mapping[str, tuple[str, str]] = {
    "fresh": ("✓", "#1d7347"),
    "possibly stale": ("~", "#8a5a00"),
    "stale": ("●", "#bf4310"),
    "undecidable": ("?", "#6650c4"),
    "missing manifest": ("○", "#5c656e"),
    "damaged": ("✕", "#b3202c"),
}
"""Icon and colour of each verdict. The icon is white on its colour, or in its colour on white: a
contrast of at least 4.5 : 1 on any page. The word is always shown, too."""

VERDICT_MEANINGS: Mapping[str, str] = {
    "fresh": "Up to date: computed by its current definition from inputs that have not changed "
    "since",
    "possibly stale": "Its own inputs are unchanged, but an upstream table is out of date: "
    "recomputing that one may change this one, too",
    "stale": "Out of date: an input or its definition has changed since it was computed",
    "undecidable": "Whether it is up to date is unknown: the state of an input cannot be "
    "determined",
    "missing manifest": "The record of what it was computed from is missing",
    "damaged": "The stored file is missing, or differs from the one that was written",
}
"""What each verdict means, for readers who know nothing of it: the tooltip of its word."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rendered:
    """The same content as escaped HTML and as text."""

    html: str
    text: str

    def __add__(self, other: "Rendered") -> "Rendered":
        """Both on one line."""
        return Rendered(self.html + other.html, self.text + other.text)

    @property
    def data(self) -> dict[str, str]:
        """Both by MIME type."""
        return {"text/plain": self.text, "text/html": self.html}


class ReprMixin:
    """Mixin that derives the text `repr` and the notebook form from `_rendered()`, and answers
    attributes and items that do not exist, and calls whose arguments do not fit."""

    __slots__ = ()

    if not TYPE_CHECKING:  # else a type checker would accept every attribute
        __init_subclass__ = classmethod(answer_calls)
        __getattr__ = answer_guess
        __getitem__ = answer_item
        __setitem__ = answer_assignment
        __delitem__ = answer_deletion
        __lt__ = __le__ = __gt__ = __ge__ = answer_operand
        __add__ = __sub__ = __mul__ = __truediv__ = answer_operand

    def _rendered(self) -> Rendered:
        raise TypeError(f"{type(self).__name__} has no form")

    @answer_arguments
    def __repr__(self) -> str:
        return self._rendered().text

    @answer_arguments
    def _repr_html_(self) -> str:
        return self._rendered().html


T = TypeVar("T")


class CalledCollection:
    """What is called as `ws.tables` is, and indexed as `ws.sources`."""

    def __call__(self, name: str | None = None) -> Any:
        """All of it, or the item of that name."""
        return self if name is None else self[name]  # type: ignore[index]


class NamedCollection(CalledCollection, Generic[T]):
    """What a workspace has under names: iterable, `in`, `len()`, displayed as its list."""

    _records: Any
    """The repository of its records."""

    def list(self) -> Any:
        """All of it, by name."""
        raise NotImplementedError

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._records.get(name) is not None

    def __iter__(self) -> Iterator[T]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._records.list())

    def _rendered(self) -> Rendered:
        return self.list()._rendered()  # type: ignore[no-any-return]


def escape(value: object) -> str:
    """The value's text, escaped for HTML content and attribute values. All escaping happens
    here."""
    return html.escape(escape_invisible(str(value)), quote=True)


def escape_invisible(text: str) -> str:
    r"""The text with control characters, bidirectional overrides and lone surrogates written as
    escape sequences (`\n`, `\u202e`)."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )


def plain_text(text: object) -> Rendered:
    """Plain text."""
    return Rendered(escape(text), escape_invisible(str(text)))


def dim_text(text: object) -> Rendered:
    """Dimmed, smaller text."""
    return Rendered(
        f'<span style="opacity:0.7;font-size:90%">{escape(text)}</span>',
        escape_invisible(str(text)),
    )


def inline_code(text: object) -> Rendered:
    """Text to type, in a monospaced font."""
    return Rendered(f"<code>{escape(text)}</code>", escape_invisible(str(text)))


def preformatted(html: str) -> str:
    """Preformatted lines of escaped text. Long lines wrap between words, which JupyterLab's default
    does not."""
    return (
        '<pre style="margin:0.3em 0;white-space:pre-wrap;word-break:normal;'
        f'overflow-wrap:anywhere">{html}</pre>'
    )


def vstack(*forms: Rendered | None) -> Rendered:
    """The forms below each other; None is skipped."""
    present = [f for f in forms if f is not None]
    return Rendered(
        "".join(f"<div>{f.html}</div>" for f in present), "\n".join(f.text for f in present)
    )


def details(summary: Rendered, body: Rendered) -> Rendered:
    """A line that expands on a click. The text form has only the line."""
    content = f'<div style="margin:0.2em 0 0.4em 1.2em">{body.html}</div>'
    return Rendered(
        f'<details><summary style="cursor:pointer">{summary.html}</summary>{content}</details>',
        summary.text,
    )


def bullet_list(items: Iterable[object]) -> Rendered:
    """A bulleted list."""
    lines = [i if isinstance(i, Rendered) else plain_text(i) for i in items]
    items_html = "".join(f"<li>{f.html}</li>" for f in lines)
    return Rendered(
        f'<ul style="margin:0.1em 0;padding-left:1.2em">{items_html}</ul>',
        "\n".join(f"  - {f.text}" for f in lines),
    )


def format_seconds(value: float | None) -> str:
    """A duration that was measured, always in seconds, which notebook comparisons ignore: `12.3 s`,
    at least `0.01 s`."""
    return "" if value is None else f"{max(value, 0.01):.{1 if value >= 1 else 2}f} s"


_ROUND_NUMBERS = (0, 1, 2, 5, 10, 20, 30)


def round_down_duration(value: float) -> str:
    """A duration rounded down so coarsely that a repeated run shows the same: `0 s`, `2 s`, `10
    min`."""
    unit = _unit_of(value)
    return f"{max(step for step in _ROUND_NUMBERS if step <= value // _UNIT_SECONDS[unit])} {unit}"


def round_up_duration(value: float) -> str:
    """A duration rounded up so coarsely that a repeated run shows the same: `1 s`, `5 s`, `20
    min`."""
    unit = _unit_of(value)
    fits = [step for step in _ROUND_NUMBERS[1:] if value <= step * _UNIT_SECONDS[unit]]
    if fits:
        return f"{fits[0]} {unit}"
    return (
        "1 min"
        if unit == "s"
        else "1 h"
        if unit == "min"
        else f"{math.ceil(value / _UNIT_SECONDS[unit])} h"
    )


_UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600}


def _unit_of(value: float) -> str:
    return "h" if value >= 3600 else "min" if value >= 60 else "s"


def format_bytes(value: int | None) -> str:
    """A number of bytes with a unit: `812 B`, `3.4 KiB`, `1.2 MiB`."""
    if value is None:
        return ""
    amount, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{value} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def count_noun(number: int, singular: str, plural: str = "") -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def unmarked_word(word: str) -> str:
    """The word of a verdict without the asterisk that marks grounds."""
    return word.removesuffix("*")


def verdict_icon(word: str, label: str = "") -> Rendered:
    """A verdict, marked or not, with its icon. `label` replaces the word. Words without an icon are
    shown as they are."""
    label = label or word
    word = unmarked_word(word)
    icon, colour = VERDICT_ICONS.get(word, ("", ""))
    escaped_label = escape(label)
    if not icon:
        return Rendered(escaped_label, escape_invisible(label))
    style = ' style="white-space:nowrap"' if len(label) < 20 else ""
    if label.startswith(word):  # not for other uses of the icon
        style = f' title="{escape(VERDICT_MEANINGS[word])}"{style}'
    chip = f"color:#fff;background-color:{colour};border-radius:3px;padding:0 3px"
    return Rendered(
        f'<span{style}><b style="{chip}">{icon}</b> {escaped_label}</span>',
        escape_invisible(label),
    )


def verdict_sentence(label: str, sentence: str, clauses: Sequence[str], name: str = "") -> Rendered:
    """A verdict's sentence with its icon. Several clauses become a list below its first word.
    `name` is the table."""
    lead = plain_text(f"{name}: " if name else "")
    if len(clauses) < 2:
        return lead + verdict_icon(label, sentence)
    return vstack(
        lead
        + verdict_icon(
            label, sentence.partition(":")[0] if sentence.startswith((label, "match")) else label
        ),
        bullet_list(clauses),
    )


def svg_image(svg: str, alt: str) -> str:
    """An `<img>` with the SVG embedded. It survives sanitising, and scripts in it never run."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return (
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}" style="max-width:100%">'
    )


def round_float(value: float) -> str:
    """A number for display in a panel, without the digits that binary fractions add:
    `183.79999999999998` is `183.8`. Numbers with more digits than a column has room for are
    rounded."""
    text = to_text(value)
    if len(text) <= _MAX_FLOAT_CHARS or not math.isfinite(value):
        return text
    rounded = f"{value:.{_EXACT_DIGITS}g}"
    if len(rounded) > _MAX_FLOAT_CHARS and "e" not in rounded and abs(value) < _MAX_ROUNDED:
        rounded = f"{value:.{_ROUNDED_DIGITS}g}"
    return rounded if set(rounded) & set(".e") else f"{rounded}.0"


_MAX_FLOAT_CHARS = 12
_EXACT_DIGITS = 15
"""Every decimal number with so many digits is itself again as a double."""
_ROUNDED_DIGITS = 10
_MAX_ROUNDED = 1e9


def to_text(value: Any, max_items: int | None = 64) -> str:
    """A value in SQL notation: `true`, `2024-01-31 09:30:00`, `[1, 2]`, `{a: 1}`. A nested NULL is
    `NULL`. Of a list so many items are written, with their number; None writes all, and all bytes.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return (
                repr(value)
                if math.isfinite(value)
                else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
            )
        case dt.datetime():
            return value.isoformat(sep=" ")
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes() | bytearray():
            shown_bytes = bytes(value if max_items is None else value[: MAX_TITLE_CHARS // 2])
            return "\\x" + shown_bytes.hex() + "…" * (len(shown_bytes) < len(value))
        case tuple() if hasattr(value, "nanoseconds"):
            return _interval_text(*value)
        case Mapping():
            fields = itertools.islice(value.items(), max_items)
            pairs = (f"{to_text(k)}: {_nested_text(v, max_items)}" for k, v in fields)
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            total, items = getattr(value, "total", len(value)), value[:max_items]
            texts = ", ".join(_nested_text(item, max_items) for item in items)
            return f"[{texts}]" + (f" ({total:,})" if total > len(items) else "")
        case _:
            return str(value)


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    """An interval as the engine prints it: `1 year 2 months 3 days 04:05:06.5`."""
    years, remaining_months = (abs(months) // 12, abs(months) % 12)
    sign = "-" if months < 0 else ""
    parts = [
        f"{s}{n} {word}{'' if n == 1 else 's'}"
        for s, n, word in ((sign, years, "year"), (sign, remaining_months, "month"))
        if n
    ]
    parts += [f"{days} day{'' if abs(days) == 1 else 's'}"] if days else []
    if nanoseconds or not parts:
        seconds, fraction = divmod(abs(nanoseconds), 10**9)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (
            f".{fraction:09}".rstrip("0") if fraction else ""
        )
        parts.append(f"-{clock}" if nanoseconds < 0 else clock)
    return " ".join(parts)


def _nested_text(value: Any, max_items: int | None) -> str:
    if isinstance(value, str):
        return repr(value)
    return "NULL" if value is None else to_text(value, max_items)


def cell(value: Any, *, html_cut: int = MAX_HTML_CHARS, text_cut: int = MAX_TEXT_CHARS) -> Rendered:
    """A value in a cell. NULL is distinguishable from the empty string and from the string 'NULL'.
    A truncated value is complete in `title`."""
    if isinstance(value, Rendered):
        return value
    if value is None:
        return Rendered('<span style="opacity:0.55;font-style:italic">NULL</span>', "NULL")
    text = to_text(value)
    if isinstance(value, str) and (not text.strip() or text == "NULL"):
        quoted = escape_invisible(f"'{text[:text_cut]}'")
        return Rendered(
            f'<span style="opacity:0.55">{escape(quoted)}</span>' if text != "NULL" else "NULL",
            quoted,
        )
    return Rendered(truncate_html(text, html_cut), truncate(text, text_cut))


def truncate(text: str, max_chars: int) -> str:
    """A text of at most so many characters."""
    return escape_invisible(text if len(text) <= max_chars else text[: max_chars - 1] + "…")


def truncate_html(text: str, max_chars: int) -> str:
    """As `truncate`, escaped, with the complete text in `title`."""
    if len(text) <= max_chars:
        return escape(text)
    return f'<span title="{escape(tooltip(text))}">{escape(text[: max_chars - 1])}…</span>'


def tooltip(text: str) -> str:
    """The text, or its beginning and length where it is very long."""
    if len(text) <= MAX_TITLE_CHARS:
        return text
    return f"{text[:MAX_TITLE_CHARS]}… ({len(text):,} characters)"


def pad(text: str, target_width: int, letter: str) -> str:
    """A text filled up to a width in a terminal: to the left for "r", else to the right."""
    space = " " * max(0, target_width - display_width(text))
    return space + text if letter == "r" else text + space


def display_width(text: str) -> int:
    """Columns of a text in a terminal: two per wide character, none per combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or c in _JOINERS
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )

"""What the forms of several objects share: first rows, tallies, counts, errors.

Each object renders itself, by `jammi_lab.core.forms`; the lineage graph is drawn in
`features.pictures.lineage_svg`. Without ids, times and ages, equal states have equal
representations.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core import html
from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.display_values import to_rows_display
from jammi_lab.core.errors import JammiError
from jammi_lab.core.forms import table
from jammi_lab.core.html import (
    Rendered,
    count_noun,
    plain_text,
)
from jammi_lab.core.verdicts import (
    LABELS_BY_SEVERITY,
    Fresh,
    Undecidable,
    Verdict,
)

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_SHOWN_ROWS = 10
_ALL_DIGITS = 17

CHECK_ICONS = {"pass": "fresh", "fail": "damaged", "error": "undecidable"}
"""The verdict whose icon an outcome of a check has."""


def materialize_command() -> str:
    """What creates a table."""
    return cell_or_python("%%jammi -m NAME", "ws.materialize(name, sql)")


def format_row_count(number: int | None) -> str:
    """The number of rows, where known."""
    return "" if number is None else f"{number:,}"


def preview(
    columns: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    total: int | None = None,
    has_more: bool = False,
    caption: str = "",
) -> Rendered:
    """The first rows of a result. `total` is the number of rows, if known; otherwise `has_more`
    tells whether there are further rows."""
    if not columns:
        return plain_text("no columns")
    row_count = len(rows)
    if total is not None and total > row_count:
        note = f"showing {row_count:,} of {count_noun(total, 'row')}"
    elif total is None and has_more:
        note = "first row" if row_count == 1 else f"first {row_count:,} rows"
    else:
        note = count_noun(row_count, "row") if row_count else "no rows"
    return table(columns, rows, types=types, caption=caption, note=note)


def rows_preview(
    rows: "pa.Table",
    types: Sequence[str],
    total: int | None,
    caption: str = "",
    before: "pa.Table | None" = None,
) -> Rendered:
    """The first of some rows, of which there are `total`; None: an unknown number. Of the rows that
    were `before`, values that differ are shown, too."""
    values = to_rows_display(rows.slice(0, _MAX_SHOWN_ROWS))
    if before is not None:
        sides = [table.slice(0, _MAX_SHOWN_ROWS) for table in (before, rows)]
        former = to_rows_display(sides[0])
        exact = [to_rows_display(side, digits=_ALL_DIGITS) for side in sides]
        values = [
            tuple(map(_change, *versions)) for versions in zip(former, values, *exact, strict=True)
        ]
    return preview(rows.column_names, types, values, total=total, has_more=True, caption=caption)


def _change(old: object, new: object, exact_old: object, exact_new: object) -> Rendered:
    """A value, and what it was where that is another: in full where they differ only there."""
    was, now = html.cell(old), html.cell(new)
    if was == now:
        was, now = html.cell(exact_old), html.cell(exact_new)
    if was == now:
        return html.cell(new)
    return Rendered(f"{was.html} → {now.html}", f"{was.text} → {now.text}")


def is_repairable(value: Verdict) -> bool:
    """Whether recomputing is the next step. For an undecidable table it is the reason why."""
    return value.known_stale if isinstance(value, Undecidable) else not isinstance(value, Fresh)


def tally(words: Iterable[str]) -> str:
    """`3 fresh, 1 stale`: verdicts, the most severe last, then other words."""
    counts = Counter(words)
    known = [word for word in reversed(LABELS_BY_SEVERITY) if word in counts]
    others = sorted(word for word in counts if word not in known)
    return ", ".join(f"{counts[word]:,} {word}" for word in [*known, *others])


def error(error: JammiError) -> Rendered:
    """An error for display: at most five lines."""
    lines = error.rendered_lines()
    content = "".join(f"{plain_text(line).html}\n" for line in lines).rstrip("\n")
    return Rendered(html.preformatted(content), "\n".join(plain_text(line).text for line in lines))

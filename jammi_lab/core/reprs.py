"""Representations of the public objects: each function takes values and returns a `Rendered` (the
same content as HTML and as text).

    preview(columns, types, rows, …)    a Result
    result_table(…)                     a ResultTable
    sources(rows), source(…)            registered sources
    status(rows)                        the status board
    plan(…), run_report(steps, …)       a plan and its outcome
    check(report)                       a report
    error(e)                            an error

The badge of a result is in `features.outputs.badge_reprs`, and the lineage graph is drawn in
`features.pictures.lineage_svg`. Without ids, times and ages, equal states have equal
representations.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.core import html
from jammi_lab.core.command_hints import cell_or_python, command, command_line
from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import (
    Rendered,
    bullet_list,
    cell,
    count_noun,
    definition_list,
    details,
    dim_text,
    format_bytes,
    plain_text,
    verdict_icon,
    vstack,
)
from jammi_lab.core.html_tables import table
from jammi_lab.core.records import RunStep, Step
from jammi_lab.core.verdicts import (
    Fresh,
    Undecidable,
    Verdict,
    marked_label,
    remarks_on,
)

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_SHOWN_ROWS = 10

_VERDICT_ORDER = (
    "fresh",
    "fresh*",
    "possibly stale",
    "stale",
    "undecidable",
    "missing manifest",
    "damaged",
)
CHECK_ICONS = {"pass": "fresh", "fail": "damaged", "error": "undecidable"}
"""The verdict whose icon an outcome of a check has."""
_MAX_CAUSE_LINES = 5
"""Causes of a row in a text table. Further ones are counted."""
_MAX_LISTED_TABLES = 200
"""Tables listed of a source."""


class BoardRow(Protocol):
    """The row interface that the status board needs."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int | None: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def index(self) -> str | None: ...
    @property
    def checks(self) -> str | None: ...


def _materialize_command() -> str:
    return cell_or_python("%%jammi -m NAME", "ws.materialize(name, sql)")


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
    lines = [list(row) for row in rows]
    shown = [
        column
        for column, header in enumerate(headers)
        if header not in optional or any(_has_content(line[column]) for line in lines)
    ]
    return table(
        [headers[column] for column in shown],
        [[_or_empty(line[column]) for column in shown] for line in lines],
        aligned="".join(aligned[column] for column in shown),
        caption=caption,
        note=note,
    )


def _has_content(value: Any) -> bool:
    return bool(value.text if isinstance(value, Rendered) else value)


def format_row_count(number: int | None) -> str:
    """The number of rows, where known."""
    return "" if number is None else f"{number:,}"


def _or_empty(value: Any) -> Any:
    return (
        plain_text("")
        if value is None or value == ""
        else cell(value, html_cut=200, text_cut=120)
        if isinstance(value, str)
        else value
    )


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
    caption: str, rows: "pa.Table", types: Sequence[str], total: int | None = None
) -> Rendered:
    """The first of some rows, of which there are `total`; None: no more than these."""
    first = rows.slice(0, _MAX_SHOWN_ROWS)
    values = [list(row) for row in zip(*map(to_display, first.columns), strict=True)]
    total = rows.num_rows if total is None else total
    return preview(rows.schema.names, types, values, total=total, caption=caption)


def result_table(
    name: str,
    *,
    version: int,
    kind: str,
    rows: int | None,
    columns: Sequence[tuple[str, str]],
    inputs: Sequence[str] = (),
    key: Sequence[str] = (),
    bytes: int | None = None,
    status: str = "ready",
    outcome: str = "",
    note: str = "",
) -> Rendered:
    """A version of a recipe with its properties and inputs. `outcome` is computed or reused, and is
    shown for a ready one."""
    state = outcome if status == "ready" else status
    title = f"{name}, version {version}" + (f": {state}" if state else "")
    column_list = ", ".join(f"{n} {t.lower()}" for n, t in columns[:12]) + (
        f", and {len(columns) - 12:,} more" if len(columns) > 12 else ""
    )
    contents = count_noun(rows, "row") if rows is not None else ""
    if contents and bytes is not None:
        contents += f", {format_bytes(bytes)}"
    pairs = [("kind", kind), ("holds", contents), ("columns", column_list)]
    return definition_list(
        title, [*pairs, ("key", ", ".join(key)), ("made from", ", ".join(inputs))], note=note
    )


def result_tables(rows: Iterable[tuple[str, int, str, str, int | None, int | None]]) -> Rendered:
    """Versions, one line each: name, version, kind, status, rows, bytes."""
    lines = [(n, v, k, s, format_row_count(r), format_bytes(b)) for n, v, k, s, r, b in rows]
    if not lines:
        return plain_text(f"No result tables yet: {_materialize_command()} creates one.")
    return listing_table(
        ["name", "version", "kind", "status", "rows", "size"],
        lines,
        aligned="lrllrr",
        note=count_noun(len(lines), "result table"),
    )


def sources(rows: Iterable[tuple[str, str, str, str, str, str]]) -> Rendered:
    """Registered sources, one line each: name, kind, location (credential-free), number of tables,
    anchor, last observed state with its method."""
    lines = list(rows)
    if not lines:
        add = cell_or_python("%jammi add NAME LOCATION", "ws.sources.add(name, location)")
        return plain_text(f"No sources yet: {add} registers one.")
    return listing_table(
        ["name", "kind", "location", "tables", "anchor", "last seen"],
        lines,
        aligned="llllll",
        optional=("tables", "last seen"),
        note=count_noun(len(lines), "source"),
    )


def source(
    name: str,
    kind: str,
    location: str,
    anchor: str,
    tables: Sequence[tuple[str, Mapping[str, str]]],
    last_observed: str = "",
    table_list: str = "",
    options: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    first_rows: Any = None,
) -> Rendered:
    """One source: kind, location, options, tables, last observed state, the columns of its tables
    where known, what its reader decided, and its first rows (an Arrow table)."""
    pairs: list[tuple[str, Any]] = [
        ("kind", kind),
        ("location", location),
        ("tables", table_list),
        ("anchor", anchor),
        ("last seen", last_observed),
        ("options", ", ".join(f"{n}={value!r}" for n, value in (options or {}).items())),
    ]
    for label, columns in tables:
        pairs.append(
            (label or "columns", ", ".join(f"{n} {t.lower()}" for n, t in columns.items()))
        )
    pairs += [("note", note) for note in notes]
    form = definition_list(name, pairs)
    if first_rows is None or first_rows.num_rows == 0:
        return form
    values = list(zip(*(column.to_pylist() for column in first_rows.columns), strict=True))
    types = [t.lower() for _, columns in tables for t in columns.values()]
    return vstack(form, preview(first_rows.column_names, types, values, has_more=True))


def columns(name: str, rows: Iterable[tuple[str, str]]) -> Rendered:
    """Names and SQL types of the columns of one relation."""
    lines = [(n, t.lower()) for n, t in rows]
    return listing_table(
        ["column", "type"], lines, aligned="ll", caption=name, note=count_noun(len(lines), "column")
    )


def source_tables(name: str, tables: Sequence[str]) -> Rendered:
    """The tables of a source, one line each, with the command that shows the columns of one."""
    listed_tables = tables[:_MAX_LISTED_TABLES]
    hidden_note = (
        f"; {len(tables) - len(listed_tables):,} more are not shown"
        if len(tables) > len(listed_tables)
        else ""
    )
    columns = cell_or_python(
        f"%jammi {command_line('schema', f'{name}.{tables[0]}')}",
        f"ws.sources[{name!r}].columns({tables[0]!r})",
    )
    note = f"{count_noun(len(tables), 'table')}{hidden_note}; {columns} shows the columns of one"
    return listing_table(
        ["table"], [[table] for table in listed_tables], aligned="l", caption=name, note=note
    )


def status(
    rows: Sequence[BoardRow], note: str = "", held: Mapping[str, str] | None = None
) -> Rendered:
    """The status board: one line per recipe with verdict and reason, and the next command unless
    all are fresh. `held`: by name, since when, by whom and why a recipe is held."""
    if not rows:
        return plain_text(f"No recipes yet: {_materialize_command()} creates one.")
    lines = [
        [
            row.name,
            row.version,
            verdict_icon(marked_label(row.verdict)),
            format_row_count(row.rows),
            format_bytes(row.bytes),
            row.index,
            row.checks,
            (held or {}).get(row.name, ""),
            _causes(remarks_on(row.verdict)),
        ]
        for row in rows
    ]
    optional = ["index", "checks", "held"]
    not_fresh = [r for r in rows if not isinstance(r.verdict, Fresh)]
    if not not_fresh:
        if not any(remarks_on(row.verdict) for row in rows):
            optional.append("why")
    elif not note and (skipped := _held_alone(not_fresh, held or {})):
        computing, ending = command("recompute", skipped), command("unhold", skipped)
        note = f"{computing} computes it nevertheless, {ending} ends its hold"
    elif not note and any(is_repairable(r.verdict) for r in not_fresh):
        note = f"Run {command('plan')} to preview, {command('recompute')} to update"
    elif not note:
        note = f"{command('why', not_fresh[0].name)} shows details"
    caption = f"{count_noun(len(rows), 'recipe')}: {tally(marked_label(r.verdict) for r in rows)}"
    return listing_table(
        ["name", "version", "verdict", "rows", "size", "index", "checks", "held", "why"],
        lines,
        aligned="lrlrrllll",
        optional=optional,
        caption=caption,
        note=note,
    )


def _held_alone(rows: Sequence[BoardRow], held: Mapping[str, str]) -> str:
    """The first recipe of those that are not fresh, if all that can be repaired are held."""
    names = [row.name for row in rows if is_repairable(row.verdict)]
    return names[0] if names and all(held.get(name) for name in names) else ""


def is_repairable(value: Verdict) -> bool:
    """Whether recomputing is the next step. For an undecidable table it is the reason why."""
    return value.known_stale if isinstance(value, Undecidable) else not isinstance(value, Fresh)


def tally(words: Iterable[str]) -> str:
    """`3 fresh, 1 stale`, in the order of the verdicts."""
    counts = Counter(words)
    known = [word for word in _VERDICT_ORDER if word in counts]
    others = sorted(word for word in counts if word not in _VERDICT_ORDER)
    return ", ".join(f"{counts[word]:,} {word}" for word in [*known, *others])


def _causes(reasons: Sequence[str]) -> Rendered:
    """The reasons of a row: the first one, which expands to all of them; as text one line each."""
    if len(reasons) <= 1:
        return plain_text(reasons[0] if reasons else "")
    expandable = details(
        plain_text(f"{reasons[0]}, and {len(reasons) - 1} more"), bullet_list(reasons[1:])
    )
    hidden_count = len(reasons) - _MAX_CAUSE_LINES
    lines = [*map(html.escape_invisible, reasons[:_MAX_CAUSE_LINES])]
    if hidden_count > 0:
        lines.append(f"and {hidden_count:,} more")
    return Rendered(expandable.html, "\n".join(lines))


def plan(
    certain: Sequence[Step],
    possible: Sequence[Step],
    reused: Sequence[Step],
    blocked: Sequence[Step],
    checks: Sequence[Step] = (),
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    skipped: Sequence[str] = (),
) -> Rendered:
    """The dry run: the planned steps with reasons and estimated durations. `skipped`
    are undecidable tables that were not requested by name."""
    kinds = (
        ("recompute", certain),
        ("recompute if needed", possible),
        ("reuse", reused),
        ("blocked", blocked),
        ("check", checks),
    )
    lines = [_plan_line(s, label) for label, steps in kinds for s in steps]
    skipped_note = _skipped_note(skipped)
    if not lines:
        return vstack(
            verdict_icon("fresh", "Nothing to do: no table is known to be stale."),
            dim_text(skipped_note) if skipped_note else None,
        )
    caption = "Plan: " + ", ".join(
        f"{len(steps):,} to {label}" if label != "blocked" else f"{len(steps):,} blocked"
        for label, steps in kinds
        if steps
    )
    grid = listing_table(
        ["name", "action", "why", "estimate"],
        lines,
        aligned="llll",
        caption=caption,
        note=skipped_note,
    )
    has_past_runs = any(step.seconds is not None for step in (*certain, *possible))
    bounds = f"{estimated_time(at_least or 0.0, at_most or 0.0)}. " if has_past_runs else ""
    verb = cell_or_python(".apply() or %jammi recompute", ".apply()")
    runs = (
        f"{bounds}Dry run; use {verb} to execute."
        if certain or possible or reused or checks
        else "None of these steps can be run here."
    )
    estimates = [
        dim_text(f"{step.name}: {step.estimate}.")
        for step in (*certain, *possible)
        if step.estimate is not None
    ]
    return vstack(grid, *estimates, _waiting_note(blocked), dim_text(runs))


def estimated_time(at_least: float, at_most: float) -> str:
    """The duration of a plan, coarse enough to be equal from run to run: `Estimated time: 0 s to 5
    s`."""
    low, high = html.round_down_duration(at_least), html.round_up_duration(at_most)
    return f"Estimated time: {low} to {high}"


def _plan_line(step: Step, label: str) -> tuple[str, str, Rendered, str]:
    action = f"increment: {step.increment}" if step.increment else label
    duration = duration_bound(step.seconds) or "never ran"
    return step.name, action, _step_reasons(step, label), duration


def _step_reasons(step: Step, label: str) -> Rendered:
    """The reasons of a step. A step without reasons was requested by name although its state is
    undecidable."""
    undecided = (
        ["requested by name; its freshness cannot be decided"]
        if label.startswith("recompute")
        else []
    )
    return _causes([str(r) for r in step.reasons] or undecided)


def _skipped_note(names: Sequence[str]) -> str:
    return f"undecidable, skipped unless requested by name: {', '.join(names)}" if names else ""


def duration_bound(seconds: float | None) -> str:
    """A coarse upper bound, equal from run to run. The exact duration is in the step itself."""
    return "" if seconds is None else f"within {html.round_up_duration(seconds)}"


def _waiting_note(steps: Iterable[Step | RunStep]) -> Rendered | None:
    """The tables that remain possibly stale because of blocked steps."""
    notes = [
        f"{', '.join(s.waiting)} remain{'s' if len(s.waiting) == 1 else ''} possibly stale "
        f"because of {s.name}"
        for s in steps
        if s.waiting
    ]
    return dim_text("; ".join(notes)) if notes else None


def outcome_text(step: RunStep) -> str:
    """The outcome of a step, as text."""
    if step.outcome != "cut_off":
        return step.outcome
    return (
        "not needed: already up to date" if step.meanwhile else "not needed: inputs came out equal"
    )


def run_report(
    steps: Sequence[RunStep],
    deviations: Sequence[object] = (),
    *,
    skipped: Sequence[str] = (),
    changes: Mapping[str, str] | None = None,
) -> Rendered:
    """The outcome of a plan, one line per step, then what changed meanwhile. `skipped` are
    undecidable tables that were not requested by name; `changes` says of tables in which rows they
    differ from the version before."""
    texts = changes or {}
    skipped_note = dim_text(_skipped_note(skipped)) if skipped else None
    if not steps:
        return vstack(verdict_icon("fresh", "Nothing to do."), skipped_note)
    icons = {
        "computed": "fresh",
        "reused": "fresh",
        "cut_off": "fresh",
        "failed": "damaged",
        "rejected": "damaged",
        "blocked": "undecidable",
        "skipped": "missing manifest",
        **CHECK_ICONS,
    }
    lines = [
        (
            step.name,
            verdict_icon(icons.get(step.outcome, ""), outcome_text(step)),
            format_row_count(step.rows),
            None if step.reuse is None else str(step.reuse),
            texts.get(step.name),
            step.error,
            duration_bound(step.seconds),
        )
        for step in steps
    ]
    caption = "Run: " + ", ".join(
        f"{n:,} {o.replace('_', ' ')}" for o, n in Counter(s.outcome for s in steps).items()
    )
    grid = listing_table(
        ["name", "outcome", "rows", "of them", "changed", "error", "took"],
        lines,
        aligned="llrllll",
        optional=("of them", "changed", "error"),
        caption=caption,
    )
    deviation_list = (
        vstack(dim_text("Changed meanwhile:"), bullet_list(deviations)) if deviations else None
    )
    return vstack(grid, _waiting_note(steps), deviation_list, skipped_note)


def check(report: Mapping[str, Sequence[str]], bytes_reclaimed: int = 0) -> Rendered:
    """The findings of a workspace check, by kind."""
    lines = [(kind.replace("_", " "), len(names)) for kind, names in report.items() if names]
    if not lines:
        return verdict_icon("fresh", "No problems found: catalog and files agree.")
    note = f"{format_bytes(bytes_reclaimed)} reclaimed" if bytes_reclaimed else ""
    return listing_table(["found", "number"], lines, aligned="lr", caption="Check", note=note)


def error(error: JammiError) -> Rendered:
    """An error for display: at most five lines."""
    lines = error.rendered_lines()
    content = "".join(f"{plain_text(line).html}\n" for line in lines).rstrip("\n")
    return Rendered(html.preformatted(content), "\n".join(plain_text(line).text for line in lines))

"""How the things that people hold are shown: each function takes values and gives a `Form` (HTML and text of one content).

    preview(columns, types, rows, …)  a Result             status(rows)          the board        verdict(v)       a verdict or an answer of verify
    result_table(…)                   a ResultTable        plan(…)               the dry run      badge(verdicts)  the line above a result
    sources(rows) · source(…)         what is registered   run_report(steps, …)  how a plan went  recovery(report) · check(report) · error(e)

The picture of a lineage is in `jammi_lab.sensing.picture`. No ids, no moments, no ages: a form of the same state is the same form.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from jammi_lab import markup
from jammi_lab.errors import JammiError
from jammi_lab.markup import Form, bullets, cell, code, count, details, dim, facts, mark, plain, size, stack, table
from jammi_lab.values.records import RecoveryReport, RunStep, Step
from jammi_lab.values.verdicts import Answer, Fresh, Undecidable, Verdict, reasons_of, word

_WORDS = ("fresh", "possibly stale", "stale", "undecidable", "missing manifest", "damaged")
_NAMED = 5
"""Tables that a badge names; the others are counted."""
_LISTED = 200
"""Tables inside a source that are listed."""


class StatusRow(Protocol):
    """What the board needs of a row."""

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


def typed(*words: str) -> str:
    """A line to type, its words quoted where they must be."""
    return " ".join(w if w.startswith(("%", "<")) else shlex.quote(w) for w in words)


def listing(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, aligned: str, caption: str = "", note: str = "") -> Form:
    """A table of our own words: what is not known is left empty."""
    return table(headers, [[_own(v) for v in row] for row in rows], aligned=aligned, caption=caption, note=note)


def _rows(number: int | None) -> str:
    """How many rows, where known."""
    return "" if number is None else f"{number:,}"


def _own(value: Any) -> Any:
    return plain("") if value is None or value == "" else cell(value, html_cut=200, text_cut=120) if isinstance(value, str) else value


def preview(
    columns: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    total: int | None = None,
    more: bool = False,
    caption: str = "",
) -> Form:
    """The rows of a result. `total` when the number of rows is known, else `more`: whether there are further ones."""
    if not columns:
        return plain("no columns")
    shown = len(rows)
    if total is not None and total > shown:
        note = f"showing {shown:,} of {count(total, 'row')}"
    elif total is None and more:
        note = "first row" if shown == 1 else f"first {shown:,} rows"
    else:
        note = count(shown, "row") if shown else "no rows"
    return table(columns, rows, types=types, caption=caption, note=note)


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
) -> Form:
    """A version of a recipe: what it is, what it has, what it was made from. `outcome`, of a ready one, is computed or reused, and is said."""
    said = outcome if status == "ready" else status
    title = f"{name}, version {version}" + (f": {said}" if said else "")
    listed = ", ".join(f"{n} {t.lower()}" for n, t in columns[:12]) + (f", and {len(columns) - 12:,} more" if len(columns) > 12 else "")
    held = count(rows, "row") if rows is not None else ""
    if held and bytes is not None:
        held += f", {size(bytes)}"
    pairs = [("kind", kind), ("holds", held), ("columns", listed)]
    return facts(title, [*pairs, ("key", ", ".join(key)), ("made from", ", ".join(inputs))], note=note)


def result_tables(rows: Iterable[tuple[str, int, str, str, int | None, int | None]]) -> Form:
    """Versions, one line each: name, version, kind, status, rows, bytes."""
    lines = [(n, v, k, s, _rows(r), size(b)) for n, v, k, s, r, b in rows]
    if not lines:
        return plain("No result tables yet: %%jammi -m NAME makes one.")
    return listing(["name", "version", "kind", "status", "rows", "size"], lines, aligned="lrllrr", note=count(len(lines), "result table"))


def sources(rows: Iterable[tuple[str, str, str, str, str, str]]) -> Form:
    """Registered sources, one line each: name, kind, location (credential-free), tables inside, anchor, what was last seen and by which method."""
    lines = list(rows)
    if not lines:
        return plain("No sources yet: %jammi add NAME LOCATION registers one.")
    heads = ["name", "kind", "location", "tables", "anchor", "last seen"]
    shown = [i for i in range(len(heads)) if heads[i] not in ("tables", "last seen") or any(line[i] for line in lines)]
    return listing(
        [heads[i] for i in shown], [[line[i] for i in shown] for line in lines], aligned="l" * len(shown), note=count(len(lines), "source")
    )


def source(
    name: str, kind: str, location: str, anchor: str, tables: Sequence[tuple[str, Mapping[str, str]]], seen: str = "", inside: str = ""
) -> Form:
    """One source: its kind and place, the names of the tables inside, what was last seen of it, and the columns of its tables where known."""
    pairs: list[tuple[str, Any]] = [("kind", kind), ("location", location), ("tables", inside), ("anchor", anchor), ("last seen", seen)]
    for label, columns in tables:
        pairs.append((label or "columns", ", ".join(f"{n} {t.lower()}" for n, t in columns.items())))
    return facts(name, pairs)


def columns(name: str, rows: Iterable[tuple[str, str]]) -> Form:
    """Names and SQL types of the columns of one thing."""
    lines = [(n, t.lower()) for n, t in rows]
    return listing(["column", "type"], lines, aligned="ll", caption=name, note=count(len(lines), "column"))


def inside(name: str, tables: Sequence[str]) -> Form:
    """The tables inside a source, one line each, and what shows the columns of one."""
    shown = tables[:_LISTED]
    more = f"; {len(tables) - len(shown):,} more are not shown" if len(tables) > len(shown) else ""
    note = f"{count(len(tables), 'table')}{more}; %jammi {typed('schema', f'{name}.{tables[0]}')} shows the columns of one"
    return listing(["table"], [[table] for table in shown], aligned="l", caption=name, note=note)


def verdict(value: Answer, name: str = "") -> Form:
    """A verdict, or an answer of `verify`, with its reasons; `name` is the table it is about."""
    return value._form(name)


def status(rows: Sequence[StatusRow], note: str = "") -> Form:
    """The board: one line per recipe with its verdict and why, and what to type when not all is fresh."""
    if not rows:
        return plain("No recipes yet: %%jammi -m NAME makes one.")
    lines = [
        [row.name, row.version, mark(word(row.verdict)), _rows(row.rows), size(row.bytes), row.index, _first(reasons_of(row.verdict))] for row in rows
    ]
    heads, aligned = ["name", "version", "verdict", "rows", "size", "index", "why"], "lrlrrll"
    if not any(row.index for row in rows):
        lines, heads, aligned = [[*line[:5], line[-1]] for line in lines], [*heads[:5], heads[-1]], "lrlrrl"
    worth = [r for r in rows if not isinstance(r.verdict, Fresh)]
    if not worth:
        lines, heads = [line[:-1] for line in lines], heads[:-1]
    elif not note and any(_repairable(r.verdict) for r in worth):
        note = "%jammi plan shows what would be done, %jammi recompute does it"
    elif not note:
        note = f"%jammi {typed('why', worth[0].name)} says more"
    caption = f"{count(len(rows), 'recipe')}: {tally(word(r.verdict) for r in rows)}"
    return listing(heads, lines, aligned=aligned[: len(heads)], caption=caption, note=note)


def _repairable(value: Verdict) -> bool:
    """Whether recomputing is the thing to do; what cannot be decided is first asked why."""
    return value.known_stale if isinstance(value, Undecidable) else not isinstance(value, Fresh)


def tally(words: Iterable[str]) -> str:
    """`3 fresh, 1 stale`, in the order of the verdicts."""
    found = Counter(words)
    ordered = [w for w in _WORDS if w in found] + sorted(w for w in found if w not in _WORDS)
    return ", ".join(f"{found[w]:,} {w}" for w in ordered)


def _first(reasons: Sequence[str]) -> Form:
    if len(reasons) <= 1:
        return plain(reasons[0] if reasons else "")
    rest = details(plain(f"{reasons[0]}, and {len(reasons) - 1} more"), bullets(reasons[1:]))
    return Form(rest.html, "; ".join(reasons))


def badge(verdicts: Mapping[str, Verdict]) -> Form | None:
    """What stands above a result that read tables which are not fresh: each with verdict and first reason, and what to type; None when all are."""
    doubtful = [(n, v) for n, v in verdicts.items() if not isinstance(v, Fresh)]
    if not doubtful:
        return None
    repair = [n for n, v in doubtful if _repairable(v)]
    to_type = code("%jammi " + (typed("recompute", *repair[:_NAMED]) if repair else typed("why", doubtful[0][0])))
    if len(doubtful) == 1:
        return _doubt(*doubtful[0], plain(" — ") + to_type)
    others = len(doubtful) - _NAMED
    return stack(*(_doubt(n, v) for n, v in doubtful[:_NAMED]), dim(f"and {others:,} more that are not fresh") if others > 0 else None, to_type)


def _doubt(name: str, value: Verdict, to_type: Form | None = None) -> Form:
    """One table that is not fresh: a line with its first reason, which opens on all of them."""
    reasons = [r.removeprefix(f"{word(value)}: ") for r in reasons_of(value)]
    line = plain(f"{name} is ") + mark(word(value))
    if reasons:
        line = line + plain(": ") + cell(reasons[0], html_cut=200, text_cut=120)
    if len(reasons) > 1:
        line = line + plain(f", and {len(reasons) - 1:,} more")
    line = line if to_type is None else line + to_type
    return details(line, stack(bullets(reasons), code(f"%jammi {typed('why', name)}") + dim(" says more"))) if reasons else line


def unchecked(names: Sequence[str], why: str = "") -> Form:
    """What stands there while the verdicts are not known, or when they could not be had, with the reason."""
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
    said = mark("undecidable", f"not checked: {why}" if why else "not checked yet")
    return plain(f"{named} {'is' if len(names) == 1 else 'are'} ") + said + plain(" — ") + code(f"%jammi {typed('why', names[0])}")


def plan(
    certain: Sequence[Step],
    possible: Sequence[Step],
    reused: Sequence[Step],
    blocked: Sequence[Step],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    left_out: Sequence[str] = (),
) -> Form:
    """The dry run: what would be done and why, with what the last runs took; `left_out` are undecidable tables that nobody named."""
    kinds = (("recompute", certain), ("recompute if needed", possible), ("reuse", reused), ("blocked", blocked))
    lines = [(s.name, label, _why(s, label), _within(s.seconds) or "never ran") for label, steps in kinds for s in steps]
    out = _left_out(left_out)
    if not lines:
        return stack(mark("fresh", "Nothing to do: no table is known to be stale."), dim(out) if out else None)
    caption = "Plan: " + ", ".join(
        f"{len(steps):,} to {label}" if label != "blocked" else f"{len(steps):,} blocked" for label, steps in kinds if steps
    )
    grid = listing(["name", "action", "why", "last run"], lines, aligned="llll", caption=caption, note=out)
    ran = any(step.seconds is not None for step in (*certain, *possible))
    bounds = f"By past runs at least {markup.at_least(at_least or 0.0)}, at most {markup.at_most(at_most or 0.0)}. " if ran else ""
    runs = (
        f"{bounds}Nothing was run: .apply() or %jammi recompute does it."
        if certain or possible or reused
        else "Nothing of this can be run from here."
    )
    return stack(grid, _waiting(blocked), dim(runs))


def _why(step: Step, label: str) -> Form:
    """Without a reason is what was named though nobody can say whether it holds."""
    undecided = ["named, though it cannot be decided whether it holds"] if label.startswith("recompute") else []
    return _first([str(r) for r in step.reasons] or undecided)


def _left_out(names: Sequence[str]) -> str:
    return f"undecidable, left out unless named: {', '.join(names)}" if names else ""


def _within(seconds: float | None) -> str:
    """So much is the same from one run to the next; the exact figure is the step's own."""
    return "" if seconds is None else f"within {markup.at_most(seconds)}"


def _waiting(steps: Iterable[Step | RunStep]) -> Form | None:
    """What stays possibly stale because of blocked steps, by the step."""
    said = [f"{', '.join(s.waiting)} stay{'s' if len(s.waiting) == 1 else ''} possibly stale because of {s.name}" for s in steps if s.waiting]
    return dim("; ".join(said)) if said else None


def outcome(step: RunStep) -> str:
    """How a step went, in words."""
    if step.outcome != "cut_off":
        return step.outcome
    return "not needed: it was true by then" if step.meanwhile else "not needed: inputs came out equal"


def run_report(steps: Sequence[RunStep], deviations: Sequence[object] = (), *, left_out: Sequence[str] = ()) -> Form:
    """How a plan went, one line per step; then what moved meanwhile; `left_out` are undecidable tables that nobody named."""
    out = dim(_left_out(left_out)) if left_out else None
    if not steps:
        return stack(mark("fresh", "Nothing had to be done."), out)
    sign = {"computed": "fresh", "reused": "fresh", "cut_off": "fresh", "failed": "damaged", "blocked": "undecidable", "skipped": "missing manifest"}
    parts: dict[str, list[Any]] = {
        "name": [s.name for s in steps],
        "outcome": [mark(sign.get(s.outcome, ""), outcome(s)) for s in steps],
        "rows": [_rows(s.rows) for s in steps],
        "of them": [None if s.reuse is None else str(s.reuse) for s in steps],
        "error": [s.error for s in steps],
        "took": [_within(s.seconds) for s in steps],
    }
    names = [name for name, cells in parts.items() if name not in ("of them", "error") or any(cells)]
    lines = [list(line) for line in zip(*(parts[name] for name in names), strict=True)]
    caption = "Run: " + ", ".join(f"{n:,} {o.replace('_', ' ')}" for o, n in Counter(s.outcome for s in steps).items())
    grid = listing(names, lines, aligned="".join("r" if name == "rows" else "l" for name in names), caption=caption)
    moved = stack(dim("Moved meanwhile:"), bullets(deviations)) if deviations else None
    return stack(grid, _waiting(steps), moved, out)


def recovery(report: RecoveryReport) -> Form:
    """What opening the workspace settled."""
    return report._form()


def check(report: Mapping[str, Sequence[str]], bytes_reclaimed: int = 0) -> Form:
    """What a check of the workspace found, by kind of finding."""
    lines = [(kind.replace("_", " "), len(names)) for kind, names in report.items() if names]
    if not lines:
        return mark("fresh", "The workspace is sound: catalog and files agree.")
    note = f"{size(bytes_reclaimed)} reclaimed" if bytes_reclaimed else ""
    return listing(["found", "number"], lines, aligned="lr", caption="Check", note=note)


def error(problem: JammiError) -> Form:
    """An error as a person reads it: at most five lines."""
    lines = problem.rendered()
    shown = "".join(f"{plain(line).html}\n" for line in lines).rstrip("\n")
    return Form(markup.lines(shown), "\n".join(plain(line).text for line in lines))

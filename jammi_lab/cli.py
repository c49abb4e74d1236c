"""`jammi-lab`: the verbs of a workspace for scripts and continuous integration.

What is printed is what a notebook shows, or with `--json` one JSON value. Exit codes: 0 done; 1 a step of a recompute failed or, with `--fail`,
something is stale, damaged or mismatched; 2 the line cannot be read; 3 it could not be done: standard error says why, and what to do.
"""

import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeVar

import click

from jammi_lab.errors import JammiError

FAILED, REFUSED = 1, 3
_NAMES = 8
"""Of each kind of thing that a rebuild takes away: so many are named."""
_IN_A_SHELL = (
    (re.compile(r"(?:\.apply\(\) or )?%jammi (plan|recompute)\b"), "jammi-lab {0} {path}"),
    (re.compile(r"%jammi why (.+?)( says|$)", re.MULTILINE), "jammi-lab why {path} {0}{1}"),
    (re.compile(r"%%jammi -m NAME makes"), "ws.materialize(…) in Python makes"),
    (re.compile(r"%jammi add NAME LOCATION registers"), "ws.sources.add(…) in Python registers"),
    (re.compile(r", or %%jammi -m NAME in a cell"), " in Python"),
    (re.compile(r"ws\.(recompute|verify)\((?:'([\w.-]+)'|('[^']*'))\)"), "jammi-lab {0} {path} {1}{2}"),
    (re.compile(r"ws\.(tables|check)\(\)"), "jammi-lab {0} {path}"),
    (re.compile(r"ws\.recipes\(\)"), "jammi-lab status {path}"),
    (re.compile(r"ws\.status\(deep=True\)"), "jammi-lab status {path} --deep"),
    (re.compile(r"ws\.sources\.list\(\) shows|ws\.sources\[name\] shows"), "jammi-lab sources {path} shows"),
    (re.compile(r"jl\.open\(path\) makes one"), "In Python, jl.open(path) makes one"),
    (re.compile(r"Pass (\w+)=…"), "Only Python passes values: ws.sql(statement, {0}=…)."),
)
"""What cells and Python are told to type, and what does the same from a shell."""
F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="jammi-lab", prog_name="jammi-lab")
def main() -> None:
    """Derived tables that know what they were made from and whether they are still true."""


def _workspace(function: F) -> F:
    """The options that every verb has which opens a workspace."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output."),
        click.option("--tenant", help="Whose tables; without it, those shared by all."),
        click.option("--catalog", help="Where the catalog is, if not in the folder: the URL of a PostgreSQL database."),
        click.argument("path"),
    ):
        function = option(function)

    @wraps(function)
    def told(*args: Any, **given: Any) -> None:
        with _refusals(str(given["path"])):
            function(*args, **given)

    return told  # type: ignore[return-value]  # click's decorators keep the signature that they were given


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    """A typed error is told on standard error, without a trace."""
    try:
        yield
    except JammiError as problem:
        problem.hint = _for_a_shell(problem.hint, path)
        for line in problem.rendered():
            click.echo(line, err=True)
        sys.exit(REFUSED)


@contextmanager
def _open(path: str, catalog: str | None, tenant: str | None, *, read_only: bool = True) -> Iterator[Any]:
    import jammi_lab as jl

    with jl.open(path, catalog=catalog, tenant=tenant, read_only=read_only, create=False) as ws:
        yield ws


def _tell(shown: Any, value: Any, as_json: bool, path: str = "") -> None:
    """`path`: of the workspace, when what is shown may say what to type."""
    click.echo(_json(value) if as_json else _for_a_shell(str(shown), path) if path else str(shown))


def _json(value: Any) -> str:
    """One JSON value. Where there are numbers that JSON has no form for, NaN and infinity, it has null."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=lambda each: _finite(_plain(each)), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """What JSON has no form for: values by `to_dict`, bytes in hex, the rest as text."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value


def _for_a_shell(text: str, path: str) -> str:
    """What a cell would be told to type, as it is typed here or in Python."""
    for cell, here in _IN_A_SHELL:
        text = cell.sub(partial(_typed, here, path), text)
    return text


def _typed(here: str, path: str, found: re.Match[str]) -> str:
    return here.format(*found.groups(""), path=shlex.quote(path))


fail = click.option("--fail", is_flag=True, help="Exit with 1 when something is stale, damaged or mismatched.")


@main.command()
@_workspace
@click.option("--deep", is_flag=True, help="Scan large inputs, too.")
@fail
def status(path: str, catalog: str | None, tenant: str | None, as_json: bool, deep: bool, fail: bool) -> None:
    """Every recipe with its verdict."""
    with _open(path, catalog, tenant) as ws:
        board = ws.status(deep=deep)
        rows = board.arrow().to_pylist()
        _tell(board, rows, as_json, path)
    if fail and any(row["verdict"] != "fresh" for row in rows):
        sys.exit(FAILED)


@main.command(short_help="The verdict on one table, and all its causes.")
@_workspace
@click.argument("name")
@fail
def why(path: str, catalog: str | None, tenant: str | None, as_json: bool, name: str, fail: bool) -> None:
    """The verdict on one table as a tree: a line for each cause, with old and new state."""
    with _open(path, catalog, tenant) as ws:
        found = ws.why(name)
        _tell(found, {"name": found.name, "verdict": found.verdict, "lines": found.lines}, as_json, path)
    if fail and found.verdict.to_dict()["kind"] != "fresh":
        sys.exit(FAILED)


@main.command(short_help="Whether bytes and manifests are as attested.")
@_workspace
@click.argument("names", nargs=-1)
@fail
def verify(path: str, catalog: str | None, tenant: str | None, as_json: bool, names: Sequence[str], fail: bool) -> None:
    """Whether bytes and manifests are as attested, of the named tables or all."""
    with _open(path, catalog, tenant) as ws:
        wanted = names or [row.name for row in ws.status() if row.version is not None]
        found = {name: ws.verify(name) for name in wanted}
        _tell("\n".join(f"{name}: {answer}" for name, answer in found.items()) or "No tables yet.", found, as_json)
    if fail and any(answer.to_dict()["kind"] not in ("match", "match_with_unpinned_inputs") for answer in found.values()):
        sys.exit(FAILED)


@main.command()
@_workspace
@click.argument("names", nargs=-1)
@fail
def plan(path: str, catalog: str | None, tenant: str | None, as_json: bool, names: Sequence[str], fail: bool) -> None:
    """What would have to be computed; runs nothing."""
    with _open(path, catalog, tenant) as ws:
        planned = ws.plan(names or None)
        kinds = ("certain", "possible", "reused", "blocked")
        value = {kind: [_plain(step) for step in getattr(planned, kind)] for kind in kinds}
        value |= {"seconds_at_least": planned.seconds_at_least, "seconds_at_most": planned.seconds_at_most}
        _tell(planned, value, as_json, path)
    if fail and planned:
        sys.exit(FAILED)


@main.command()
@_workspace
@click.argument("names", nargs=-1)
@fail
def recompute(path: str, catalog: str | None, tenant: str | None, as_json: bool, names: Sequence[str], fail: bool) -> None:
    """Make the named tables true, or all of them. Exit with 1 when a step failed; with --fail also when one could not be tried."""
    with _open(path, catalog, tenant, read_only=False) as ws:
        report = ws.recompute(names or None)
        _tell(report, {"steps": [_plain(step) for step in report.steps], "deviations": report.deviations}, as_json, path)
    wrong = ("failed", "blocked", "skipped") if fail else ("failed",)
    if any(step.outcome in wrong for step in report.steps):
        sys.exit(FAILED)


@main.command()
@_workspace
@click.option("--repair", is_flag=True, help="Mend what can be mended, and remove what nothing needs.")
@click.option("--deep", is_flag=True, help="Read every table's bytes.")
@fail
def check(path: str, catalog: str | None, tenant: str | None, as_json: bool, repair: bool, deep: bool, fail: bool) -> None:
    """Whether catalog and files agree."""
    with _open(path, catalog, tenant, read_only=not repair) as ws:
        report = ws.check(repair=repair, deep=deep)
        names = ("missing", "orphans", "damaged", "repaired", "failed", "reclaimed", "bytes_reclaimed")
        value = {name: getattr(report, name) for name in names}
        _tell(report, value, as_json)
    if fail and any(value[name] for name in ("missing", "damaged", "failed")):
        sys.exit(FAILED)


@main.command()
@_workspace
@click.argument("name", required=False)
@click.option("--up", "direction", flag_value="up", help="Only what it was made from.")
@click.option("--down", "direction", flag_value="down", help="Only what was made from it.")
@click.option("--columns", is_flag=True, help="By column.")
def lineage(path: str, catalog: str | None, tenant: str | None, as_json: bool, name: str | None, direction: str | None, columns: bool) -> None:
    """What derives from what, around a name or everywhere."""
    with _open(path, catalog, tenant) as ws:
        graph = ws.lineage(name, direction=direction or "both", columns=columns)
        value = {"nodes": [_plain(n) for n in graph.nodes], "edges": [_plain(e) for e in graph.edges]}
        if columns:
            value["column_edges"] = [_plain(e) for e in graph.column_edges]
        _tell(graph, value, as_json)


@main.command()
@_workspace
def sources(path: str, catalog: str | None, tenant: str | None, as_json: bool) -> None:
    """What is registered."""
    with _open(path, catalog, tenant) as ws:
        _tell(ws.sources, ws.sql("SELECT * FROM jammi_catalog.sources ORDER BY name").arrow().to_pylist() if as_json else None, as_json, path)


@main.command()
@_workspace
@click.option("--all", "every", is_flag=True, help="Failed and unfinished ones, too.")
def tables(path: str, catalog: str | None, tenant: str | None, as_json: bool, every: bool) -> None:
    """Every version of every table."""
    with _open(path, catalog, tenant) as ws:
        found = ws.tables(status=None if every else "ready")
        keys = ("name", "version", "table_name", "kind", "status", "row_count", "bytes", "created_at", "completed_at")
        _tell(found, [{key: getattr(table, key) for key in keys} for table in found], as_json, path)


@main.command(short_help="Run a statement and show its rows.")
@_workspace
@click.argument("statement")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many rows; without --json twenty.")
def sql(path: str, catalog: str | None, tenant: str | None, as_json: bool, statement: str, limit: int | None) -> None:
    """Run a statement, or what is on standard input when it is `-`; rows as a table, or as a list of objects."""
    text = sys.stdin.read() if statement == "-" else statement
    with _open(path, catalog, tenant, read_only=not text.lstrip()[:6].casefold().startswith(("insert", "update", "delete"))) as ws:
        result = ws.sql(text)
        if as_json:
            from jammi_lab.people import for_people

            rows = result.arrow() if limit is None else result.preview(limit)
            names = rows.column_names
            if len(set(names)) < len(names):
                raise click.UsageError("Two columns have one name; give them others with AS.")
            _tell(None, [dict(zip(names, row, strict=True)) for row in zip(*map(for_people, rows.columns), strict=True)], as_json=True)
        else:
            result.limit = 20 if limit is None else limit
            result.preview(result.limit + 1)
            text, notice = str(result), result._notice()
            badge = "" if notice is None or (form := notice.form()) is None else form.text
            said = _for_a_shell(badge, path) if text.startswith(badge) else badge  # a value may look like a line of ours
            click.echo(said + text.removeprefix(badge))


@main.command(short_help="Copy the catalog to a file.")
@_workspace
@click.argument("target")
def backup(path: str, catalog: str | None, tenant: str | None, as_json: bool, target: str) -> None:
    """Copy the catalog to a file, as it is at one moment; the tables stay where they are."""
    with _open(path, catalog, tenant) as ws:
        made = ws.backup(target)
        _tell(f"The catalog was copied to {made}.", {"target": str(made)}, as_json)


@main.command(short_help="Make a new catalog from the manifests.")
@_workspace
@click.option("--force", is_flag=True, help="Also when the catalog opens and is sound.")
def rebuild(path: str, catalog: str | None, tenant: str | None, as_json: bool, force: bool) -> None:  # noqa: ARG001  a rebuild is everybody's
    """Make a new catalog from the manifests, when the old one is lost or damaged."""
    import jammi_lab as jl

    gone = _gone_with(path, catalog, force=force)
    report = jl.rebuild(path, catalog=catalog) if catalog else jl.rebuild(path)
    said = [str(report), *report._lines(), *([f"gone with the former catalog: {_named(gone)}"] if any(gone.values()) else [])]
    _tell("\n  - ".join(said), report.to_dict() | {"gone": gone}, as_json)


def _gone_with(path: str, catalog: str | None, *, force: bool) -> dict[str, list[str]]:
    """What a rebuild would take away that is in no manifest; InvalidArgument, unless forced, when there is a sound catalog that holds it."""
    from jammi_lab.errors import InvalidArgument, TableDamaged, WorkspaceNotFound
    from jammi_lab.store.rebuild import held_only_in

    try:
        with _open(path, catalog, None) as ws:
            held = held_only_in(ws._rooms.catalog)
    except (TableDamaged, WorkspaceNotFound):
        return {}
    except JammiError:
        if force:
            return {}
        raise
    if not force:
        lost = f" Gone would be its {_named(held)}." if any(held.values()) else ""
        raise InvalidArgument(
            f"The catalog of {path!r} is sound; a new one would hold less than it.{lost}",
            hint=f"jammi-lab rebuild {path} --force makes one all the same, and keeps this one aside.",
        )
    return held


def _named(held: dict[str, list[str]]) -> str:
    return "; ".join(
        f"{kind} {', '.join(names[:_NAMES])}{f' and {len(names) - _NAMES} more' * (len(names) > _NAMES)}" for kind, names in held.items() if names
    )


@main.command()
@click.argument("source")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output.")
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy a workspace to another folder, while others may use it."""
    from jammi_lab.copying import copy_workspace

    with _refusals(source), _open(source, None, None) as ws:
        made = copy_workspace(ws, target)
        _tell(made, {"target": made.target, "tables": made.tables, "missing": made.missing}, as_json)


if __name__ == "__main__":
    main(prog_name="jammi-lab")

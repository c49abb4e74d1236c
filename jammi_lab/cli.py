"""`jammi-lab`: the verbs of a workspace for scripts and continuous integration.

What is printed is what a notebook shows, or with `--json` one JSON value. Exit codes: 0 done; 1 with `--fail`, something is stale, damaged or
mismatched; 2 the line cannot be read; 3 it could not be done: standard error says why, and what to do.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import click

from jammi_lab.errors import JammiError

FAILED, REFUSED = 1, 3
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
        with _refusals():
            function(*args, **given)

    return told  # type: ignore[return-value]  # click's decorators keep the signature that they were given


@contextmanager
def _refusals() -> Iterator[None]:
    """A typed error is told on standard error, without a trace."""
    try:
        yield
    except JammiError as problem:
        for line in problem.rendered():
            click.echo(line, err=True)
        sys.exit(REFUSED)


@contextmanager
def _open(path: str, catalog: str | None, tenant: str | None, *, read_only: bool = True) -> Iterator[Any]:
    import jammi_lab as jl

    with jl.open(path, catalog=catalog, tenant=tenant, read_only=read_only, create=False) as ws:
        yield ws


def _tell(shown: Any, value: Any, as_json: bool) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False) if as_json else str(shown))


def _plain(value: Any) -> Any:
    """What JSON has no form for: values by `to_dict`, bytes in hex, the rest as text."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


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
        _tell(board, rows, as_json)
    if fail and any(row["verdict"] != "fresh" for row in rows):
        sys.exit(FAILED)


@main.command()
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
        _tell(planned, value, as_json)
    if fail and planned:
        sys.exit(FAILED)


@main.command()
@_workspace
@click.argument("names", nargs=-1)
@fail
def recompute(path: str, catalog: str | None, tenant: str | None, as_json: bool, names: Sequence[str], fail: bool) -> None:
    """Make the named tables true, or all of them."""
    with _open(path, catalog, tenant, read_only=False) as ws:
        report = ws.recompute(names or None)
        _tell(report, {"steps": [_plain(step) for step in report.steps], "deviations": report.deviations}, as_json)
    if fail and any(step.outcome in ("failed", "blocked", "skipped") for step in report.steps):
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
        _tell(ws.sources, ws.sql("SELECT * FROM jammi_catalog.sources ORDER BY name").arrow().to_pylist() if as_json else None, as_json)


@main.command()
@_workspace
@click.option("--all", "every", is_flag=True, help="Failed and unfinished ones, too.")
def tables(path: str, catalog: str | None, tenant: str | None, as_json: bool, every: bool) -> None:
    """Every version of every table."""
    with _open(path, catalog, tenant) as ws:
        found = ws.tables(status=None if every else "ready")
        keys = ("name", "version", "table_name", "kind", "status", "row_count", "bytes", "created_at", "completed_at")
        _tell(found, [{key: getattr(table, key) for key in keys} for table in found], as_json)


@main.command()
@_workspace
@click.argument("statement")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many rows; without --json twenty.")
def sql(path: str, catalog: str | None, tenant: str | None, as_json: bool, statement: str, limit: int | None) -> None:
    """Run a statement, or what is on standard input when it is `-`; rows as a table, or as a list of objects."""
    text = sys.stdin.read() if statement == "-" else statement
    with _open(path, catalog, tenant, read_only=not text.lstrip()[:6].casefold().startswith(("insert", "update", "delete"))) as ws:
        result = ws.sql(text)
        if as_json:
            rows = result.arrow() if limit is None else result.preview(limit)
            names = rows.column_names
            if len(set(names)) < len(names):
                raise click.UsageError("Two columns have one name; give them others with AS.")
            _tell(None, rows.to_pylist(), as_json=True)
        else:
            result.limit = 20 if limit is None else limit
            result.preview(result.limit + 1)
            click.echo(str(result))


@main.command()
@_workspace
@click.argument("target")
def backup(path: str, catalog: str | None, tenant: str | None, as_json: bool, target: str) -> None:
    """Copy the catalog to a file, as it is at one moment; the tables stay where they are."""
    with _open(path, catalog, tenant) as ws:
        made = ws.backup(target)
        _tell(f"The catalog was copied to {made}.", {"target": str(made)}, as_json)


@main.command()
@_workspace
def rebuild(path: str, catalog: str | None, tenant: str | None, as_json: bool) -> None:  # noqa: ARG001  a rebuild is everybody's
    """Make a new catalog from the manifests, when the old one is lost or damaged."""
    import jammi_lab as jl

    report = jl.rebuild(path, catalog=catalog) if catalog else jl.rebuild(path)
    _tell(
        report,
        {key: value for key, value in vars(report).items() if not key.startswith("_")} if hasattr(report, "__dict__") else _plain(report),
        as_json,
    )


@main.command()
@click.argument("source")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output.")
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy a workspace to another folder, while others may use it."""
    from jammi_lab.copying import copy_workspace

    with _refusals(), _open(source, None, None) as ws:
        made = copy_workspace(ws, target)
        _tell(made, {"target": made.target, "tables": made.tables, "missing": made.missing}, as_json)


if __name__ == "__main__":
    main(prog_name="jammi-lab")

"""The commands of `jammi-lab` that read or recompute a workspace."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from jammi_lab.cli.agent_server import mcp
from jammi_lab.cli.check_outputs import check_file, check_notebook
from jammi_lab.cli.options import (
    DEFAULT_FOLDER,
    FAILED_EXIT_CODE,
    CommandGroup,
    Duration,
    FailCommand,
    WorkspaceCall,
    fail,
    fail_on_verdict,
    report_errors,
    workspace_options,
)
from jammi_lab.cli.printing import print_result, print_rows, to_json_value
from jammi_lab.cli.verdict_watch import watch_verdicts
from jammi_lab.core.errors import JammiError

_MAX_NAMES = 8
"""The number of names listed for each kind of object that a rebuild loses."""


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="jammi-lab", prog_name="jammi-lab")
def main() -> None:
    """Derived tables that record what they were computed from and whether they are up to date."""


@main.command(cls=FailCommand)
@workspace_options
@click.option("--deep", is_flag=True, help="Also scan large inputs.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Also write JUnit XML.")
@click.option("--sarif", type=click.Path(dir_okay=False), help="Also write SARIF.")
@click.option(
    "--max-age",
    type=Duration(),
    help="Report fresh tables older than this, for example 24h, as old.",
)
@click.option("--fail-warn", is_flag=True, hidden=True)
@fail_on_verdict
def status(
    call: WorkspaceCall,
    deep: bool,
    junit: str | None,
    sarif: str | None,
    max_age: float | None,
    fail: bool,
    fail_grounds: bool,
    fail_warn: bool,
) -> None:
    """Show the verdict of every recipe. A failing check of severity block counts for --fail; with
    --fail=warn, one of severity warn does, too."""
    from jammi_lab.workspace import status_reports

    with call.open() as ws:
        board = ws.status(deep=deep)
        rows = board.arrow().to_pylist()
        checks = ws._services.check_service.newest_results()
        findings = status_reports.find_problems(board, max_age, strict=fail_grounds)
        findings += status_reports.find_failing_checks(checks, with_warnings=fail_warn)
        if junit is not None:
            text = status_reports.to_junit(board, checks, findings)
            Path(junit).write_text(text, encoding="utf-8")
        if sarif is not None:
            text = status_reports.to_sarif(findings, ws.path)
            Path(sarif).write_text(text, encoding="utf-8")
        print_result(board, rows, call.as_json, call.path)
        for finding in findings:
            if finding.rule in (status_reports.OLD, status_reports.CHECK):
                click.echo(finding.message, err=call.as_json)
    if (fail or fail_grounds or fail_warn) and findings:
        sys.exit(FAILED_EXIT_CODE)


@main.command(cls=FailCommand, short_help="Print each change of a verdict.")
@workspace_options
@click.option(
    "--interval",
    type=Duration(),
    default="1s",
    help="The pause between two checks; 1s.",
)
@fail_on_verdict
def watch(
    call: WorkspaceCall,
    interval: float,
    fail: bool,
    fail_grounds: bool,
) -> None:
    """Print a line when a verdict changes, with --json one JSON object a line, until interrupted.
    With --fail until something is not fresh."""
    with call.open() as ws:
        failed = watch_verdicts(ws, interval, as_json=call.as_json, fail=fail, strict=fail_grounds)
    if failed:
        sys.exit(FAILED_EXIT_CODE)


@main.command(cls=FailCommand, short_help="Explain the verdict on one table.")
@workspace_options
@click.argument("name")
@fail_on_verdict
def why(
    call: WorkspaceCall,
    name: str,
    fail: bool,
    fail_grounds: bool,
) -> None:
    """Explain the verdict on one table as a tree: a line for each cause, with old and new state."""
    with call.open() as ws:
        explanation = ws.why(name)
        print_result(
            explanation,
            {"name": explanation.name, "verdict": explanation.verdict, "lines": explanation.lines},
            call.as_json,
            call.path,
        )
    verdict = explanation.verdict.to_dict()
    if (fail or fail_grounds) and (
        verdict["kind"] != "fresh" or (fail_grounds and verdict.get("grounds"))
    ):
        sys.exit(FAILED_EXIT_CODE)


@main.command(short_help="Check files and manifests.")
@workspace_options
@click.argument("names", nargs=-1)
@fail
def verify(
    call: WorkspaceCall,
    names: Sequence[str],
    fail: bool,
) -> None:
    """Check that the files of the named tables, or of all, match their manifests."""
    with call.open() as ws:
        selected = names or [row.name for row in ws.status() if row.version is not None]
        outcomes = {name: ws.verify(name) for name in selected}
        print_result(
            "\n".join(f"{name}: {answer}" for name, answer in outcomes.items()) or "No tables yet.",
            outcomes,
            call.as_json,
        )
    if fail and any(
        answer.to_dict()["kind"] not in ("match", "match_with_unpinned_inputs")
        for answer in outcomes.values()
    ):
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@workspace_options
@click.argument("names", nargs=-1)
@fail
def plan(
    call: WorkspaceCall,
    names: Sequence[str],
    fail: bool,
) -> None:
    """Preview the recomputation (dry run)."""
    with call.open() as ws:
        planned = ws.plan(names or None)
        kinds = ("certain", "possible", "reused", "blocked", "checks")
        value = {kind: [to_json_value(step) for step in getattr(planned, kind)] for kind in kinds}
        value |= {
            "seconds_at_least": planned.seconds_at_least,
            "seconds_at_most": planned.seconds_at_most,
        }
        print_result(planned, value, call.as_json, call.path)
    if fail and planned:
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@workspace_options
@click.argument("names", nargs=-1)
@fail
def recompute(
    call: WorkspaceCall,
    names: Sequence[str],
    fail: bool,
) -> None:
    """Bring the named tables, or all, up to date. Exit with 1 when a step failed; with --fail also
    when one could not be tried."""
    with call.open(read_only=False) as ws:
        report = ws.recompute(names or None)
        print_result(
            report,
            {
                "steps": [to_json_value(step) for step in report.steps],
                "deviations": report.deviations,
            },
            call.as_json,
            call.path,
        )
    failing_outcomes = ("failed", "rejected", *(("blocked", "skipped") if fail else ()))
    if any(step.outcome in failing_outcomes for step in report.steps):
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@workspace_options
@click.argument("names", nargs=-1)
@click.option("--fail", is_flag=True, help="Exit with 1 when a check does not pass.")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, writable=True),
    help="Also write the results as JUnit XML to this file.",
)
def check(
    call: WorkspaceCall,
    names: Sequence[str],
    fail: bool,
    junit: str | None,
) -> None:
    """Run the checks that are due, of the named tables or all."""
    with call.open(read_only=False) as ws:
        results = ws.check(names or None)
        if junit is not None:
            from jammi_lab.features.checks.junit import to_junit

            Path(junit).write_text(to_junit(results), encoding="utf-8")
        print_result(results, results.arrow().to_pylist(), call.as_json)
    if fail and results.failed:
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@workspace_options
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be repaired and remove files without a catalog entry.",
)
@click.option("--deep", is_flag=True, help="Also verify the bytes of every table.")
@fail
def fsck(
    call: WorkspaceCall,
    repair: bool,
    deep: bool,
    fail: bool,
) -> None:
    """Check that the catalog matches the files."""
    with call.open(read_only=not repair) as ws:
        report = ws.fsck(repair=repair, deep=deep)
        names = (
            "missing",
            "orphans",
            "damaged",
            "repaired",
            "failed",
            "reclaimed",
            "bytes_reclaimed",
        )
        value = {name: getattr(report, name) for name in names}
        print_result(report, value, call.as_json)
    if fail and any(value[name] for name in ("missing", "damaged", "failed")):
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@workspace_options
@click.argument("name", required=False)
@click.option(
    "--up", "direction", flag_value="up", help="Only upstream: what it was computed from."
)
@click.option(
    "--down", "direction", flag_value="down", help="Only downstream: what was computed from it."
)
@click.option("--columns", is_flag=True, help="Column lineage.")
def lineage(
    call: WorkspaceCall,
    name: str | None,
    direction: str | None,
    columns: bool,
) -> None:
    """Show lineage for one table or the whole workspace."""
    with call.open() as ws:
        graph = ws.lineage(name, direction=direction or "both", columns=columns)
        value = {
            "nodes": [to_json_value(n) for n in graph.nodes],
            "edges": [to_json_value(e) for e in graph.edges],
        }
        if columns:
            value["column_edges"] = [to_json_value(e) for e in graph.column_edges]
        print_result(graph, value, call.as_json)


@main.command()
@workspace_options
def sources(call: WorkspaceCall) -> None:
    """List the registered sources."""
    with call.open() as ws:
        print_result(
            ws.sources,
            ws.sql("SELECT * FROM jammi_catalog.sources ORDER BY name").arrow().to_pylist()
            if call.as_json
            else None,
            call.as_json,
            call.path,
        )


@main.command()
@workspace_options
@click.option("--all", "every", is_flag=True, help="Include failed and unfinished tables.")
def tables(call: WorkspaceCall, every: bool) -> None:
    """List every version of every table."""
    with call.open() as ws:
        versions = ws.tables(status=None if every else "ready")
        keys = (
            "name",
            "version",
            "table_name",
            "kind",
            "status",
            "row_count",
            "bytes",
            "created_at",
            "completed_at",
        )
        print_result(
            versions,
            [{key: getattr(table, key) for key in keys} for table in versions],
            call.as_json,
            call.path,
        )


@main.command(short_help="Run a statement and show its rows.")
@workspace_options
@click.argument("statement")
@click.option(
    "-n", "--limit", type=click.IntRange(min=0), help="Number of rows to show; 20 without --json."
)
def sql(
    call: WorkspaceCall,
    statement: str,
    limit: int | None,
) -> None:
    """Run a statement, read from standard input if it is `-`. Prints the rows as a table, or with
    --json as a list of objects."""
    text = sys.stdin.read() if statement == "-" else statement
    with call.open(
        read_only=not text.lstrip()[:6].casefold().startswith(("insert", "update", "delete")),
    ) as ws:
        print_rows(ws.sql(text), limit, call.as_json, call.path)


@main.command(short_help="Search a table by meaning, words, or both.")
@workspace_options
@click.argument("table")
@click.argument("text")
@click.option("-k", type=click.IntRange(min=0), default=10, help="Number of hits; 10.")
@click.option("--words", help="A lexical table of the same keys to search, too.")
@click.option("--where", help="A condition on the source's rows.")
@click.option("--select", multiple=True, help="A column of the source to show; repeatable.")
def search(
    call: WorkspaceCall,
    table: str,
    text: str,
    k: int,
    words: str | None,
    where: str | None,
    select: Sequence[str],
) -> None:
    """Find the rows that match a text best: by meaning in an embedding table, by words in a lexical
    table, by both with --words."""
    with call.open() as ws:
        hits = ws.search(table, text, k=k, words=words, where=where, select=select)
        print_rows(hits, k, call.as_json, call.path)


@main.command(short_help="Copy the catalog to a file.")
@workspace_options
@click.argument("target")
def backup(call: WorkspaceCall, target: str) -> None:
    """Copy a consistent state of the catalog to a file; tables are not copied."""
    with call.open() as ws:
        copied_to = ws.backup(target)
        print_result(
            f"The catalog was copied to {copied_to}.", {"target": str(copied_to)}, call.as_json
        )


@main.command(short_help="Create a new catalog from the manifests.")
@workspace_options
@click.option("--force", is_flag=True, help="Rebuild even if the catalog is intact.")
def rebuild(call: WorkspaceCall, force: bool) -> None:
    """Create a new catalog from the manifests when the old one is lost or damaged."""
    from jammi_lab.workspace.opening import rebuild as rebuild_catalog

    lost = _check_rebuild_losses(call.path, call.catalog, force=force)
    report = rebuild_catalog(call.path, catalog=call.catalog)
    lines = [
        str(report),
        *report._lines(),
        *([f"lost with the old catalog: {_format_names(lost)}"] if any(lost.values()) else []),
    ]
    print_result("\n  - ".join(lines), report.to_dict() | {"gone": lost}, call.as_json)


def _check_rebuild_losses(path: str, catalog: str | None, *, force: bool) -> dict[str, list[str]]:
    """The contents of the catalog that are in no manifest, which a rebuild loses. InvalidArgument
    if the catalog is intact, unless forced."""
    from jammi_lab.core.errors import InvalidArgument, TableDamaged, WorkspaceNotFound
    from jammi_lab.store.rebuild import catalog_only_contents

    try:
        with WorkspaceCall(path, catalog).open() as ws:
            contents = catalog_only_contents(ws._services.catalog)
    except (TableDamaged, WorkspaceNotFound):
        return {}
    except JammiError:
        if force:
            return {}
        raise
    if not force:
        loss = (
            f" Rebuilding would lose its {_format_names(contents)}."
            if any(contents.values())
            else ""
        )
        raise InvalidArgument(
            f"The catalog of {path!r} is intact; a rebuilt one would contain less.{loss}",
            hint=f"jammi-lab rebuild {path} --force rebuilds it anyway and keeps the old catalog "
            f"file.",
        )
    return contents


def _format_names(contents: dict[str, list[str]]) -> str:
    return "; ".join(
        f"{kind} {', '.join(names[:_MAX_NAMES])}"
        f"{f' and {len(names) - _MAX_NAMES} more' * (len(names) > _MAX_NAMES)}"
        for kind, names in contents.items()
        if names
    )


@main.command(short_help="Copy a workspace to another folder.")
@click.argument("source", default=DEFAULT_FOLDER)
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on standard output.")
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy a workspace to another folder; it may be in use meanwhile."""
    from jammi_lab.workspace.copy import copy_workspace

    with report_errors(source), WorkspaceCall(source).open() as ws:
        result = copy_workspace(ws, target)
        print_result(
            result,
            {"target": result.target, "tables": result.tables, "missing": result.missing},
            as_json,
        )


@main.command(short_help="Trust the folder of a workspace that somebody else created.")
@click.argument("path", default=DEFAULT_FOLDER)
def trust(path: str) -> None:
    """Trust the folder of a workspace that another user or another machine created: the catalog,
    the sources and the functions that its files name are used from then on."""
    from jammi_lab.workspace.opening import trust as trust_folder

    with report_errors(path):
        trust_folder(path)
    click.echo(f"Trusted {path}.")


main.add_command(check_notebook)
main.add_command(check_file)
main.add_command(mcp)

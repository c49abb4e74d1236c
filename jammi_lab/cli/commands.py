"""The commands of `jammi-lab` that read or recompute a workspace."""

import sys
from pathlib import Path

import click

from jammi_lab.cli.agent_server import mcp
from jammi_lab.cli.check_outputs import check_file, check_notebook
from jammi_lab.cli.options import (
    DEFAULT_FOLDER,
    FAILED_EXIT_CODE,
    CommandGroup,
    Values,
    WorkspaceCall,
    report_errors,
    workspace_command,
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


@workspace_command("status")
def _status(call: WorkspaceCall, values: Values) -> None:
    from jammi_lab.workspace import status_reports

    with call.open() as ws:
        board = ws.status(deep=values["deep"])
        rows = board.arrow().to_pylist()
        checks = ws._services.check_service.newest_results()
        findings = status_reports.find_problems(
            board, values["max_age"], strict=values["fail_grounds"]
        )
        findings += status_reports.find_failing_checks(checks, with_warnings=values["fail_warn"])
        if values["junit"] is not None:
            text = status_reports.to_junit(board, checks, findings)
            Path(values["junit"]).write_text(text, encoding="utf-8")
        if values["sarif"] is not None:
            text = status_reports.to_sarif(findings, ws.path)
            Path(values["sarif"]).write_text(text, encoding="utf-8")
        print_result(board, rows, call.as_json, call.path)
        for finding in findings:
            if finding.rule in (status_reports.OLD, status_reports.CHECK):
                click.echo(finding.message, err=call.as_json)
    _exit_if(_wants_failure(values) and findings)


@workspace_command("watch")
def _watch(call: WorkspaceCall, values: Values) -> None:
    fail, strict = values["fail"], values["fail_grounds"]
    interval = values["interval"] or 1.0
    with call.open() as ws:
        failed = watch_verdicts(ws, interval, as_json=call.as_json, fail=fail, strict=strict)
    _exit_if(failed)


@workspace_command("why")
def _why(call: WorkspaceCall, values: Values) -> None:
    with call.open() as ws:
        explanation = ws.why(values["NAME"])
        answer = {key: getattr(explanation, key) for key in ("name", "verdict", "lines")}
        print_result(explanation, answer, call.as_json, call.path)
    verdict = explanation.verdict.to_dict()
    relies_on_grounds = values["fail_grounds"] and verdict.get("grounds")
    _exit_if(_wants_failure(values) and (verdict["kind"] != "fresh" or relies_on_grounds))


@workspace_command("verify")
def _verify(call: WorkspaceCall, values: Values) -> None:
    with call.open() as ws:
        names = values["NAME"] or [row.name for row in ws.status() if row.version is not None]
        outcomes = {name: ws.verify(name) for name in names}
        lines = "\n".join(f"{name}: {answer}" for name, answer in outcomes.items())
        print_result(lines or "No tables yet.", outcomes, call.as_json)
    matching = ("match", "match_with_unpinned_inputs")
    kinds = [answer.to_dict()["kind"] for answer in outcomes.values()]
    _exit_if(values["fail"] and any(kind not in matching for kind in kinds))


@workspace_command("plan")
def _plan(call: WorkspaceCall, values: Values) -> None:
    with call.open() as ws:
        plan = ws.plan(values["NAME"] or None)
        kinds = ("certain", "possible", "reused", "blocked", "checks")
        value = {kind: [to_json_value(step) for step in getattr(plan, kind)] for kind in kinds}
        value |= {key: getattr(plan, key) for key in ("seconds_at_least", "seconds_at_most")}
        print_result(plan, value, call.as_json, call.path)
    _exit_if(values["fail"] and plan)


@workspace_command("recompute")
def _recompute(call: WorkspaceCall, values: Values) -> None:
    with call.open(read_only=False) as ws:
        report = ws.recompute(values["NAME"] or None)
        steps = [to_json_value(step) for step in report.steps]
        answer = {"steps": steps, "deviations": report.deviations}
        print_result(report, answer, call.as_json, call.path)
    failing_outcomes = ["failed", "rejected"]
    if values["fail"]:
        failing_outcomes += ["blocked", "skipped"]
    _exit_if(any(step.outcome in failing_outcomes for step in report.steps))


@workspace_command("check")
def _check(call: WorkspaceCall, values: Values) -> None:
    with call.open(read_only=False) as ws:
        results = ws.check(values["NAME"] or None)
        if values["junit"] is not None:
            from jammi_lab.core.junit import to_junit
            from jammi_lab.features.checks.results import junit_case

            report = to_junit("jammi-lab checks", [junit_case(row) for row in results])
            Path(values["junit"]).write_text(report, encoding="utf-8")
        print_result(results, results.arrow().to_pylist(), call.as_json)
    _exit_if(values["fail"] and results.failed)


@workspace_command("fsck")
def _fsck(call: WorkspaceCall, values: Values) -> None:
    with call.open(read_only=not values["repair"]) as ws:
        report = ws.fsck(repair=values["repair"], deep=values["deep"])
        lists = ("missing", "orphans", "damaged", "repaired", "failed", "reclaimed")
        value = {name: getattr(report, name) for name in (*lists, "bytes_reclaimed")}
        print_result(report, value, call.as_json)
    _exit_if(values["fail"] and any(value[name] for name in ("missing", "damaged", "failed")))


@workspace_command("lineage")
def _lineage(call: WorkspaceCall, values: Values) -> None:
    direction = "up" if values["up"] else "down" if values["down"] else "both"
    with call.open() as ws:
        graph = ws.lineage(values["NAME"], direction=direction, columns=values["columns"])
        kinds = ("nodes", "edges", "column_edges") if values["columns"] else ("nodes", "edges")
        value = {kind: [to_json_value(each) for each in getattr(graph, kind)] for kind in kinds}
        print_result(graph, value, call.as_json)


@workspace_command("sources")
def _sources(call: WorkspaceCall, _: Values) -> None:
    with call.open() as ws:
        rows = None
        if call.as_json:
            statement = "SELECT * FROM jammi_catalog.sources ORDER BY name"
            rows = ws.sql(statement).arrow().to_pylist()
        print_result(ws.sources, rows, call.as_json, call.path)


_TABLE_KEYS = (
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


@workspace_command("tables")
def _tables(call: WorkspaceCall, values: Values) -> None:
    with call.open() as ws:
        tables = ws.tables(status=None if values["all"] else "ready")
        answer = [{key: getattr(table, key) for key in _TABLE_KEYS} for table in tables]
        print_result(tables, answer, call.as_json, call.path)


@workspace_command("sql")
def _sql(call: WorkspaceCall, values: Values) -> None:
    text = sys.stdin.read() if values["STATEMENT"] == "-" else values["STATEMENT"]
    writes = text.lstrip()[:6].casefold().startswith(("insert", "update", "delete"))
    with call.open(read_only=not writes) as ws:
        print_rows(ws.sql(text), values["limit"], call.as_json, call.path)


@workspace_command("search")
def _search(call: WorkspaceCall, values: Values) -> None:
    k = 10 if values["k"] is None else values["k"]
    options = {key: values[key] for key in ("words", "where", "select")}
    with call.open() as ws:
        hits = ws.search(values["TABLE"], " ".join(values["TEXT"]), k=k, **options)
        print_rows(hits, k, call.as_json, call.path)


@workspace_command("backup")
def _backup(call: WorkspaceCall, values: Values) -> None:
    with call.open() as ws:
        target = ws.backup(values["TARGET"])
        print_result(f"The catalog was copied to {target}.", {"target": str(target)}, call.as_json)


@workspace_command("rebuild")
def _rebuild(call: WorkspaceCall, values: Values) -> None:
    from jammi_lab.workspace.opening import rebuild as rebuild_catalog

    lost = _check_rebuild_losses(call.path, call.catalog, force=values["force"])
    report = rebuild_catalog(call.path, catalog=call.catalog)
    lines = [str(report), *report._lines()]
    if any(lost.values()):
        lines.append(f"lost with the old catalog: {_format_names(lost)}")
    print_result("\n  - ".join(lines), report.to_dict() | {"gone": lost}, call.as_json)


def _wants_failure(values: Values) -> bool:
    """Whether `--fail` or one of its values was given."""
    return any(value for key, value in values.items() if key.startswith("fail"))


def _exit_if(failed: object) -> None:
    if failed:
        sys.exit(FAILED_EXIT_CODE)


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


for _command in (
    *(_status, _watch, _why, _verify, _plan, _recompute, _check, _fsck, _lineage, _sources),
    *(_tables, _sql, _search, _backup, _rebuild, check_notebook, check_file, mcp),
):
    main.add_command(_command)

"""The commands `check-notebook` and `check-file`: whether outputs and saved files still hold."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jammi_lab.cli.options import FAILED_EXIT_CODE, FailCommand, reported_errors

if TYPE_CHECKING:
    from jammi_lab.workspace.stamp_checks import Shown


def _outcome_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--fail-stale", is_flag=True, hidden=True),
        click.option("--fail-unknown", is_flag=True, hidden=True),  # as --fail
        click.option("--fail-grounds", is_flag=True, hidden=True),
        click.option(
            "--fail",
            is_flag=True,
            help="Exit with 1 when something is stale, outdated, edited or unknown; with "
            "--fail=stale what is unknown is allowed; with --fail=grounds a fresh verdict that "
            "relies on grounds is not.",
        ),
        click.option("--junit", type=click.Path(dir_okay=False), help="Also write JUnit XML."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON value."),
        click.option(
            "--catalog",
            envvar="JAMMI_CATALOG__URL",
            help="The URL of the PostgreSQL database with the catalog. Nothing else is connected "
            "to.",
        ),
        click.option(
            "--workspace",
            help="The workspace; without it, it is looked for beside the files and above.",
        ),
        click.argument(
            "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False)
        ),
    ):
        command = option(command)
    return command


@click.command("check-notebook", cls=FailCommand, short_help="Check outputs of notebooks.")
@_outcome_options
def check_notebook(files: Sequence[str], **options: Any) -> None:
    """Check whether the tables that notebooks show still hold. Nothing is run, and no kernel is
    needed."""
    from jammi_lab.workspace.stamp_checks import shown_in_notebook

    _check(lambda: (each for file in files for each in shown_in_notebook(Path(file))), **options)


@click.command("check-file", cls=FailCommand, short_help="Check saved charts and tables.")
@_outcome_options
def check_file(files: Sequence[str], **options: Any) -> None:
    """Check whether saved charts and exported tables still hold. Nothing is run."""
    from jammi_lab.workspace.stamp_checks import shown_in_file

    _check(lambda: (shown_in_file(Path(file)) for file in files), **options)


def _check(
    shown: "Callable[[], Iterable[Shown]]",
    workspace: str | None,
    catalog: str | None,
    as_json: bool,
    junit: str | None,
    fail: bool,
    fail_stale: bool,
    fail_unknown: bool,
    fail_grounds: bool,
) -> None:
    from jammi_lab.workspace import stamp_checks

    with reported_errors(), stamp_checks.Workspaces(workspace, catalog) as workspaces:
        entries = workspaces.check(shown())
    fails_unknown = fail or fail_unknown or fail_grounds
    failing = stamp_checks.FAILING_OUTCOMES if fails_unknown else stamp_checks.CHANGED_OUTCOMES
    if junit is not None:
        Path(junit).write_text(stamp_checks.to_junit(entries, failing), encoding="utf-8")
    if as_json:
        click.echo(json.dumps([each.to_dict() for each in entries], ensure_ascii=False))
    else:
        click.echo("\n".join(map(str, entries)) or "No shown tables.")
    unknown = sum(each.outcome == stamp_checks.UNKNOWN for each in entries)
    if unknown:
        click.echo(f"{unknown} of {len(entries)} could not be judged.", err=as_json)
    if (fails_unknown or fail_stale) and any(each.outcome in failing for each in entries):
        sys.exit(FAILED_EXIT_CODE)
    if fail_grounds and any(each.has_grounds for each in entries):
        sys.exit(FAILED_EXIT_CODE)

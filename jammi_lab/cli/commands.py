"""The commands that only the shell has, and what it adds to those that cells have, too."""

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.commands.help import Help
from jammi_lab.commands.shared import Answer, SharedVerbs, check_texts
from jammi_lab.commands.table import SHELL, Verb
from jammi_lab.commands.words import DEFAULT_FOLDER, Values
from jammi_lab.core.errors import InvalidArgument, JammiError, TableDamaged, WorkspaceNotFound
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.suggestions import translate_advice
from jammi_lab.storage import own_files

if TYPE_CHECKING:
    from jammi_lab.workspace.stamp_checks import Shown, Workspaces
    from jammi_lab.workspace.workspace import Workspace

_MAX_NAMES = 8
"""The number of names listed for each kind of object that a rebuild loses."""
_CHANGING_VERBS = frozenset({"recompute", "check"})
_CHANGING_STATEMENTS = ("insert", "update", "delete")


class ShellVerbs(SharedVerbs):
    """The commands of the shell, on the workspace of one call. It is opened when it is needed, and
    never created."""

    def __init__(self, verb: Verb, values: Values) -> None:
        self.path = str(values.get("PATH") or values.get("FOLDER") or DEFAULT_FOLDER)
        self._catalog, self._tenant = values.get("catalog"), values.get("tenant")
        self._changes = verb.name in _CHANGING_VERBS or bool(values.get("repair"))
        self._changes |= verb.function is not None
        self._opened = contextlib.ExitStack()
        self._workspace: Workspace | None = None

    def __enter__(self) -> "ShellVerbs":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def _ws(self) -> "Workspace":
        if self._workspace is None:
            self._workspace = self._opened.enter_context(self.open(read_only=not self._changes))
        return self._workspace

    def open(self, *, read_only: bool) -> "Workspace":
        """The existing workspace of the call."""
        from jammi_lab.workspace.opening import open as open_workspace

        return open_workspace(
            self.path,
            catalog=self._catalog,
            tenant=self._tenant,
            read_only=read_only,
            create=False,
        )

    def _help(self, values: Values) -> Any:
        return Help(values["WORD"], SHELL)

    def _status(self, values: Values) -> Answer:
        from jammi_lab.workspace import status_reports

        answer = super()._status(values)
        service = self._ws._services.check_service
        checks = service.newest_results()
        findings = status_reports.find_problems(
            answer.value, values["max_age"], strict="grounds" in values["fail"]
        )
        findings += status_reports.find_failing_checks(
            checks, service.never_run(), with_warnings="warn" in values["fail"]
        )
        findings = [
            replace(each, message=translate_advice(each.message, "shell", self._ws.path))
            for each in findings
        ]
        _write_report(values["junit"], status_reports.to_junit(answer.value, checks, findings))
        _write_report(values["sarif"], status_reports.to_sarif(findings, self._ws.path))
        shown = (status_reports.OLD, status_reports.CHECK)
        remarks = tuple(each.message for each in findings if each.rule in shown)
        return replace(answer, failed=bool(findings), remarks=remarks)

    def _recompute(self, values: Values) -> Answer:
        self._ws._services.step_functions.runs_cells = values["allow_python"]
        return super()._recompute(values)

    def _check(self, values: Values) -> Answer:
        answer = super()._check(values)
        if values["junit"] is not None:
            from jammi_lab.core.junit import to_junit
            from jammi_lab.features.checks.results import junit_case

            report = to_junit("jammi-lab checks", [junit_case(row) for row in answer.value])
            _write_report(values["junit"], report)
        return answer

    def _watch(self, values: Values) -> Answer:
        from jammi_lab.cli.verdict_watch import watch_verdicts

        failed = watch_verdicts(
            self._ws,
            values["interval"] or 1.0,
            as_json=values["json"],
            fail=bool(values["fail"]),
            strict="grounds" in values["fail"],
        )
        return Answer(None, failed=failed)

    def _sql(self, values: Values) -> Any:
        text = sys.stdin.read() if values["STATEMENT"] == "-" else values["STATEMENT"]
        self._changes = text.lstrip()[:6].casefold().startswith(_CHANGING_STATEMENTS)
        return self._ws.sql(text)

    def _mcp(self, values: Values) -> None:
        from jammi_lab.cli.agent_server import serve

        can_recompute = values["allow_recompute"]
        serve(self._ws, (lambda: self.open(read_only=False)) if can_recompute else None)

    def _trust(self, _: Values) -> str:
        from jammi_lab.workspace.opening import trust

        trust(self.path)
        return f"Trusted {self.path}."

    def _backup(self, values: Values) -> Answer:
        target = str(self._ws.backup(values["TARGET"]))
        return Answer(f"The catalog was copied to {target}.", lambda: {"target": target})

    def _completion(self, _: Values) -> str:
        from jammi_lab.cli.completion import completion_script

        return completion_script()

    def _rebuild(self, values: Values) -> Answer:
        from jammi_lab.workspace.opening import rebuild

        lost = self._check_losses(force=values["force"])
        report = rebuild(self.path, catalog=self._catalog)
        lines = [str(report), *report._lines()]
        if any(lost.values()):
            lines.append(f"lost with the old catalog: {_format_names(lost)}")
        return Answer(
            "\n  - ".join(map(escape_invisible, lines)), lambda: report.to_dict() | {"gone": lost}
        )

    def _check_losses(self, *, force: bool) -> dict[str, list[str]]:
        """The contents of the catalog that are in no manifest, which a rebuild loses.
        InvalidArgument if the catalog is intact, unless forced."""
        from jammi_lab.store.rebuild import catalog_only_contents

        try:
            with self.open(read_only=True) as ws:
                contents = catalog_only_contents(ws._services.catalog)
        except JammiError as error:
            if force or isinstance(error, TableDamaged | WorkspaceNotFound):
                return {}
            raise
        if not force:
            loss = f" Rebuilding would lose its {_format_names(contents)}."
            raise InvalidArgument(
                f"The catalog of {self.path!r} is intact; a rebuilt one would contain less."
                + loss * any(contents.values()),
                hint=f"jammi-lab rebuild {self.path} --force rebuilds it anyway and keeps the old "
                "catalog file.",
            )
        return contents

    def _check_notebook(self, values: Values) -> Answer:
        from jammi_lab.workspace.stamp_checks import shown_in_notebook

        files = map(Path, values["FILE"])
        return _check_stamps(values, (each for file in files for each in shown_in_notebook(file)))

    def _check_file(self, values: Values) -> Answer:
        from jammi_lab.workspace.stamp_checks import shown_in_file

        return _check_stamps(values, map(shown_in_file, map(Path, values["FILE"])))

    def _check_text(self, values: Values) -> Answer:
        with _open_workspaces(values) as workspaces:
            result = check_texts(
                values["FILE"],
                lambda file: workspaces.nearest(file).prose,
                update=values["update"],
            )
        _write_report(values["junit"], result.junit())
        return Answer(
            result,
            lambda: [each.to_dict() for each in result],
            failed=result.fails(unfound="unfound" in values["fail"]),
            remarks=tuple(result.notes),
        )


def _open_workspaces(values: Values) -> "Workspaces":
    from jammi_lab.workspace.stamp_checks import Workspaces

    catalog = values["catalog"] or os.environ.get("JAMMI_CATALOG__URL")
    return Workspaces(values["workspace"], catalog)


def _check_stamps(values: Values, shown: "Iterable[Shown]") -> Answer:
    """Whether what is shown still holds."""
    from jammi_lab.workspace import stamp_checks

    with _open_workspaces(values) as workspaces:
        entries = workspaces.check(shown)
    allows_unknown = set(values["fail"]) <= {"stale"}
    failing = stamp_checks.CHANGED_OUTCOMES if allows_unknown else stamp_checks.FAILING_OUTCOMES
    _write_report(values["junit"], stamp_checks.to_junit(entries, failing))
    unknown = sum(each.outcome == stamp_checks.UNKNOWN for each in entries)
    with_grounds = "grounds" in values["fail"] and any(each.has_grounds for each in entries)
    return Answer(
        "\n".join(map(str, entries)) or "No shown tables.",
        lambda: [each.to_dict() for each in entries],
        failed=with_grounds or any(each.outcome in failing for each in entries),
        remarks=(f"{unknown} of {len(entries)} could not be judged.",) * (unknown > 0),
    )


def _write_report(file: str | None, text: str) -> None:
    """Write a report for a build server, if one is wanted. InvalidArgument."""
    if file is None:
        return
    try:
        if not file.startswith(("/dev/std", "/dev/fd/")):
            own_files.check_file(Path(file))
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(
            f"The report {file!r} cannot be written: {error.strerror}.",
            hint="Name a file that is no link or pipe, in a folder that exists.",
        ) from None


def _format_names(contents: dict[str, list[str]]) -> str:
    return "; ".join(
        f"{kind} {', '.join(names[:_MAX_NAMES])}"
        f"{f' and {len(names) - _MAX_NAMES} more' * (len(names) > _MAX_NAMES)}"
        for kind, names in contents.items()
        if names
    )

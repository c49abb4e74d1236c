"""`ws.checks`: rules about the rows of result tables."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jammi_lab.catalog.checks import CheckRepository
from jammi_lab.core.anchors import Input
from jammi_lab.core.checks import CheckRecord, Severity
from jammi_lab.core.errors import CheckNotFound, InvalidArgument
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import NamedCollection, Rendered, ReprMixin
from jammi_lab.core.identifiers import check_choice, check_name, near_names, quoted_name
from jammi_lab.core.recipes import encode_params
from jammi_lab.core.records import TableVersion
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.features.checks.rules import Rule
from jammi_lab.features.checks.runner import CheckRunner
from jammi_lab.features.checks.service import CheckService
from jammi_lab.inputs.result_names import JAMMI


class Check(ReprMixin):
    """One check: a rule about the rows of a table."""

    def __init__(self, checks: "Checks", record: CheckRecord) -> None:
        self._checks, self._record = checks, record

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def table(self) -> str:
        """The recipe whose versions it checks."""
        return self._record.recipe

    @property
    def severity(self) -> str:
        """Block or warn."""
        return self._record.severity.value

    @property
    def rule(self) -> str:
        """The rule in words, else its statement."""
        return self._record.text

    @property
    def definition(self) -> str:
        """The SELECT of the failing rows."""
        return self._record.statement

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    @property
    def inputs(self) -> list[Input]:
        """What its statement reads: the checked table, and others. Raises as `rows`."""
        return [read.relation.input for read in self._checks._prepare(self._record, None).inputs]

    def rows(self, version: int | None = None) -> Any:
        """The failing rows of a version as a Result, by default of the newest; also of a rejected
        one. Raises TableNotFound, and what its statement raises."""
        return self._checks._to_result(self._checks._prepare(self._record, version))

    def _rendered(self) -> Rendered:
        return CheckList([self])._rendered()


class CheckList(list[Check], ReprMixin):
    """A list of checks, displayed with one line each."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        rows = [(c.name, c.table, c.severity, c.rule) for c in self]
        return listing_table(["check", "table", "severity", "rule"], rows, aligned="llll")


class Checks(NamedCollection[Check], ReprMixin):
    """The checks of a workspace: `ws.checks["name"]`, iterable, `in`, `len()`."""

    def __init__(
        self,
        service: CheckService,
        runner: CheckRunner,
        stored: CheckRepository,
        find: Callable[[str, int | None], TableVersion],
        to_result: Callable[[PreparedStatement], Any],
        not_found: Callable[[str], Exception],
    ) -> None:
        """`find` and `not_found` as those of `TableLookup`; `to_result`: a statement as a
        Result."""
        self._service, self._runner, self._records = service, runner, stored
        self._find, self._to_result, self._no_table = find, to_result, not_found

    def add(
        self,
        name: str,
        rule: str | Rule,
        *,
        on: str,
        severity: str = "block",
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> Check:
        """Add a check on the versions of a recipe, or replace the check of that name on it.

        `rule`: the SELECT of the failing rows, in which `jammi.<on>` is the version that is
        checked, with `params`; or a rule such as `jl.checks.unique("id")`. `severity="block"`, the
        default, keeps a version that does not pass from becoming the newest; `"warn"` reports it.
        `description` is the rule in words; without it, a comment at the beginning of the SELECT is.
        Nothing is run; a version that is the newest already stays it.

        Raises TableNotFound, InvalidArgument, NameInvalid, TenantForbidden, and as `ws.sql` for the
        statement.
        """
        check_choice("severity", severity, Severity)
        record = self._subject(name, on, Severity(severity))
        # before the statement is prepared as its owner's, which reads files by path
        self._records.check_owner(record)
        if isinstance(rule, Rule) and params is None:
            text, values, words = (
                rule.statement(quoted_name(JAMMI, record.recipe)),
                rule.params,
                rule.words,
            )
        elif isinstance(rule, str):
            text, values, words = rule, dict(params or {}), leading_comment(rule)
        else:
            raise InvalidArgument(
                "A check must be a SELECT of the failing rows, with its params, or a rule such as "
                'jl.checks.unique("id").'
            )
        credential_check.check_text("The description of a check", description or words)
        credential_check.check_statement(text)
        for parameter, value in values.items():
            credential_check.check_value(parameter, value)
        record = record.with_values(
            rule=description or words,
            statement=self._runner.select_text(text),
            params=encode_params(values),
        )
        for version in self._service.newest(record):
            self._runner.prepare_rows(record, version.record)
        self._service.check_writable()
        return Check(self, self._records.put(record))

    def _subject(self, name: str, on: str, severity: Severity) -> CheckRecord:
        """A check without a rule on the recipe that `on` names. TableNotFound; InvalidArgument for
        a source and a mutable table, whose rows no version holds."""
        recipe = self._service.find_recipe(on)
        if recipe is None:
            if (read_as := self._service.input_name(on)) is not None:
                raise InvalidArgument(
                    f"A check is on the versions of a table, and {on!r} has none.",
                    hint=f"ws.materialize('name', 'FROM {read_as}'), with the check on='name', "
                    "keeps rows that do not pass from what reads jammi.name.",
                )
            raise self._no_table(on)
        asked = on.rpartition(".")[2]
        return CheckRecord(
            name=check_name(name, "check"),
            recipe=recipe.name,
            subject=asked if self._service.subject_name(asked) != asked else recipe.name,
            tenant=recipe.tenant,
            severity=severity,
            rule="",
            statement="",
        )

    def __getitem__(self, name: str) -> Check:
        """The check of that name. CheckNotFound, with near names."""
        record = self._records.get(name)
        if record is None:
            raise self._not_found(name)
        return Check(self, record)

    def list(self, on: str | None = None) -> CheckList:
        """All checks, or those on one table, by name."""
        subject = None if on is None else self._service.subject_name(on)
        records = [r for r in self._records.list() if subject is None or r.is_on(subject)]
        return CheckList(Check(self, record) for record in records)

    def remove(self, name: str) -> None:
        """Remove a check with its results. CheckNotFound, TenantForbidden."""
        self._service.check_writable()
        if not self._records.remove(name):
            raise self._not_found(name)

    def _not_found(self, name: str) -> CheckNotFound:
        names = [record.name for record in self._records.list()]
        return CheckNotFound(f"There is no check {name!r}.", near=near_names(name, names))

    def _prepare(self, record: CheckRecord, version: int | None) -> PreparedStatement:
        return self._runner.prepare_rows(record, self._find(record.recipe, version).record)


def leading_comment(statement: str) -> str:
    """The comment lines at the beginning of a statement, as one line; empty without any."""
    lines = [line.strip() for line in statement.strip().splitlines()]
    comment = itertools.takewhile(lambda line: line.startswith("--"), lines)
    return " ".join(line.lstrip("-").strip() for line in comment).strip()

"""`ws.checks`: rules about the rows of result tables, sources and mutable tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from jammi_lab.catalog.checks import CheckRepository
from jammi_lab.core.anchors import Input
from jammi_lab.core.argument_suggestions import answer_calls
from jammi_lab.core.checks import CheckRecord, Severity
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.errors import CheckNotFound, InvalidArgument
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin
from jammi_lab.core.identifiers import check_name, near_names
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.features.checks.checks import CheckService
from jammi_lab.features.checks.rules import Rule, leading_comment
from jammi_lab.workspace.lookup import TableLookup
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.statement_runner import StatementRunner


class Check(ReprMixin):
    """One check: a rule about the rows of a table."""

    def __init__(
        self, service: CheckService, statements: StatementRunner, record: CheckRecord
    ) -> None:
        self._service, self._statements, self._record = service, statements, record

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def table(self) -> str:
        """What it checks: a recipe, a source, or `mutable.<name>`."""
        return self._record.label

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
        return [read.relation.input for read in self._prepare(None).inputs]

    def rows(self, version: int | None = None) -> Result:
        """The failing rows of a version, by default the newest; also of a rejected one. Of a source
        or a mutable table those that it has now. Raises TableNotFound, InvalidArgument, and what
        its statement raises."""
        return self._statements.result(self._prepare(version))

    def _prepare(self, version: int | None) -> PreparedStatement:
        if self._record.kind_class.is_result:
            return self._service.prepare_rows(
                self._record, self._service.find(self._record.recipe, version).record
            )
        if version is not None:
            raise InvalidArgument(f"{self.table} has no versions.", hint="Omit version=.")
        return self._service.prepare_rows(self._record, None)

    def _rendered(self) -> Rendered:
        return _checks_table([self])


class CheckList(list[Check], ReprMixin):
    """A list of checks, displayed with one line each."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        return _checks_table(self)


@answer_calls
class Checks(ReprMixin):
    """The checks of a workspace: `ws.checks["name"]`, iterable, `in`, `len()`."""

    def __init__(
        self,
        service: CheckService,
        stored: CheckRepository,
        lookup: TableLookup,
        statements: StatementRunner,
    ) -> None:
        self._service, self._stored = service, stored
        self._lookup, self._statements = lookup, statements

    def _check(self, record: CheckRecord) -> Check:
        return Check(self._service, self._statements, record)

    def add(
        self,
        name: str,
        rule: str | Rule,
        *,
        on: str,
        severity: str | None = None,
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> Check:
        """Add a check on a recipe, a source (`on="papers"`) or a mutable table
        (`on="mutable.orders"`), or replace the check of that name on it.

        `rule`: the SELECT of the failing rows, in which `jammi.<on>` is the version that is
        checked, with `params`; or a rule such as `jl.checks.unique("id")`. `severity="block"`, the
        default, keeps a version that does not pass from becoming the newest, and refuses the commit
        on a mutable table; `"warn"` reports it. A check on a source can only warn, in the verdicts
        on what is made from it. `description` is the rule in words; without it, a comment at the
        beginning of the SELECT is. Nothing is run; a version that is the newest already stays it.

        Raises TableNotFound, InvalidArgument, NameInvalid, TenantForbidden, and as `ws.sql` for the
        statement.
        """
        record = self._new_record(name, rule, on, severity, params, description)
        self._service.check_statement(record)
        self._service.check_writable()
        return self._check(self._stored.put(record))

    def _new_record(
        self,
        name: str,
        rule: str | Rule,
        on: str,
        severity: str | None,
        params: Mapping[str, Any] | None,
        description: str,
    ) -> CheckRecord:
        subject = self._find_subject(name, on)
        if isinstance(rule, Rule) and params is None:
            text, values = rule.statement(*subject.name_parts), dict(rule.params)
            description = description or rule.words
        elif isinstance(rule, str):
            text, values = rule, dict(params or {})
            description = description or leading_comment(rule)
        else:
            raise InvalidArgument(
                "A check must be a SELECT of the failing rows, with its params, or a rule such as "
                'jl.checks.unique("id").'
            )
        credential_check.check_text("The description of a check", description)
        credential_check.check_statement(text)
        for parameter, value in values.items():
            credential_check.check_value(parameter, value)
        return msgspec.structs.replace(
            subject,
            severity=_to_severity(severity, subject),
            rule=description,
            statement=self._service.select_text(text),
            params={key: encode_param(value) for key, value in sorted(values.items())},
        )

    def _find_subject(self, name: str, on: str) -> CheckRecord:
        """A check without a rule on what `on` names. TableNotFound."""
        target = self._service.find_subject(on)
        if target is None:
            raise self._lookup.not_found(on)
        kind, subject, tenant = target
        asked = str(on).rpartition(".")[2]
        is_alias = input_kind(kind).is_result and self._lookup.resolve_alias(asked) != asked
        return CheckRecord(
            name=check_name(name, "check"),
            kind=kind,
            recipe=subject,
            subject=asked if is_alias else subject,
            tenant=tenant,
            severity=Severity.BLOCK,
            rule="",
            statement="",
        )

    def __getitem__(self, name: str) -> Check:
        """The check of that name. CheckNotFound, with near names."""
        record = self._stored.get(name)
        if record is None:
            raise self._not_found(name)
        return self._check(record)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._stored.get(name) is not None

    def __iter__(self) -> Iterator[Check]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._stored.list())

    def list(self, on: str | None = None) -> CheckList:
        """All checks, or those on one table, by name."""
        subject = None if on is None else self._service.subject_name(on)
        return CheckList(
            self._check(record)
            for record in self._stored.list()
            if subject is None or record.is_on(subject)
        )

    def remove(self, name: str) -> None:
        """Remove a check with its results. CheckNotFound, TenantForbidden."""
        self._service.check_writable()
        if not self._stored.remove(name):
            raise self._not_found(name)

    def _not_found(self, name: str) -> CheckNotFound:
        names = [record.name for record in self._stored.list()]
        return CheckNotFound(f"There is no check {name!r}.", near=near_names(name, names))

    def _rendered(self) -> Rendered:
        return self.list()._rendered()


def _to_severity(severity: str | None, subject: CheckRecord) -> Severity:
    is_source = subject.kind_class.is_external
    if severity is None:
        return Severity.WARN if is_source else Severity.BLOCK
    if severity not in [*Severity]:
        raise InvalidArgument(
            f'severity must be "block" or "warn", got {severity!r}.',
            near=near_names(str(severity), [*Severity]),
        )
    if is_source and severity == Severity.BLOCK:
        raise InvalidArgument(
            f"A check on the source {subject.label!r} cannot block: its rows are written outside.",
            hint="Omit severity=, or put the check on a table computed from it.",
        )
    return Severity(severity)


def _checks_table(checks: Sequence[Check]) -> Rendered:
    rows = [(c.name, c.table, c.severity, c.rule) for c in checks]
    return listing_table(["check", "table", "severity", "rule"], rows, aligned="llll")

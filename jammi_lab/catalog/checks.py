"""Checks and their results."""

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.row_mapping import CHECK, CHECK_RESULT
from jammi_lab.catalog.schema import check_results, checks
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.anchors import Input
from jammi_lab.core.checks import CheckRecord, CheckResult, Severity
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind

MAX_RESULTS = 16
"""How many results of a check on one version, source or mutable table are kept."""
CheckRecords = list[CheckRecord]  # defined here because `list` is a method of the class below

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_inside: sa.BindParameter[str] = sa.bindparam("inside", type_=sa.Text)
_is_of_kind = checks.c.kind == sa.bindparam("checked_kind")
_is_of_recipe = sa.and_(_is_of_kind, checks.c.recipe_fold == _fold)
_is_on_table = check_results.c.table_name == sa.bindparam("table_name")
_LIST = CompiledStatement(
    scope.select(*CHECK.columns, tables=checks).order_by(
        checks.c.name_fold, scope.own_first(checks)
    )
)
_OF_RECIPE = CompiledStatement(
    scope.select_owned_by(*CHECK.columns, tables=checks)
    .where(_is_of_recipe)
    .order_by(checks.c.name_fold)
)
_RENAME_RECIPE = scope.update_owned_by(checks).where(_is_of_recipe)
_RESULTS = CompiledStatement(
    scope.select_owned_by(*CHECK_RESULT.columns, tables=check_results)
    .where(
        check_results.c.check_fold == _fold,
        sa.or_(_is_on_table, sa.bindparam("others") == sa.literal_column("1")),
    )
    # those on the table first, so that those on many others do not crowd them out
    .order_by(sa.case((_is_on_table, 0), else_=1), check_results.c.checked_at.desc())
    .limit(sa.bindparam("number"))
)
_INSERT_RESULT = CompiledStatement(sa.insert(check_results))
_DELETE_RESULTS = CompiledStatement(
    scope.delete_owned_by(check_results).where(
        check_results.c.check_fold == _fold,
        _is_on_table,
        sa.or_(
            sa.and_(
                check_results.c.definition_hash == sa.bindparam("definition"),
                check_results.c.anchors_digest == sa.bindparam("anchors"),
            ),
            check_results.c.checked_at <= sa.bindparam("oldest"),
        ),
    )
)
_DELETE_RESULTS_OF_TABLE = CompiledStatement(
    scope.delete_owned_by(check_results).where(_is_on_table)
)


def _deletion(condition: sa.ColumnElement[bool]) -> Sequence[sa.Delete]:
    """The statements that delete the checks of one owner that meet a condition, after their
    results."""
    names = scope.select_owned_by(checks.c.name_fold, tables=checks).where(condition)
    results = scope.delete_owned_by(check_results).where(check_results.c.check_fold.in_(names))
    return results, scope.delete_owned_by(checks).where(condition)


_DELETE_RESULTS_OF_CHECK, _DELETE = _deletion(checks.c.name_fold == _fold)
_DELETE_OF_RECIPE = _deletion(_is_of_recipe)
_DELETE_OF_TABLES_IN = _deletion(
    sa.and_(
        _is_of_kind, sa.func.substr(checks.c.recipe_fold, 1, sa.func.length(_inside)) == _inside
    )
)


class CheckRepository:
    """The checks of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

    def put(self, record: CheckRecord) -> CheckRecord:
        """Add a check or replace its definition; return the stored record, unchanged when the
        definition is equal. Raises InvalidArgument when a check of that name is on another recipe,
        TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The table {record.label!r}")
        now = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            existing = next((c for c in self._visible() if c.key == record.key), None)
            stored = msgspec.structs.replace(record, created_at=now, updated_at=now)
            if existing is not None:
                if existing.subject_key != record.subject_key:
                    raise InvalidArgument(
                        f"The check {existing.name!r} is on {existing.label!r}, not on "
                        f"{record.label!r}.",
                        hint="Choose another name, or remove it first: "
                        f"ws.checks.remove({existing.name!r})",
                    )
                stored = msgspec.structs.replace(
                    stored, name=existing.name, created_at=existing.created_at
                )
                if msgspec.structs.replace(stored, updated_at=existing.updated_at) == existing:
                    return existing
                if stored.subject != existing.subject:  # by which their anchors name the version
                    tx.execute(_DELETE_RESULTS_OF_CHECK, _name_key(existing))
                tx.execute(_DELETE, _name_key(existing))
            tx.execute(sa.insert(checks), CHECK.encode(stored))
        return stored

    def get(self, name: str) -> CheckRecord | None:
        """The check of that name, own before shared."""
        return next((c for c in self._visible() if fold(c.name) == fold(name)), None)

    def of_inputs(self) -> CheckRecords:
        """The checks on sources and mutable tables, own and shared, by name."""
        return [c for c in self._visible() if not c.kind_class.is_result]

    def list(self) -> CheckRecords:
        """Every check, by name, without shared ones that own ones hide."""
        records = self._visible()
        own = {fold(r.name) for r in records if r.tenant is not None}
        return [
            r
            for r in records
            if self._scope.is_unrestricted or r.tenant is not None or fold(r.name) not in own
        ]

    def _visible(self) -> tuple[CheckRecord, ...]:
        """The own and the shared checks, by name, own ones first."""
        return self._read("visible checks", _LIST, self._scope.parameters())

    def of_recipe(
        self, tenant: str | None, name: str, kind: str = "result"
    ) -> tuple[CheckRecord, ...]:
        """The checks on an owner's recipe, source or mutable table, by name, whoever is bound."""
        return self._read("checks", _OF_RECIPE, _recipe_key(tenant, name, kind))

    def _read(
        self, label: str, statement: CompiledStatement, parameters: dict[str, str]
    ) -> tuple[CheckRecord, ...]:
        return self._database.cached(
            (label, *parameters.values()),
            lambda: tuple(map(CHECK.decode, self._database.fetch(statement, parameters))),
        )

    def remove(self, name: str) -> bool:
        """Delete a check with its results; return whether it existed. Raises TenantForbidden for a
        shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The check {record.name!r}")
            for statement in (_DELETE_RESULTS_OF_CHECK, _DELETE):
                tx.execute(statement, _name_key(record))
        return True

    def add_results(self, results: Iterable[CheckResult]) -> None:
        """Store results of checks that still exist, each as the latest of its check on its table:
        one that is taken over is dated now where a later one is there. An equal key replaces the
        earlier result, and of very many only the newest are kept."""
        with self._database.write() as tx:
            existing = {check.key for check in self._visible()}
            for result in results:
                if result.key not in existing:
                    continue
                row = CHECK_RESULT.encode(result)
                values = {"definition": result.definition_hash, "anchors": row["anchors_digest"]}
                stored = [
                    earlier
                    for earlier in self.results(result, result.table_name)
                    if [earlier.definition_hash, earlier.anchors_digest] != [*values.values()]
                ]
                oldest = "" if len(stored) < MAX_RESULTS else stored[-1].checked_at
                key = _name_key(result) | {"table_name": result.table_name, "oldest": oldest}
                _DELETE_RESULTS.execute(tx, key | values)
                if stored and stored[0].checked_at >= result.checked_at:
                    row["checked_at"] = rfc3339(self._clock.now_ns())
                _INSERT_RESULT.execute(tx, row)

    def results(
        self,
        check: CheckRecord | CheckResult,
        table_name: str,
        number: int = MAX_RESULTS,
        *,
        others: bool = False,
    ) -> Sequence[CheckResult]:
        """The newest results of a check on a table, newest first; with `others` then those on other
        tables."""
        key = _name_key(check) | {"table_name": table_name}
        parameters = key | {"number": number, "others": int(others)}
        return self._database.cached(
            ("check results", *parameters.values()),
            lambda: tuple(map(CHECK_RESULT.decode, self._database.fetch(_RESULTS, parameters))),
        )

    def inputs(self, check: CheckRecord) -> Sequence[Input]:
        """The result tables that a check read when it was run last."""
        results = self.results(check, "", 1, others=True)
        inputs = [anchor.input for result in results for anchor in result.anchors]
        return [input_ for input_ in inputs if input_.kind_class.is_result]


def blocking_stamp(records: Sequence[CheckRecord]) -> str:
    """Identifies the blocking ones among these checks on a mutable table; '' without any."""
    blocking = [record.updated_at for record in records if record.severity is Severity.BLOCK]
    return f"{len(blocking)} {max(blocking)}" if blocking else ""


def _name_key(check: CheckRecord | CheckResult) -> dict[str, object]:
    tenant, name = check.key
    return {"owner": tenant or "", "fold": name}


def _recipe_key(tenant: str | None, name: str, kind: str) -> dict[str, str]:
    return {"owner": tenant or "", "fold": fold(name), "checked_kind": kind}


def remove_checks_of_recipe(
    tx: sa.Connection, tenant: str | None, name: str, kind: str = "result"
) -> None:
    """Delete all checks on an owner's recipe, source or mutable table, and on tables in that
    source, with their results."""
    key = _recipe_key(tenant, name, kind)
    in_source = _DELETE_OF_TABLES_IN if input_kind(kind).is_external else ()
    for statement in (*_DELETE_OF_RECIPE, *in_source):
        tx.execute(statement, key | {"inside": f"{fold(name)}."})


def rename_checked_recipe(tx: sa.Connection, tenant: str | None, old: str, new: str) -> None:
    """Let the checks on a recipe follow its new name."""
    tx.execute(
        _RENAME_RECIPE.values(recipe=new, recipe_fold=fold(new)),
        _recipe_key(tenant, old, "result"),
    )


def remove_results_of_table(tx: sa.Connection, tenant: str | None, table_name: str) -> None:
    """Delete the results on an owner's physical table that is removed."""
    _DELETE_RESULTS_OF_TABLE.execute(tx, {"owner": tenant or "", "table_name": table_name})

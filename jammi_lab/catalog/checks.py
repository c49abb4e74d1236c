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

CheckRecords = list[CheckRecord]  # defined here because `list` is a method of the class below

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_GET = (
    scope.select(*CHECK.columns, tables=checks)
    .where(checks.c.name_fold == _fold)
    .order_by(scope.own_first(checks))
    .limit(1)
)
_OF_INPUTS = CompiledStatement(
    scope.select(*CHECK.columns, tables=checks)
    .where(checks.c.kind != sa.literal_column("'result'"))
    .order_by(checks.c.name_fold, scope.own_first(checks))
)
_GET_OF_OWNER = scope.select_owned_by(*CHECK.columns, tables=checks).where(
    checks.c.name_fold == _fold
)
_LIST = CompiledStatement(
    scope.select(*CHECK.columns, tables=checks).order_by(
        checks.c.name_fold, scope.own_first(checks)
    )
)
_of_recipe = sa.and_(checks.c.kind == sa.bindparam("checked_kind"), checks.c.recipe_fold == _fold)
_OF_RECIPE = CompiledStatement(
    scope.select_owned_by(*CHECK.columns, tables=checks)
    .where(_of_recipe)
    .order_by(checks.c.name_fold)
)
_OF_SOURCES = scope.select_owned_by(*CHECK.columns, tables=checks).where(checks.c.kind == "source")
_DELETE = scope.delete_owned_by(checks).where(checks.c.name_fold == _fold)
_DELETE_RESULTS = scope.delete_owned_by(check_results).where(check_results.c.check_fold == _fold)
_DELETE_OF_RECIPE = scope.delete_owned_by(checks).where(_of_recipe)
_DELETE_RESULTS_OF_RECIPE = scope.delete_owned_by(check_results).where(
    check_results.c.check_fold.in_(
        scope.select_owned_by(checks.c.name_fold, tables=checks).where(_of_recipe)
    )
)
_RENAME_RECIPE = scope.update_owned_by(checks).where(_of_recipe)
_DELETE_RESULTS_OF_TABLE = CompiledStatement(
    scope.delete_owned_by(check_results).where(
        check_results.c.table_name == sa.bindparam("table_name")
    )
)
_RESULTS = CompiledStatement(
    scope.select_owned_by(*CHECK_RESULT.columns, tables=check_results)
    .where(
        check_results.c.check_fold == _fold,
        check_results.c.definition_hash == sa.bindparam("definition"),
    )
    # those on the table first, so that those on many others do not crowd them out
    .order_by(
        sa.case((check_results.c.table_name == sa.bindparam("table_name"), 0), else_=1),
        check_results.c.checked_at.desc(),
    )
    .limit(sa.bindparam("number"))
)
_NEWEST_RESULT = CompiledStatement(
    scope.select_owned_by(*CHECK_RESULT.columns, tables=check_results)
    .where(check_results.c.check_fold == _fold)
    .order_by(check_results.c.checked_at.desc())
    .limit(1)
)
_RESULTS_OF_TABLE = CompiledStatement(
    scope.select(*CHECK_RESULT.columns, tables=check_results)
    .where(check_results.c.table_name == sa.bindparam("table_name"))
    .order_by(check_results.c.check_fold, check_results.c.checked_at)
)
_DELETE_RESULT = CompiledStatement(
    scope.delete_owned_by(check_results).where(
        check_results.c.check_fold == _fold,
        check_results.c.table_name == sa.bindparam("table_name"),
        check_results.c.definition_hash == sa.bindparam("definition"),
        check_results.c.anchors_digest == sa.bindparam("anchors"),
    )
)
_of_check_on_table = sa.and_(
    check_results.c.check_fold == _fold, check_results.c.table_name == sa.bindparam("table_name")
)
_LATEST_TIME = CompiledStatement(
    scope.select_owned_by(sa.func.max(check_results.c.checked_at), tables=check_results).where(
        _of_check_on_table
    )
)
_kept_results = (
    scope.select_owned_by(check_results.c.checked_at, tables=check_results)
    .where(_of_check_on_table)
    .order_by(check_results.c.checked_at.desc())
    .limit(sa.bindparam("kept"))
)
_TRIM_RESULTS = scope.delete_owned_by(check_results).where(
    _of_check_on_table, check_results.c.checked_at.not_in(_kept_results)
)
_NAMES = CompiledStatement(scope.select_owned_by(checks.c.name_fold, tables=checks))
_INSERT_RESULT = CompiledStatement(sa.insert(check_results))


class CheckRepository:
    """The checks of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

    def put(self, record: CheckRecord) -> CheckRecord:
        """Add a check or replace its definition; return the stored record, unchanged when the
        definition is equal. Raises InvalidArgument when a check of that name is on another recipe,
        TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The table {record.label!r}")
        key = {"owner": record.tenant or "", "fold": fold(record.name)}
        now = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            row = tx.execute(_GET_OF_OWNER, key).first()
            existing = None if row is None else CHECK.decode(row)
            if existing is not None and (existing.kind, fold(existing.recipe)) != (
                record.kind,
                fold(record.recipe),
            ):
                raise InvalidArgument(
                    f"The check {existing.name!r} is on {existing.label!r}, not on "
                    f"{record.label!r}.",
                    hint="Choose another name, or remove it first: "
                    f"ws.checks.remove({existing.name!r})",
                )
            if existing is None:
                stored = msgspec.structs.replace(record, created_at=now, updated_at=now)
            else:
                stored = msgspec.structs.replace(
                    record,
                    name=existing.name,
                    created_at=existing.created_at,
                    updated_at=existing.updated_at,
                )
                if stored == existing:
                    return existing
                stored = msgspec.structs.replace(stored, updated_at=now)
                tx.execute(_DELETE, key)
                if stored.subject != existing.subject:  # by which their anchors name the version
                    tx.execute(_DELETE_RESULTS, key)
            tx.execute(sa.insert(checks), CHECK.encode(stored))
        return stored

    def get(self, name: str) -> CheckRecord | None:
        """The check of that name, own before shared."""
        with self._database.read() as tx:
            row = tx.execute(_GET, self._scope.parameters(fold=fold(name))).first()
        return None if row is None else CHECK.decode(row)

    def of_inputs(self) -> tuple[CheckRecord, ...]:
        """The checks on sources and mutable tables, own and shared, by name."""
        parameters = self._scope.parameters()

        def read() -> tuple[CheckRecord, ...]:
            return tuple(map(CHECK.decode, self._database.fetch(_OF_INPUTS, parameters)))

        return self._database.cached(("checks of inputs", *parameters.items()), read)

    def list(self) -> CheckRecords:
        """Every check, by name, without shared ones that own ones hide."""
        rows = self._database.fetch(_LIST, self._scope.parameters())
        records = [CHECK.decode(row) for row in rows]
        if self._scope.is_unrestricted:
            return records
        own = {fold(r.name) for r in records if r.tenant is not None}
        return [r for r in records if r.tenant is not None or fold(r.name) not in own]

    def of_recipe(
        self, tenant: str | None, name: str, kind: str = "result"
    ) -> tuple[CheckRecord, ...]:
        """The checks on an owner's recipe, source or mutable table, by name, whoever is bound."""
        key = _key(tenant, name, kind)

        def read() -> tuple[CheckRecord, ...]:
            return tuple(map(CHECK.decode, self._database.fetch(_OF_RECIPE, key)))

        return self._database.cached(("checks", *key.values()), read)

    def remove(self, name: str) -> bool:
        """Delete a check with its results; return whether it existed. Raises TenantForbidden for a
        shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The check {record.name!r}")
            key = {"owner": record.tenant or "", "fold": fold(record.name)}
            tx.execute(_DELETE, key)
            tx.execute(_DELETE_RESULTS, key)
        return True

    def add_results(self, results: Iterable[CheckResult]) -> None:
        """Store results of checks that still exist, each as the latest of its check on its table:
        one that is taken over is dated now where a later one is there. An equal key replaces the
        earlier result."""
        with self._database.write() as tx:
            names = dict[str, set[str]]()
            for result in results:
                row, owner_id = CHECK_RESULT.encode(result), result.tenant or ""
                if owner_id not in names:
                    names[owner_id] = {name for (name,) in _NAMES.fetch(tx, {"owner": owner_id})}
                if row["check_fold"] not in names[owner_id]:
                    continue
                key = {"owner": owner_id, "fold": row["check_fold"]}
                key["table_name"] = result.table_name
                anchors = row["anchors_digest"]
                values = {"definition": result.definition_hash, "anchors": anchors}
                _DELETE_RESULT.execute(tx, key | values)
                [[latest]] = _LATEST_TIME.fetch(tx, key)
                if latest is not None and latest >= result.checked_at:
                    row["checked_at"] = rfc3339(self._clock.now_ns())
                _INSERT_RESULT.execute(tx, row)

    def results(
        self, record: CheckRecord, definition: str, table_name: str, number: int
    ) -> Sequence[CheckResult]:
        """The newest results of a check with that definition: those on a table, newest first, then
        those on others."""
        values = {"owner": record.tenant or "", "fold": fold(record.name), "number": number}
        values |= {"definition": definition, "table_name": table_name}
        return [CHECK_RESULT.decode(row) for row in self._database.fetch(_RESULTS, values)]

    def inputs(self, check: CheckRecord) -> Sequence[Input]:
        """What a check read when it was run last; nothing when it was not, or could not be."""
        key = {"owner": check.tenant or "", "fold": fold(check.name)}
        rows = self._database.fetch(_NEWEST_RESULT, key)
        return [anchor.input for row in rows for anchor in CHECK_RESULT.decode(row).anchors]

    def trim_results(self, record: CheckRecord, table_name: str, kept: int) -> None:
        """Delete all but the newest results of a check on a table."""
        key = {"owner": record.tenant or "", "fold": fold(record.name), "table_name": table_name}
        with self._database.write() as tx:
            tx.execute(_TRIM_RESULTS, key | {"kept": kept})

    def results_of_table(self, table_name: str) -> Sequence[CheckResult]:
        """All results on a physical table, by check, oldest first."""
        parameters = self._scope.parameters(table_name=table_name)
        rows = self._database.fetch(_RESULTS_OF_TABLE, parameters)
        return [CHECK_RESULT.decode(row) for row in rows]


def blocking_stamp(records: Sequence[CheckRecord]) -> str:
    """Identifies the blocking ones among these checks on a mutable table; '' without any."""
    blocking = [record.updated_at for record in records if record.severity is Severity.BLOCK]
    return f"{len(blocking)} {max(blocking)}" if blocking else ""


def _key(tenant: str | None, name: str, kind: str) -> dict[str, str]:
    return {"owner": tenant or "", "fold": fold(name), "checked_kind": kind}


def remove_checks_of_recipe(
    tx: sa.Connection, tenant: str | None, name: str, kind: str = "result"
) -> None:
    """Delete all checks on an owner's recipe, source or mutable table, with their results."""
    key = _key(tenant, name, kind)
    tx.execute(_DELETE_RESULTS_OF_RECIPE, key)
    tx.execute(_DELETE_OF_RECIPE, key)


def remove_checks_of_source(tx: sa.Connection, tenant: str | None, name: str) -> None:
    """Delete all checks on an owner's source and on tables in it, with their results."""
    rows = tx.execute(_OF_SOURCES, {"owner": tenant or ""}).all()
    for recipe in {record.recipe for record in map(CHECK.decode, rows)}:
        if fold(recipe.partition(".")[0]) == fold(name):
            remove_checks_of_recipe(tx, tenant, recipe, "source")


def rename_checked_recipe(tx: sa.Connection, tenant: str | None, old: str, new: str) -> None:
    """Let the checks on a recipe follow its new name."""
    tx.execute(
        _RENAME_RECIPE.values(recipe=new, recipe_fold=fold(new)),
        _key(tenant, old, "result"),
    )


def remove_results_of_table(tx: sa.Connection, tenant: str | None, table_name: str) -> None:
    """Delete the results on an owner's physical table that is removed."""
    _DELETE_RESULTS_OF_TABLE.execute(tx, {"owner": tenant or "", "table_name": table_name})

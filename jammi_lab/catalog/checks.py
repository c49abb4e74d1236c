"""Checks and their results."""

from collections.abc import Iterable, Sequence
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Connection, Statement
from jammi_lab.catalog.repository import DatedRepository
from jammi_lab.catalog.row_mapping import CHECK, CHECK_RESULT
from jammi_lab.catalog.schema import check_results, checks
from jammi_lab.core.anchors import Input
from jammi_lab.core.checks import CheckRecord, CheckResult
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import fold

MAX_RESULTS = 16
"""How many results of a check on one version are kept."""
CheckRecords = list[CheckRecord]  # defined here because `list` is a method of the class below

_IS_OF_RECIPE = "checks.recipe_fold = :fold"
_OF_TABLE = f"{scope.owned_by('check_results')} AND check_results.table_name = :table_name"
_LIST = Statement(
    f"SELECT {CHECK.columns} FROM checks WHERE {scope.visible('checks')} "
    f"ORDER BY checks.name_fold, {scope.own_first('checks')}"
)
_OF_RECIPE = Statement(
    f"SELECT {CHECK.columns} FROM checks WHERE {scope.owned_by('checks')} AND {_IS_OF_RECIPE} "
    "ORDER BY checks.name_fold"
)
_INSERT = Statement(checks.insert)
_RENAME_RECIPE = Statement(
    "UPDATE checks SET recipe = :new, recipe_fold = :new_fold "
    f"WHERE {scope.owned_by('checks')} AND {_IS_OF_RECIPE}"
)
_RESULTS = Statement(
    f"SELECT {CHECK_RESULT.columns} FROM check_results WHERE {scope.owned_by('check_results')} "
    "AND check_results.check_fold = :fold "
    "AND (check_results.table_name = :table_name OR :others = 1) "
    # those on the table first, so that those on many others do not crowd them out
    "ORDER BY CASE WHEN check_results.table_name = :table_name THEN 0 ELSE 1 END, "
    "check_results.checked_at DESC LIMIT :number"
)
_INSERT_RESULT = Statement(check_results.insert)
_DELETE_RESULTS = Statement(
    f"DELETE FROM check_results WHERE {_OF_TABLE} AND check_results.check_fold = :fold "
    "AND (check_results.definition_hash = :definition AND check_results.anchors_digest = :anchors "
    "OR check_results.checked_at <= :oldest)"
)
_DELETE_RESULTS_OF_TABLE = Statement(f"DELETE FROM check_results WHERE {_OF_TABLE}")


def _deletion(condition: str) -> Sequence[Statement]:
    """The statements that delete the checks of one owner that meet a condition, after their
    results."""
    which = f"{scope.owned_by('checks')} AND {condition}"
    return (
        Statement(
            f"DELETE FROM check_results WHERE {scope.owned_by('check_results')} "
            f"AND check_results.check_fold IN (SELECT checks.name_fold FROM checks WHERE {which})"
        ),
        Statement(f"DELETE FROM checks WHERE {which}"),
    )


_DELETE_RESULTS_OF_CHECK, _DELETE = _deletion("checks.name_fold = :fold")
_DELETE_OF_RECIPE = _deletion(_IS_OF_RECIPE)


class CheckRepository(DatedRepository):
    """The checks of the bound scope."""

    def check_owner(self, record: CheckRecord) -> None:
        """Raise TenantForbidden for a check on a table of another tenant or of all."""
        self._scope.check_owner(record.tenant, f"The table {record.recipe!r}")

    def put(self, record: CheckRecord) -> CheckRecord:
        """Add a check or replace its definition; return the stored record, unchanged when the
        definition is equal. Raises InvalidArgument when a check of that name is on another recipe,
        TenantForbidden."""
        self.check_owner(record)
        now = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            existing = next((c for c in self._visible() if c.key == record.key), None)
            stored = record.with_values(created_at=now, updated_at=now)
            if existing is not None:
                if existing.recipe_key != record.recipe_key:
                    raise InvalidArgument(
                        f"The check {existing.name!r} is on {existing.recipe!r}, not on "
                        f"{record.recipe!r}.",
                        hint="Choose another name, or remove it first: "
                        f"ws.checks.remove({existing.name!r})",
                    )
                stored = stored.with_values(name=existing.name, created_at=existing.created_at)
                if stored.with_values(updated_at=existing.updated_at) == existing:
                    return existing
                if stored.subject != existing.subject:  # by which their anchors name the version
                    _DELETE_RESULTS_OF_CHECK.execute(tx, _name_key(existing))
                _DELETE.execute(tx, _name_key(existing))
            _INSERT.execute(tx, CHECK.encode(stored))
        return stored

    def get(self, name: str) -> CheckRecord | None:
        """The check of that name, own before shared."""
        return next((c for c in self._visible() if fold(c.name) == fold(name)), None)

    def list(self) -> CheckRecords:
        """Every check, by name, without shared ones that own ones hide."""
        return self._scope.without_hidden(self._visible())

    def _visible(self) -> Sequence[CheckRecord]:
        """The own and the shared checks, by name, own ones first."""
        return self._database.fetch_cached(_LIST, self._scope.parameters(), _decode_checks)

    def of_recipe(self, tenant: str | None, name: str) -> Sequence[CheckRecord]:
        """The checks on an owner's recipe, by name, whoever is bound."""
        key = scope.name_key(tenant, name)
        return self._database.fetch_cached(_OF_RECIPE, key, _decode_checks)

    def remove(self, name: str) -> bool:
        """Delete a check with its results; return whether it existed. Raises TenantForbidden for a
        shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The check {record.name!r}")
            for statement in (_DELETE_RESULTS_OF_CHECK, _DELETE):
                statement.execute(tx, _name_key(record))
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
                stored = []
                for earlier in self.results(result, result.table_name):
                    if [earlier.definition_hash, earlier.anchors_digest] != [*values.values()]:
                        stored.append(earlier)
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
        return self._database.fetch_cached(_RESULTS, parameters, _decode_results)

    def inputs(self, check: CheckRecord) -> Sequence[Input]:
        """The result tables that a check read when it was run last."""
        results = self.results(check, "", 1, others=True)
        inputs = [anchor.input for result in results for anchor in result.anchors]
        return [input_ for input_ in inputs if input_.kind_class.is_result]


def _decode_checks(rows: Iterable[Any]) -> Sequence[CheckRecord]:
    return tuple(map(CHECK.decode, rows))


def _decode_results(rows: Iterable[Any]) -> Sequence[CheckResult]:
    return tuple(map(CHECK_RESULT.decode, rows))


def _name_key(check: CheckRecord | CheckResult) -> dict[str, Any]:
    return scope.name_key(*check.key)


def remove_checks_of_recipe(tx: Connection, tenant: str | None, name: str) -> None:
    """Delete all checks on an owner's recipe with their results."""
    for statement in _DELETE_OF_RECIPE:
        statement.execute(tx, scope.name_key(tenant, name))


def rename_checked_recipe(tx: Connection, tenant: str | None, old: str, new: str) -> None:
    """Let the checks on a recipe follow its new name."""
    names = {"new": new, "new_fold": fold(new)}
    _RENAME_RECIPE.execute(tx, scope.name_key(tenant, old) | names)


def remove_results_of_table(tx: Connection, tenant: str | None, table_name: str) -> None:
    """Delete the results on an owner's physical table that is removed."""
    _DELETE_RESULTS_OF_TABLE.execute(tx, scope.owner_key(tenant, table_name=table_name))

"""The names of result tables in FROM: `jammi.<recipe>` and `jammi."<physical name>"`."""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, Input, Observed, Vanished, result_input
from jammi_lab.core.errors import (
    JammiError,
    ResourceExhausted,
    TableDamaged,
    TableNotFound,
    invalid_row_error,
)
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import RecipeRecord, TableRecord, TableStatus
from jammi_lab.inputs.observation import Kind, Observation, PinnedState
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.store import read_leases
from jammi_lab.store.result_files import ResultFiles, result_snapshot

JAMMI = "jammi"
"""The schema of result tables."""


_bind_unbuilt: ContextVar[Callable[[RecipeRecord], Relation] | None] = ContextVar(
    "_bind_unbuilt", default=None
)


@contextlib.contextmanager
def reading_unbuilt(bind: Callable[[RecipeRecord], Relation]) -> Iterator[None]:
    """A block in which `jammi.<recipe>` also names recipes that have no version, and recipes whose
    definition, or that of an ancestor, has changed since: `bind` gives their columns. What is bound
    in it is not run."""
    token = _bind_unbuilt.set(bind)
    try:
        yield
    finally:
        _bind_unbuilt.reset(token)


class ResultKind(Kind):
    """Result tables: `jammi.<recipe>` is the newest ready version, `jammi."<physical name>"` and
    `"jammi.<physical name>"` are one physical table."""

    kind, word, schema = "result", "result table", JAMMI
    is_result = True

    def __init__(
        self,
        catalog: Catalog,
        results: ResultFiles,
        statuses: Collection[TableStatus] = (TableStatus.READY,),
    ) -> None:
        """`statuses`: those of the tables that a physical name may mean."""
        self._catalog, self._results, self._statuses = catalog, results, statuses

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a result table; None when there is none of that name. TableDamaged when
        its files are not as published."""
        if len(parts) == 1 and fold(parts[0]).startswith(JAMMI + "."):
            parts = (JAMMI, parts[0][len(JAMMI) + 1 :])
        if len(parts) != 2:
            return None
        if _bind_unbuilt.get() is not None and self._is_redefined(parts[1]):
            # for a recipe whose definition does not tell its columns, its newest version does
            with contextlib.suppress(TableNotFound):
                if (relation := self._unbuilt_relation(parts[1])) is not None:
                    return relation
        dropped = None
        while (target := self._find_target(parts[1])) is not None:
            if target == dropped:  # rows that contradict each other
                raise invalid_row_error()
            if (relation := self._leased_relation(*target)) is not None:
                return relation
            dropped = target
        return self._unbuilt_relation(parts[1])

    def _unbuilt_relation(self, name: str) -> Relation | None:
        """The relation of a recipe without a version, within `reading_unbuilt`; None when there is
        no such recipe. TableNotFound; ResourceExhausted for a long chain of them."""
        bind = _bind_unbuilt.get()
        if bind is None:
            self._check_has_version(name)
            return None
        current_name = self._catalog.aliases.resolve(name)
        if (recipe := self._catalog.recipes.get(current_name)) is None:
            return None
        try:
            relation = bind(recipe)
        except RecursionError:
            raise ResourceExhausted(
                "Too many definitions without a version rest on each other.",
                hint="ws.recompute() computes those that are stored.",
            ) from None
        if current_name == name:
            return relation
        return replace(relation, input=result_input(name))

    def _is_redefined(self, name: str) -> bool:
        """Whether a recipe, or one upstream of its newest version, has another definition than its
        newest version."""
        links = self._catalog.lineage.closure(name, "up", kind=self.kind)
        for each in {self._catalog.aliases.resolve(name), *(link.input.name for link in links)}:
            recipe = self._catalog.recipes.get(each)
            newest = self._catalog.result_tables.newest(each)
            if recipe and newest and recipe.definition_hash != newest[1].definition_hash:
                return True
        return False

    def _check_has_version(self, name: str) -> None:
        current_name = self._catalog.aliases.resolve(name)
        if (recipe := self._catalog.recipes.get(current_name)) is not None:
            raise TableNotFound(
                f"The recipe {recipe.name!r} has no ready version yet.",
                hint=f"ws.recompute({recipe.name!r}) computes one.",
            )

    def _find_target(self, name: str) -> tuple[TableRecord, str, int] | None:
        """The table that a name refers to now, the name for its anchor, and the version."""
        current_name = self._catalog.aliases.resolve(name)
        newest = self._catalog.result_tables.newest(current_name)
        if newest is not None:
            version, record = newest
            # readers keep an alias, so that their definitions do not change
            label = version.recipe if current_name == name else name
            return record, label, version.version
        exact = self._catalog.result_tables.get(name)
        return (
            (exact, exact.table_name, exact.version)
            if exact is not None and exact.status in self._statuses
            else None
        )

    def _leased_relation(self, record: TableRecord, name: str, version: int) -> Relation | None:
        """The relation of a table, with a read lease on its files. None when the table was dropped
        before the lease was taken; then the name must be resolved again. TableDamaged."""
        lease = read_leases.ReadLease(self._results.parquet(record))
        try:
            relation = self.relation(record, name, version, lease)
        except TableDamaged:
            relation = None
            if self._is_readable(record):
                raise
        return relation if self._is_readable(record) else None

    def _is_readable(self, record: TableRecord) -> bool:
        current = self._catalog.result_tables.get(record.table_name)
        return current is not None and current.status in self._statuses

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `jammi_version('recipe', version)`, anchored by its physical table and
        not by the recipe. TableNotFound; TableDamaged."""
        if function != "jammi_version":
            return None
        recipe, number = self._catalog.aliases.resolve(arguments[0]), arguments[1]
        version = self._catalog.result_tables.version(recipe, number)
        if version is not None and version[1].status is TableStatus.READY:
            relation = self._leased_relation(version[1], version[1].table_name, number)
            if relation is not None:
                return relation
        ready_versions = []
        for v, r in self._catalog.result_tables.versions(recipe):
            if r.status is TableStatus.READY:
                ready_versions.append(v.version)
        if ready_versions:
            raise TableNotFound(
                f"{recipe!r} has no ready version {number}; it has "
                f"{', '.join(map(str, ready_versions))}."
            )
        self._check_has_version(recipe)
        recipes = [v.recipe for v, _ in self._catalog.result_tables.current()]
        raise TableNotFound(
            f"There is no recipe {recipe!r} with a ready version.",
            near=near_names(recipe, recipes),
            hint="ws.recipes() lists the recipes.",
        )

    def relation(
        self,
        record: TableRecord,
        name: str,
        version: int,
        lease: read_leases.ReadLease | None = None,
    ) -> Relation:
        """The relation of one table under the given name. `lease` is an existing lease on its
        files. TableDamaged."""
        path = self._results.require_intact(record)

        return Relation(
            result_input(name),
            ReadPlan(body=self._results.select_sql(record), local_bytes=record.bytes),
            requirements=Requirements(filesystem=self._results.filesystem),
            columns={c.name: c.type for c in record.columns},
            token=PinnedState(result_snapshot(record, version), record),
            acquire=lease or read_leases.ReadLease(path),
            explain=functools.partial(self._dropped_error, record, name),
        )

    def _dropped_error(self, record: TableRecord, name: str, message: str) -> JammiError | None:
        """The error for a table that was dropped after its name was resolved; None when it still
        exists. A read lease protects only against this process; another one may drop or expire
        it."""
        if record.table_name not in message or self._is_readable(record):
            return None
        return TableNotFound(
            f"The version of {name!r} that the statement reads was dropped by another kernel.",
            hint="Run the statement again to read the current version.",
        )

    def observe(self, input: Input, observation: Observation) -> Observed:  # noqa: ARG002
        """The state of a recipe's newest ready version, or of one physical table."""
        target = self._find_target(input.name)
        if target is None:
            return Vanished()
        record, _, version = target
        return result_snapshot(record, version)

    def names(self) -> Iterable[str]:
        """The recipes that have a ready version, as `jammi.<recipe>`."""
        return [f"{JAMMI}.{version.recipe}" for version, _ in self._catalog.result_tables.current()]


def find_recorded_version(catalog: Catalog, name: str, recorded: Anchor) -> TableRecord | None:
    """The version of a recipe that an anchor recorded; None when it is gone, or when the version of
    that number is in another state."""
    if recorded.version is None:
        return None
    version = catalog.result_tables.version(name, recorded.version)
    if version is None or not result_snapshot(version[1], recorded.version).anchor(
        recorded.input, recorded.columns
    ).same_state(recorded):
        return None
    return version[1]

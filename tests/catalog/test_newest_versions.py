"""The newest ready version of each recipe is marked, whatever happened to versions and tables."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jammi_lab.catalog import Catalog
from jammi_lab.core.errors import DuplicateTable, TableNotFound, TenantForbidden
from tests.catalog.conftest import Lab, anchored
from tests.sizes import sized, soak

NAMES = ("a", "B", "c")
names, tenants = st.sampled_from(NAMES), st.sampled_from([None, "acme"])
_lab: list[Lab] = []


Newest = set[tuple[str | None, str, int]]


def marked(catalog: Catalog) -> Newest:
    """What the catalog says: owner, recipe and number of each newest version."""
    with catalog.database.read() as tx:
        rows = tx.fetch("SELECT tenant_id, recipe_fold, version FROM versions WHERE newest = 1")
    assert len({(tenant, recipe) for tenant, recipe, _ in rows}) == len(rows)
    return {(tenant, recipe, number) for tenant, recipe, number in rows}


def meant(catalog: Catalog) -> Newest:
    """The same by brute force."""
    with catalog.database.read() as tx:
        rows = tx.fetch(
            "SELECT v.tenant_id, v.recipe_fold, v.version FROM versions v JOIN result_tables t "
            "ON t.table_name = v.table_name WHERE t.status = 'ready'"
        )
    return {(t, r, max(n for u, s, n in rows if (u, s) == (t, r))) for t, r, _ in rows}


class Catalogs(RuleBasedStateMachine):
    """What kernels do to recipes, versions and tables, in any order; one transaction, which is
    taken back in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.lab, self.building, self.tables = _lab[0], [], []
        self.undo = contextlib.ExitStack()
        self.tx = self.undo.enter_context(self.lab.catalog.database.write())

    def teardown(self) -> None:
        with contextlib.suppress(ZeroDivisionError), self.undo:
            raise ZeroDivisionError

    def one(self, of: list[Any], at: int) -> Any:
        return of[at % len(of)] if of else None

    @rule(
        name=names, tenant=tenants, reads=st.lists(st.one_of(names, st.integers(0, 5)), max_size=3)
    )
    def begin(self, name: str, tenant: str | None, reads: list[str | int]) -> None:
        with self.lab.scope.use(tenant):
            self.lab.define(name)
            shown = [self.one(self.tables, r) if isinstance(r, int) else r for r in reads]
            begun = self.lab.begin(name)
        self.building.append(
            msgspec.structs.replace(
                begun,
                anchors=[anchored(f"source:{r}" if i % 2 else r) for i, r in enumerate(shown) if r],
            )
        )

    @rule(
        name=names,
        tenant=tenants,
        reads=st.lists(st.one_of(names, st.integers(0, 5)), min_size=1, max_size=2),
    )
    def make(self, name: str, tenant: str | None, reads: list[str | int]) -> None:
        self.begin(name, tenant, reads)
        self.ready(len(self.building) - 1, False)

    @rule(at=st.integers(0, 5), many=st.booleans())
    def ready(self, at: int, many: bool) -> None:
        chosen = self.building[:] if many else [r for r in [self.one(self.building, at)] if r]
        self.building = [r for r in self.building if r not in chosen]
        with self.lab.catalog.transaction():
            for record in chosen:
                self.lab.catalog.table_status.publish(record, b"{}")
        self.tables += [r.table_name for r in chosen]

    @rule(at=st.integers(0, 5))
    def fail(self, at: int) -> None:
        if record := self.one(self.building, at):
            self.building.remove(record)
            assert self.lab.catalog.table_status.mark_failed(
                record.table_name, self.lab.writer, "x"
            )
            self.tables.append(record.table_name)

    @rule(name=names, at=st.integers(0, 5), tenant=tenants)
    def reuse(self, name: str, at: int, tenant: str | None) -> None:
        if (table := self.one(self.tables, at)) is not None:
            with self.lab.scope.use(tenant), contextlib.suppress(TableNotFound):
                self.lab.catalog.table_status.reuse(name, table)

    @rule(
        at=st.integers(0, 5),
        tenant=tenants,
        how=st.sampled_from(["condemn", "forget"]),
    )
    def end(self, at: int, tenant: str | None, how: str) -> None:
        if (table := self.one(self.tables, at)) is not None:
            publish = self.lab.catalog.table_status
            with self.lab.scope.use(tenant), contextlib.suppress(TenantForbidden):
                {
                    "condemn": lambda t: publish.mark_damaged(t, "x"),
                    "forget": publish.remove,
                }[how](table)

    @rule(name=names, number=st.integers(1, 4), tenant=tenants)
    def drop_version(self, name: str, number: int, tenant: str | None) -> None:
        with self.lab.scope.use(tenant), contextlib.suppress(TenantForbidden):
            self.lab.catalog.table_status.drop_version(name, number)

    @rule(old=names, new=st.sampled_from(["A", "b", "e"]), tenant=tenants)
    def rename(self, old: str, new: str, tenant: str | None) -> None:
        with (
            self.lab.scope.use(tenant),
            contextlib.suppress(TenantForbidden, TableNotFound, DuplicateTable),
        ):
            self.lab.catalog.recipes.rename(old, new)

    @rule(name=names, tenant=tenants)
    def remove(self, name: str, tenant: str | None) -> None:
        with self.lab.scope.use(tenant), contextlib.suppress(TenantForbidden):
            self.lab.catalog.recipes.remove(name)

    @invariant()
    def the_newest_ready_version_of_each_recipe_is_marked(self) -> None:
        assert marked(self.lab.catalog) == meant(self.lab.catalog)


Histories = soak(Catalogs.TestCase)
Histories.settings = settings(max_examples=sized(5, 100), stateful_step_count=20, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def a_lab() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        _lab.append(Lab(Path(folder) / "catalog.sqlite3"))
        yield
        _lab.pop().close()

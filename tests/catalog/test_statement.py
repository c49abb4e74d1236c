"""Statements of the catalog: types of what they return, tenants, rollback, errors."""

import pytest

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Statement
from jammi_lab.catalog.schema import logs, metadata_table
from jammi_lab.core.errors import TableDamaged
from tests.catalog.conftest import sqlite_only


def test_a_reader_gets_its_own_and_the_shared_rows_with_the_types_of_the_columns(lab):
    statement = Statement(
        "SELECT logs.name, logs.session_id, logs.arrow_schema FROM logs "
        f"WHERE {scope.visible('logs')} ORDER BY {scope.own_first('logs')}"
    )
    row = {"kind": "topic", "arrow_schema": b"\0\xff", "key_columns": "", "commit_id": ""}
    row |= {"first_position": 0, "next_position": 0, "row_count": 0, "created_at": "now"}
    for number, tenant in enumerate((None, "acme", "zeta")):
        with lab.database.write() as tx:
            row |= {"log_id": number, "tenant_id": tenant, "name": f"n{number}"}
            row |= {"name_fold": f"n{number}", "session_id": tenant}
            assert Statement(logs.insert).execute(tx, row) == 1
    shared = ("n0", None, b"\0\xff")
    for tenant, own in (
        (None, []),
        ("acme", [("n1", "acme", b"\0\xff")]),
        ("zeta", [("n2", "zeta", b"\0\xff")]),
        ("nobody", []),
    ):
        with lab.scope.use(tenant), lab.database.read() as tx:
            assert statement.fetch(tx, lab.catalog.scope.parameters()) == [*own, shared]


@sqlite_only
@pytest.mark.parametrize(
    "selected", ["meta.value", "DISTINCT meta.key, meta.value", "1, coalesce(meta.value, '')"]
)
def test_a_value_of_another_type_than_its_columns_is_damage(lab, selected):
    with lab.database.write() as tx:
        tx.execute(metadata_table.insert, {"key": "k", "value": b"x"})
    with pytest.raises(TableDamaged), lab.database.read() as tx:
        Statement(f"SELECT {selected} FROM meta").fetch(tx, {})


def test_it_says_how_many_rows_it_changed_and_a_transaction_takes_it_back(lab):
    renamed = Statement("UPDATE meta SET value = :wanted WHERE meta.key LIKE 'k%'")
    values = Statement("SELECT meta.value FROM meta WHERE meta.key LIKE 'k%'")
    with pytest.raises(RuntimeError), lab.database.write() as tx:
        rows = [{"key": key, "value": "old"} for key in ("k1", "k2")]
        assert Statement(metadata_table.insert).execute_many(tx, rows) == 2
        assert renamed.execute(tx, {"wanted": "new"}) == 2
        assert values.fetch(tx, {}) == [("new",), ("new",)]
        raise RuntimeError
    assert lab.database.fetch(values, {}) == []

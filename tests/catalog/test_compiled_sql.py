"""Statements handed to the driver as they are give what SQLAlchemy gives, and fail in our words."""

import pytest
import sqlalchemy as sa

from jammi_lab.catalog import database as direct
from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement
from jammi_lab.catalog.schema import logs, metadata_table
from jammi_lab.core.errors import TableDamaged
from tests.catalog.conftest import Lab


def test_it_reads_what_the_same_statement_reads_with_its_tenant_predicate(lab: Lab) -> None:
    statement = (
        scope.select(logs.c.name, logs.c.retention, logs.c.arrow_schema, tables=logs)
        .order_by(scope.own_first(logs))
        .limit(2)
    )
    rows = {"kind": "topic", "arrow_schema": b"\0\xff", "key_columns": "", "commit_id": ""}
    rows |= {"first_position": 0, "next_position": 0, "row_count": 0, "created_at": "now"}
    for number, tenant in enumerate((None, "acme", "zeta")):
        more = {
            "log_id": 1_000 + number,
            "tenant_id": tenant,
            "name": f"n{number}",
            "name_fold": f"n{number}",
            "retention": number / 2 or None,
        }
        with lab.catalog.database.write() as tx:
            assert CompiledStatement(sa.insert(logs)).execute(tx, rows | more) == 1
    for tenant in (None, "acme", "zeta", "nobody"):
        with lab.scope.use(tenant), lab.catalog.database.read() as tx:
            params = lab.catalog.scope.parameters()
            assert [tuple(row) for row in CompiledStatement(statement).fetch(tx, params)] == [
                tuple(row) for row in tx.execute(statement, params).all()
            ]


def test_it_says_how_many_rows_it_changed_and_a_transaction_takes_it_back(lab: Lab) -> None:
    renamed = CompiledStatement(
        sa.update(metadata_table)
        .where(metadata_table.c.key.like("k%"))
        .values(value=sa.bindparam("wanted"))
    )
    with pytest.raises(RuntimeError), lab.catalog.database.write() as tx:
        for key in ("k1", "k2"):
            tx.execute(sa.insert(metadata_table), {"key": key, "value": "old"})
        assert renamed.execute(tx, {"wanted": "new"}) == 2
        assert [
            row.value
            for row in tx.execute(sa.select(metadata_table).where(metadata_table.c.key.like("k%")))
        ] == [
            "new",
            "new",
        ]
        raise RuntimeError
    with lab.catalog.database.read() as tx:
        assert (
            tx.execute(sa.select(metadata_table).where(metadata_table.c.key.like("k%"))).all() == []
        )


def test_what_goes_wrong_below_it_is_told_as_elsewhere(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = lab.catalog.database.dialect.to_jammi_error
    monkeypatch.setattr(
        lab.catalog.database.dialect,
        "to_jammi_error",
        lambda error: explained(error) or TableDamaged("told"),
    )
    with pytest.raises(TableDamaged), lab.catalog.database.read() as tx:
        direct.fetch(tx, "SELECT nothing FROM nowhere")
    with pytest.raises(TableDamaged), lab.catalog.database.write() as tx:
        direct.execute(tx, "DELETE FROM nowhere")

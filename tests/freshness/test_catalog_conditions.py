"""Conditions on names in statements over `jammi_catalog.*`: only the rows of these names are read
from the catalog."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.freshness.catalog_relations import COLUMNS, CatalogRelations
from jammi_lab.sources.base import Relation
from tests.freshness.lab import Lab
from tests.templates import Template

NAMED = {
    "sources": ["name"],
    "tables": ["name", "table_name"],
    "columns": ["table_name"],
    "recipes": ["name"],
    "anchors": ["table_name"],
    "status": ["name"],
    "checks": ["check_name"],
    "lineage": ["input", "derived"],
    "column_lineage": ["derived"],
}
"""The columns by which a relation reads the rows of some names alone."""
CASES = [(relation, column) for relation, columns in NAMED.items() for column in columns]


class Constant:
    """An encoder of one vector."""

    name, version, dimensions = "constant", "1", 2

    def encode(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 2.0]] * len(texts)


def _build(root: Path) -> None:
    """Tables of two tenants: a hidden name, an old name, an exact version, tables of a database, a
    model, a check."""
    lab = Lab(root)
    ws = lab.ws
    lab.csv("Papers", "id,title", "1,x")
    lab.csv("it's", "id", "1")
    with sqlite3.connect(lab.data / "crm.db") as db:
        db.execute("CREATE TABLE people AS SELECT 1 AS id")
    db.close()
    ws.sources.add("crm", f"sqlite:///{lab.data / 'crm.db'}")
    ws.materialize("first", "SELECT id FROM papers")
    ws.materialize("second", "SELECT id + 1 AS id FROM jammi.first")
    ws.materialize("of people", "SELECT id FROM crm.people")
    ws.materialize("quoted", """SELECT p.id FROM "it's" p LEFT JOIN jammi.second USING (id)""")
    ws.materialize("exact", f'SELECT id FROM jammi."{ws.table("first").table_name}"')
    ws.embed("vectors", "papers", key="id", text="title", model=Constant())
    ws.rename("second", "Renamed")
    ws.materialize("first", "SELECT id + 2 AS id FROM papers")
    ws.checks.add("whole", jl.checks.not_null("id"), on="first")
    ws.check()
    with ws.tenant("acme"):
        ws.materialize("first", "SELECT id + 3 AS id FROM papers")
        ws.materialize("own", "SELECT id FROM jammi.first")
        ws.checks.add("own", jl.checks.not_null("id"), on="own")
        ws.check()
    ws.close()


TEMPLATES = {"named": Template(_build)}


@pytest.fixture
def named(lab: Lab) -> Lab:
    return lab


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each relation that is computed."""
    made, resolve = list[int](), CatalogRelations.resolve

    def counted(self: CatalogRelations, parts: tuple[str, ...]) -> Relation | None:
        relation = resolve(self, parts)
        if relation is None or (computed := relation.read.computed) is None:
            return relation

        def rows(*args: Any) -> Any:
            table = computed.rows(*args)
            made.append(table.num_rows)
            return table

        return replace(relation, read=replace(relation.read, computed=replace(computed, rows=rows)))

    monkeypatch.setattr(CatalogRelations, "resolve", counted)
    return made


def rows(lab: Lab, relation: str, condition: str = "true", **params: Any) -> list[Any]:
    columns = ", ".join(c for c in COLUMNS[relation] if c != "age_seconds")
    asked = f"SELECT {columns} FROM jammi_catalog.{relation} WHERE {condition}"
    return sorted(lab.ws.sql(asked, **params).fetchall(), key=repr)


@pytest.mark.every_case
@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.parametrize(("relation", "column"), CASES)
def test_a_condition_on_names_finds_the_rows_that_it_would_find_among_all(
    named: Lab, sizes: list[int], relation: str, column: str, tenant: str | None
) -> None:
    place = [c for c in COLUMNS[relation] if c != "age_seconds"].index(column)
    with named.ws.tenant(tenant):
        every = rows(named, relation)
        names = sorted({row[place] for row in every})
        assert names
        for name in (*names, "missing", "", "FIRST"):
            found = rows(named, relation, f"{column} = $name", name=name)
            assert found == [row for row in every if row[place] == name]
            assert len(found) <= sizes[-1] < len(every) or len(names) < 3
        some = f"{column} IN ({', '.join(map(sql_literal, names[:2]))})"
        assert rows(named, relation, some) == [row for row in every if row[place] in names[:2]]
        either = f"{some} OR {column} IS NULL OR {column} > {sql_literal(names[-1])}"
        assert rows(named, relation, either) == [row for row in every if row[place] in names[:2]]


def test_each_scan_of_a_relation_has_its_rows(named: Lab, sizes: list[int]) -> None:
    joined = "SELECT a.name, b.name FROM jammi_catalog.recipes a, jammi_catalog.recipes b WHERE {}"
    both = joined.format("a.name = 'first' AND b.name IN ('quoted', 'exact')")
    assert sorted(named.ws.sql(both).fetchall()) == [("first", "exact"), ("first", "quoted")]
    assert sizes == [3]
    one = joined.format("a.name = 'first'")
    assert len(named.ws.sql(one).fetchall()) == sizes[-1] > 3


def test_a_name_of_another_form_than_the_plan_prints_finds_its_rows(named: Lab) -> None:
    odd = "a name, 'quoted' AND name=x::VARCHAR"
    named.ws.materialize(odd, "SELECT 1 AS a")
    assert [row[0] for row in rows(named, "recipes", "name = $name", name=odd)] == [odd]
    assert [row[0] for row in rows(named, "status", "name = $name", name=odd)] == [odd]

"""The canonical form: what counts as the same statement."""

import pyarrow as pa
import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.engine import Engine
from jammi_lab.sources.base import ReadPlan, Relation
from tests.cases import pairs
from tests.engine.shelf import PAPERS

pytestmark = pytest.mark.one_engine


def form(engine: Engine, sql: str) -> str:
    params = {name: 1 for name in ("wanted", "a", "b") if f"${name}" in sql}
    [prepared] = engine.prepare(sql, params)
    return digest_of(prepared.canonical().to_dict())


@pytest.mark.parametrize(("one", "other"), pairs("canonical/same.sql"))
def test_statements_that_say_the_same_have_one_canonical_form(engine, one, other):
    assert form(engine, one) == form(engine, other)


@pytest.mark.parametrize(("one", "other"), pairs("canonical/different.sql"))
def test_statements_that_could_differ_have_different_canonical_forms(engine, one, other):
    assert form(engine, one) != form(engine, other)


def test_a_source_with_a_sign_in_its_name_is_not_a_table_of_another(shelf, engine):
    """A source may be called `a#b`; `a.b` is the table `b` of a source `a`."""
    columns = pa.table({"id": [1]})
    shelf.frame("a#b", table=columns, kind="source")
    shelf.put("a", "b", relation=Relation(source_input("a", "b"), ReadPlan(frame=columns)))
    shelf.put("a#b", "c", relation=Relation(source_input("a#b", "c"), ReadPlan(frame=columns)))
    shelf.put("a", "b#c", relation=Relation(source_input("a", "b#c"), ReadPlan(frame=columns)))
    shelf.put(
        "a%23b",
        "c",
        relation=Relation(source_input("a%23b", "c"), ReadPlan(frame=columns)),
    )
    names = ('"a#b"', "a.b", '"a#b".c', 'a."b#c"', '"a%23b".c')
    assert len({form(engine, f"SELECT id FROM {name}") for name in names}) == len(names)


def test_there_are_enough_cases():
    assert len(pairs("canonical/same.sql")) >= 50
    assert len(pairs("canonical/different.sql")) >= 150


def test_the_canonical_form_does_not_depend_on_the_rows(engine, shelf):
    before = form(engine, "SELECT id FROM papers")
    shelf.frame("papers", table=PAPERS.slice(0, 1), kind="source")
    assert form(engine, "SELECT id FROM papers") == before


def test_a_column_that_is_added_and_not_read_leaves_the_canonical_form_alone(engine, shelf):
    texts = [
        "SELECT q.id FROM (SELECT * FROM papers) q JOIN jammi.top t ON q.id = t.id",
        "SELECT p.id, papers.year FROM papers p JOIN papers USING (id)",
    ]
    before = [form(engine, sql) for sql in texts]
    for name in ("p", "papers"):
        shelf.frame("papers", table=PAPERS.append_column(name, [[1, 2, 3, 4]]), kind="source")
        assert [form(engine, sql) for sql in texts] == before


def test_a_field_of_a_struct_is_no_column_of_a_table_with_that_alias(engine, shelf):
    structs = pa.table({name: [{"id": number}] for number, name in enumerate("pq")})
    shelf.frame("structs", table=structs, kind="source")
    sql = "SELECT (SELECT max({0}.id) AS m FROM papers {0}) AS m, {0}.id AS x FROM structs"
    assert form(engine, sql.format("p")) != form(engine, sql.format("q"))


def test_the_type_of_an_input_that_changes_the_output_changes_the_canonical_form(engine, shelf):
    before = form(engine, "SELECT id FROM papers")
    shelf.frame(
        "papers",
        table=PAPERS.set_column(0, "id", PAPERS["id"].cast("int32")),
        kind="source",
    )
    assert form(engine, "SELECT id FROM papers") != before


def test_an_alias_that_means_something_else_too_counts(engine):
    for text in (
        "SELECT {0} FROM papers {0}",
        "SELECT alias({0}.id) AS x FROM papers {0}",
        "SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT sum({0}.id) FROM papers {0}) q)",
        "SELECT {0}.id FROM papers {0} JOIN (SELECT 1 AS one) {0}2 ON true WHERE '{0}' = venue",
        "SELECT 1 AS x FROM papers WHERE EXISTS (FROM venues {0}) OR EXISTS (FROM venues {0})",
    ):
        assert form(engine, text.format("p")) != form(engine, text.format("r")), text


def test_a_statement_without_a_tree_of_its_own_has_its_text(
    prepare,
):
    texts = ("PIVOT papers ON venue USING count(*)", "PIVOT papers ON year USING count(*)")
    one, other = (prepare(text).canonical() for text in texts)
    assert one.scheme == other.scheme == "text-2" and one.digest != other.digest


def test_a_long_list_keeps_its_values_and_is_no_other_list(engine):
    def form(values: range) -> CanonicalStatement:
        return engine.prepare(f"SELECT id FROM papers WHERE id IN ({', '.join(map(str, values))})")[
            0
        ].canonical()

    one, again, other = (
        form(range(90_000, 92_000)),
        form(range(90_000, 92_000)),
        form(range(90_001, 92_001)),
    )
    assert one == again != other and one.scheme.startswith("tree")

"""Names of three parts: `source.schema.table`."""

import pytest

from jammi_lab.core.errors import JammiError
from tests.cases import cases
from tests.engine.shelf import PAPERS, VENUES
from tests.releases import ONLY_ON_1_5

pytestmark = pytest.mark.one_engine


@pytest.fixture
def shelf(shelf):
    shelf.frame("crm", "public", "papers", table=PAPERS, name="crm papers")
    shelf.frame("crm", "Old Ones", "papers", table=PAPERS.slice(0, 1), name="old papers")
    shelf.frame("x", "y", "z", table=VENUES, name="short")
    return shelf


@pytest.mark.parametrize(
    ("text", "count"),
    cases("statements/qualified_names", "text", "count"),
)
def test_a_name_of_three_parts_is_read(rows, text, count):
    assert rows(text) == [{"n": count}]


@pytest.mark.parametrize(
    "name",
    ["crm.public.papers", '"crm" . "public"."papers"', "(FROM crm.public.papers WHERE id > 0)"],
)
def test_a_pivot_without_a_list_of_values_reads_a_name_of_three_parts(rows, name):
    pivot = "PIVOT {} ON venue USING count(*) GROUP BY year ORDER BY year"
    assert rows(pivot.format(name)) == rows(pivot.format("papers"))


def test_the_same_input_by_two_names_is_one_input(prepare):
    one = prepare("SELECT a.id FROM crm.public.papers a JOIN CRM.public.Papers b ON a.id = b.id")
    assert [i.relation.input.name for i in one.inputs] == ["crm papers"]


def test_the_definition_says_what_is_read_and_not_how_it_was_spelt(prepare):
    assert (
        prepare("SELECT id FROM crm.public.papers").canonical()
        == prepare('select  id from "CRM".PUBLIC.papers p').canonical()
    )
    assert (
        prepare("SELECT id FROM crm.public.papers").canonical()
        != prepare('SELECT id FROM crm."Old Ones".papers').canonical()
    )


def test_it_is_written_as_it_was_typed(prepare):
    text = "SELECT id FROM crm.public.papers"
    assert prepare(text).statement == text


@pytest.mark.parametrize(
    "name",
    [
        "crm.public.nope",
        "memory.main.papers",
        "system.information_schema.tables",
        "temp.main.x",
        "a.b.c.d",
    ],
)
def test_what_is_not_there_is_not_there(prepare, name):
    with pytest.raises(JammiError) as caught:
        prepare(f"SELECT * FROM {name}")
    assert "_0" not in str(caught.value)


@ONLY_ON_1_5  # DESCRIBE has no place in the tree of 2: refused, with the way to write it
def test_explain_and_describe_read_them_too(rows):
    assert rows("DESCRIBE crm.public.papers")[0]["column_name"] == "id"
    assert rows("EXPLAIN SELECT * FROM crm.public.papers")

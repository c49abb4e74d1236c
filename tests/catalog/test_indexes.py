"""What is asked of a catalog by definition, by what a table was anchored on, and along the lineage
goes by indexes: SQLite itself says which."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

import pytest

from jammi_lab.catalog import Catalog
from jammi_lab.core.anchors import source_input
from tests.catalog.conftest import Lab, sqlite_only

pytestmark = sqlite_only
SMALL_SCANS = (
    "SCAN reach",
    "SCAN CONSTANT ROW",
    "SCAN json_each VIRTUAL TABLE INDEX 1:",
    "SCAN aliases",
)
"""Scans without an index that stay small: the nodes that a recursive statement has met, the one
that it begins with, the names passed to it, and the aliases, which are read once for each commit
(a workspace has as many as it had renames)."""

ASKED: dict[str, tuple[Callable[[Catalog], Sequence[object]], int, set[str]]] = {
    "ready ones of a definition": (
        lambda c: c.result_tables.by_definition("d17"),
        1,
        {"result_tables_definition"},
    ),
    "versions of a definition": (
        lambda c: c.result_tables.list(definition="d17"),
        1,
        {"result_tables_definition", "versions_table"},
    ),
    "in any status": (
        lambda c: c.result_tables.list(status=None, definition="d17"),
        1,
        {"result_tables_definition", "versions_table"},
    ),
    "anchored on a source": (
        lambda c: c.result_tables.list(source="papers"),
        11,
        {"lineage_down", "versions_table"},
    ),
    "anchored on a result table": (
        lambda c: c.result_tables.list(source="T17"),
        1,
        {"lineage_down", "versions_table"},
    ),
    "anchored, in any status": (
        lambda c: c.result_tables.list(status=None, source="papers"),
        11,
        {"lineage_down", "versions_table"},
    ),
    "anchored, of a definition": (
        lambda c: c.result_tables.list(source="papers", definition="d30"),
        1,
        {"versions_table"},
    ),
    "made by a model": (
        lambda c: c.result_tables.list(model="m"),
        1,
        {"result_tables_model", "versions_table"},
    ),
    "direct dependents": (
        lambda c: c.lineage.closure("papers", "down", 1),
        10,
        {"lineage_down"},
    ),
    "readers of a recipe": (
        lambda c: list(c.lineage.readers("t12", None)),
        1,
        {"lineage_down"},
    ),
    "all dependents": (lambda c: c.lineage.closure("papers", "down"), 100, {"lineage_down"}),
    "dependents of a table inside": (
        lambda c: c.lineage.closure("crm.people", "down"),
        1,
        {"lineage_down"},
    ),
    "dependents of a recipe": (
        lambda c: c.lineage.closure("t12", "down"),
        7,
        {"lineage_down"},
    ),
    "all above": (lambda c: c.lineage.closure("t19", "up"), 10, {"versions_newest"}),
    "three hops above": (lambda c: c.lineage.closure("t19", "up", depth=3), 3, {"versions_newest"}),
    "names of all above": (
        lambda c: list(c.lineage.ancestors(["t18", "t19"])),
        9,
        {"versions_newest"},
    ),
    "recipes of some names": (lambda c: c.recipes.list(["t1", "t2"]), 2, {"recipes_name"}),
    "newest versions of some names": (
        lambda c: c.result_tables.current(["t1", "t2"]),
        2,
        {"versions_newest"},
    ),
    "kinds of some names": (
        lambda c: list(c.result_tables.kinds(["t1", "t2"])),
        2,
        {"recipes_name", "versions_newest"},
    ),
    "versions of a name": (lambda c: c.result_tables.versions("t0"), 2, {"versions_number"}),
    "above a version": (lambda c: c.lineage.closure("t0__first", "up"), 1, {"lineage_up"}),
}
"""What is asked, how many are found, and some of the indexes that it goes by."""


@pytest.fixture
def chains(lab: Lab) -> Catalog:
    """A hundred tables in chains of ten, all from one source; the first has an earlier version."""
    with lab.transaction():
        lab.ready("t0", "source:papers", table_name="t0__first")
        for number in range(100):
            fields = {"model_id": "m"} if number == 5 else {}
            lab.ready(
                f"t{number}",
                f"t{number - 1}" if number % 10 else "source:papers",
                definition=f"d{number}",
                **fields,
            )
            lab.define(f"t{number}")
        lab.ready("of_people", source_input("crm", "people"), definition="p")
    return lab.catalog


def plans(
    catalog: Catalog, ask: Callable[[Catalog], Sequence[object]]
) -> tuple[Sequence[object], list[str]]:
    """What is found, and how SQLite says that it runs each statement of it."""
    said = list[str]()
    with catalog.database.read() as tx:
        raw = tx.raw
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(said.append)
        try:
            found = ask(catalog)
        finally:
            raw.set_trace_callback(None)
        read = [text for text in said if text.startswith(("SELECT", "WITH"))]
        return found, [row[3] for text in read for row in raw.execute(f"EXPLAIN QUERY PLAN {text}")]


def slow(lines: Iterable[str]) -> list[str]:
    """The lines that go over all rows of a table: without an index, to make one for this question
    alone, or over all that are ready."""
    return [
        line
        for line in lines
        if (line.startswith("SCAN") and line not in SMALL_SCANS)
        or "AUTOMATIC" in line
        or "result_tables_status" in line
    ]


@pytest.mark.parametrize("what", ASKED)
def test_what_is_found_goes_by_indexes_and_over_no_whole_table(chains, what):
    ask, many, indexes = ASKED[what]
    found, lines = plans(chains, ask)
    assert len(found) == many
    assert slow(lines) == []
    assert indexes <= {line.split(" INDEX ")[1].split()[0] for line in lines if " INDEX " in line}


@pytest.mark.parametrize(
    "index",
    # without that of newest versions, the others of the recipe are gone over, too
    sorted(set().union(*(indexes for _, _, indexes in ASKED.values())) - {"versions_newest"}),
)
def test_without_an_index_a_whole_table_is_gone_over_and_sqlite_says_so(chains, index):
    """What the test above rests on: that it would see an index go."""
    with chains.transaction() as tx:
        tx.execute(f"DROP INDEX {index}")
    assert any(
        slow(plans(chains, ask)[1]) for ask, _, indexes in ASKED.values() if index in indexes
    )

"""Sources whose name is a keyword of SQL are read by it, where nothing else could be meant."""

import pytest

import jammi_lab as jl
from tests.cases import cases, plain


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n1,2\n3,4\n")
    with jl.open(tmp_path / "lab") as ws:
        for name in ("both", "order", "papers"):
            ws.sources.add(name, tmp_path / "a.csv")
        yield ws


def test_a_keyword_that_can_only_be_a_table_is_one(ws):
    for statement, rows in cases("statements/keywords_as_names", "statement", "rows"):
        if rows is None:
            with pytest.raises(jl.SqlError, match="order"):
                ws.sql(statement)
        else:
            assert plain(ws.sql(statement).fetchall()) == rows


def test_a_table_that_is_stored_from_it_is_fresh_and_is_the_quoted_one(ws):
    ws.materialize("t", "SELECT sum(n) AS s FROM both")
    assert ws.staleness("t") == jl.Fresh()
    assert ws.materialize("t", 'SELECT sum(n) AS s FROM "both"').outcome == "reused"


def test_a_clause_without_its_table_is_still_a_syntax_error(ws):
    with pytest.raises(jl.SqlError, match="Syntax error"):
        ws.sql("SELECT id FROM WHERE id = 1")

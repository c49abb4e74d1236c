"""Sources whose name is a keyword of SQL are read by it in quotes."""

import pytest

import jammi_lab as jl


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n1,2\n3,4\n")
    with jl.open(tmp_path / "lab") as ws:
        for name in ("both", "papers"):
            ws.sources.add(name, tmp_path / "a.csv")
        yield ws


@pytest.mark.parametrize("statement", ["SELECT count(*) FROM both", "FROM both WHERE id = 1"])
def test_a_keyword_as_the_name_of_a_table_is_to_be_quoted(ws, statement):
    with pytest.raises(jl.SqlError, match="Syntax error") as caught:
        ws.sql(statement)
    assert caught.value.hint == 'If it is a table name, quote it: "both".'
    assert ws.sql(statement.replace("both", '"both"')).fetchall() in ([(2,)], [(1, 2)])


def test_a_clause_without_its_table_is_still_a_syntax_error(ws):
    with pytest.raises(jl.SqlError, match="Syntax error"):
        ws.sql("SELECT id FROM WHERE id = 1")

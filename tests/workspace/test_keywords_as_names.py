"""Sources whose name is a keyword of SQL are read by it in quotes."""

import pytest

import jammi_lab as jl


def test_a_keyword_as_a_table_is_quoted(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n1,2\n3,4\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("both", tmp_path / "a.csv")
        for statement in ("FROM both WHERE id = 1", "SELECT sum(n) FROM (SELECT n FROM both)"):
            with pytest.raises(jl.SqlError) as caught:
                ws.sql(statement)
            assert caught.value.hint == 'If it is a table name, quote it: "both".'
        assert ws.sql('SELECT sum(n) FROM "both"').fetchall() == [(6,)]

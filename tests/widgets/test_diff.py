"""The difference panel's kernel side: numbers, rows, causes, versions, the saved form."""

import pytest

import jammi_lab as jl
from jammi_widgets import DiffView
from tests.widgets.test_results import EVIL


@pytest.fixture
def prices(ws, tmp_path):
    """Two versions of a table: in the second a price changed, one row came, one went."""
    path = tmp_path / "prices.csv"
    path.write_text("id,name,price\n1,ash,5\n2,oak,7\n3,elm,9\n")
    ws.sources.add("prices", path)
    ws.materialize("priced", "SELECT * FROM prices", key="id")
    path.write_text("id,name,price\n1,ash,5\n2,oak,8\n4,fir,9\n")
    ws.recompute("priced")
    return path


def test_it_counts_rows_and_columns_and_names_the_input(ws, told, prices):
    body = told(DiffView(ws, "priced")).answer("open")
    assert body["parts"] == {"changed": 1, "added": 1, "removed": 1}
    assert body["columns"] == [{"name": "price", "type": "bigint", "rows": 1}]
    assert (body["old"], body["new"], [v for v, *_ in body["versions"]]) == (1, 2, [2, 1])
    assert body["causes"] == ["prices changed."]
    assert body["lines"] == ["Rows are matched by key."]


def test_changed_rows_carry_both_values_and_other_rows_theirs(ws, told, prices):
    line = told(DiffView(ws, "priced"))
    changed = line.answer("diff-rows", part="changed")
    assert (changed["labels"], changed["columns"]) == (["id"], ["price"])
    assert changed["rows"] == [
        {"key": "2", "labels": ["2"], "values": ["8"], "old": ["7"], "changed": [True]}
    ]
    added = line.answer("diff-rows", part="added")
    assert added["columns"] == ["name", "price"]
    assert added["rows"] == [{"key": "4", "labels": ["4"], "values": ["fir", "9"]}]
    assert line.answer("diff-rows", part="removed")["rows"][0]["key"] == "3"


def test_a_column_and_a_text_narrow_the_list(ws, told):
    rows = "SELECT i AS id, {} AS a, {} AS b FROM range(300) r(i)"
    ws.materialize("wide", rows.format("i", "i"), key="id")
    ws.materialize("wide", rows.format("i + 1", "i + (i >= 250)::INT * 1000"), key="id")
    panel = DiffView(ws, "wide")
    line = told(panel)
    assert [c["rows"] for c in line.answer("open")["columns"]] == [300, 50]
    page = line.answer("diff-rows", part="changed", column=1)
    assert page["matches"] == 50 and page["rows"][0]["key"] == "250" and not page["further"]
    assert line.answer("diff-rows", part="changed")["further"]
    panel.filter = "1299"
    assert line.messages[-1]["kind"] == "filtered"
    assert line.answer("diff-rows", part="changed")["matches"] == 1
    assert line.ask("diff-rows", part="changed", column=2)["kind"] == "refused"


def test_older_versions_are_compared_and_refresh_comes_back(ws, told, prices):
    prices.write_text("id,name,price\n1,ash,6\n2,oak,8\n4,fir,9\n")
    panel = DiffView(ws, "priced")
    line = told(panel)
    ws.recompute("priced")
    assert line.answer("versions", old=1, new=3)["parts"]["changed"] == 2
    assert line.answer("refresh")["parts"] == {"changed": 1, "added": 0, "removed": 0}
    assert (panel.old, panel.new) == (2, 3)
    assert line.ask("versions", old=1, new=9)["kind"] == "refused"


def test_a_rejected_version_is_compared_with_the_ready_one_before_and_so_is_the_next(
    ws, told, prices
):
    ws.checks.add("cheap", jl.checks.between("price", 0, 100), on="priced")
    for price in (500, 7):
        prices.write_text(f"id,name,price\n1,ash,5\n2,oak,{price}\n4,fir,9\n")
        ws.recompute("priced")
    body = told(DiffView(ws, "priced")).answer("versions", old=2, new=3)
    assert body["parts"] == {"changed": 1, "added": 0, "removed": 0}
    assert [(v, rejected) for v, _, rejected in body["versions"]] == [
        (4, False),
        (3, True),
        (2, False),
        (1, False),
    ]
    history = ws._services.tables.history("priced")
    assert [getattr(history.former(t), "version", None) for t in history] == [2, 2, 1, None]
    assert history.changes[4] == "price: 1 of 3 rows"
    assert history.changes[2] == "price: 1 of 3 rows, 1 row added, 1 row removed"
    text = repr(ws.table("priced").history())
    assert "price: 1 of 3 rows" in text and "rejected" not in text
    assert "ws.table('priced', 4).diff(2) shows the rows" in text


def test_rows_are_selected_by_their_keys(ws, prices):
    panel = DiffView(ws, "priced")
    panel.selection = ["2", "4"]
    with pytest.raises(jl.RowNotFound):
        panel.selection = ["1"]


def test_the_saved_form_has_the_changed_values(ws, prices):
    data, _ = DiffView(ws, "priced")._repr_mimebundle_()
    text = data["text/plain"]
    assert text.startswith("priced, version 1 → 2: 1 row added, 1 row removed, 1 row changed\n")
    assert "7 → 8" in text and "prices changed." in text and "fir" in text
    assert "7 → 8" in data["text/html"]


def test_names_and_values_cannot_be_markup(ws, told):
    text = EVIL.replace("'", "''")
    ws.materialize("evil", "SELECT 1 AS id, 'a' AS \"<b>\"", key="id")
    ws.materialize("evil", f"SELECT 1 AS id, '{text}' AS \"<b>\"", key="id")
    panel = DiffView(ws, "evil")
    assert "<img" not in panel._repr_mimebundle_()[0]["text/html"]
    assert told(panel).answer("diff-rows", part="changed")["rows"][0]["values"] == [EVIL]


def test_a_table_of_one_version_is_refused(ws):
    with pytest.raises(jl.TableNotFound, match="no ready version before"):
        DiffView(ws, "venues")

"""The workbench: one selection through lineage, board, rows and differences."""

import pytest

import jammi_lab as jl
from jammi_widgets import Workbench
from tests.templates import Template


def _build(folder):
    with jl.open(folder / "lab") as ws:
        for x in (1, 2):
            ws.materialize("base", f"SELECT {x} AS x, 1 AS id", key="id")
        ws.materialize("top", "SELECT x + 1 AS y FROM jammi.base")
        ws.materialize("base", "SELECT 5 AS x, 1 AS id", key="id")


_template = Template(_build)


@pytest.fixture
def ws():
    with jl.open(_template.restore() / "lab") as ws:
        yield ws


@pytest.fixture
def bench(ws):
    bench = Workbench(ws)
    yield bench
    bench.close()


def test_a_name_selected_in_one_panel_is_selected_in_the_others(bench):
    bench.lineage.selection = ["base"]
    assert bench.selection == bench.board.selection == ["base"]
    bench.board.selection = ["top"]
    assert bench.selection == bench.lineage.selection == ["top"]
    bench.selection = []
    assert bench.lineage.selection == bench.board.selection == []


def test_a_source_is_selected_where_there_are_sources(ws, tmp_path):
    (tmp_path / "p.csv").write_text("a\n1\n2\n")
    ws.sources.add("papers", tmp_path / "p.csv")
    ws.materialize("read", "SELECT a FROM papers")
    bench = Workbench(ws)
    bench.lineage.selection = ["papers"]
    assert bench.selection == ["papers"] and bench.board.selection == []
    assert "2 rows" in repr(bench.details)
    bench.close()


def test_rows_and_differences_are_those_of_the_first_selected_name(bench):
    assert "Select a table" in bench.details.value
    bench.selection = ["base"]
    assert "5" in repr(bench.details)
    bench.tab = "What changed"
    assert "1 row changed" in repr(bench.details) and "2 → 5" in repr(bench.details)
    bench.selection = ["top"]
    assert "no ready version before version 1" in bench.details.value
    bench.tab = "Rows"
    assert "3" in repr(bench.details)


def test_what_a_recompute_changed_is_shown_at_once(ws, bench):
    bench.selection = ["top"]
    assert bench.summary == "2 tables: 1 stale, 1 fresh"
    ws.recompute()
    bench.refresh()
    assert bench.summary == "2 tables: 2 fresh" and "6" in repr(bench.details)


def test_the_saved_form_has_lineage_and_board(bench):
    shown, _ = bench._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert "Lineage:" in shown["text/html"] and "2 recipes: 1 fresh, 1 stale" in shown["text/html"]
    assert "top (sql, version 1): stale" in repr(bench)

"""The result viewer's kernel side: pages, orders, what is found, what is held, what is said."""

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.workspace import column_profile
from jammi_widgets import result_pages as held
from jammi_widgets.results import ResultView
from tests.inside import result_page_of

EVIL = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def numbers(ws, told):
    """A panel over so many rows, and a way to ask it."""

    def make(
        rows=120,
        sql="SELECT i::BIGINT AS n, (i * 7) % {rows} AS m, 'text ' || i AS t FROM range({rows}) r(i)",
    ):
        panel = ResultView(ws.sql(sql.format(rows=rows)))
        return panel, told(panel)

    return make


def column(body, at=0):
    return [row[at] for row in body["rows"]]


def test_no_more_rows_are_read_than_are_looked_at(ws, told):
    result = ws.sql("SELECT i FROM range(20000000) r(i)")
    panel = ResultView(result)
    line = told(panel)
    assert line.answer("open")["counted"] == "1 to 50; there are more"
    line.ask("page", offset=5_000)
    assert result_page_of(panel).rows.num_rows < 20_000
    assert result._rows is None and sum(b.num_rows for b in result._head) < 1_000_000


def test_a_column_orders_all_rows_with_null_last_either_way(ws, told):
    rows = "(VALUES (3, 'a'), (NULL, 'b'), (1, 'c'), (3, 'd'), (2, 'e')) v(n, t)"
    line = told(ResultView(ws.sql(f"SELECT n, t FROM {rows}")))
    up = line.answer("page", column=0)
    assert (
        column(up) == ["1", "2", "3", "3", None]
        and column(up, 1) == ["c", "e", "a", "d", "b"]
        and up["numbers"] == [3, 5, 1, 4, 2]
    )
    down = line.answer("page", column=0, descending=True)
    assert column(down) == ["3", "3", "2", "1", None] and column(down, 1)[:2] == ["a", "d"]
    assert column(line.answer("page"), 1) == list("abcde")
    lists = told(ResultView(ws.sql("SELECT * FROM (VALUES ([2]), (NULL), ([1, 3])) v(l)")))
    assert lists.answer("page", column=0)["numbers"] == [3, 1, 2]


def test_a_text_is_found_in_every_column_in_any_case(ws, told):
    panel = ResultView(
        ws.sql(
            "SELECT * FROM (VALUES (1, 'Oslo', [1]), (21, 'Kyoto', [2]), (3, NULL, [3])) v(n, t, l)"
        ),
    )
    line = told(panel)
    panel.filter = "KYO"
    changed = line.messages[-1]
    assert (
        changed["kind"] == "changed"
        and changed["body"]["numbers"] == [2]
        and changed["body"]["counted"] == "1 to 1 of 1 matches in 3 rows"
    )
    panel.filter = "1"
    assert line.messages[-1]["body"]["numbers"] == [1, 2]
    assert line.answer("page", column=0, descending=True)["numbers"] == [2, 1]
    panel.filter = "o"
    assert line.messages[-1]["body"]["counted"] == "1 to 2 of 2 matches in 3 rows"
    panel.filter = "nowhere"
    assert line.messages[-1]["body"]["counted"] == "No matches in 3 rows."


def test_null_the_text_null_and_an_empty_text_are_told_apart(ws, told):
    line = told(
        ResultView(ws.sql("SELECT * FROM (VALUES (NULL), ('NULL'), (''), ('  '), ('x')) v(t)"))
    )
    quiet = [{"text": text, "quiet": True} for text in ("'NULL'", "''", "'  '")]
    assert column(line.answer("open")) == [None, *quiet, "x"]


def test_long_texts_and_nested_values_are_cut_and_whole_when_asked_for(numbers):
    _, line = numbers(
        2,
        "SELECT repeat('long ', 1000) AS t, range(100) AS l, repeat('x', 300000) AS h, chr(8238) || chr(10) || 'b' AS c FROM range({rows})",
    )
    text, nested, huge, hidden = line.answer("open")["rows"][0]
    assert (
        len(text["text"]) == 80
        and text["text"].endswith("…")
        and text["whole"].endswith("… (5,000 characters)")
    )
    assert (
        hidden == "\\u202e\\nb"
        and nested["text"].startswith("[0, 1, 2")
        and len(huge["whole"]) < 2_100
    )
    assert "".join(line.answer("value", row=1, column=0)["lines"]) == "long " * 1000
    assert line.answer("value", row=0, column=1)["lines"] == [str(list(range(100)))]
    assert line.answer("value", row=0, column=2)["cut"] == "the first 100,000 of 300,000 characters"
    assert line.answer("value", row=0, column=3)["lines"] == ["\\u202e", "b"]


def test_of_a_very_long_list_its_beginning_is_opened_with_its_length(numbers):
    [opened] = numbers(1, "SELECT range(1000000) AS l")[1].answer("value", row=0, column=0)["lines"]
    assert opened.startswith("[0, 1, 2") and opened.endswith(", 99] (1,000,000)")


def test_many_columns_are_shown_some_at_a_time(ws, told):
    line = told(ResultView(ws.sql("SELECT " + ", ".join(f"{i} AS c{i}" for i in range(70)))))
    body = line.answer("open")
    assert (len(body["columns"]), body["wide"], len(body["rows"][0])) == (30, 70, 30)
    assert [c["name"] for c in line.answer("page", left=60)["columns"]] == [
        f"c{i}" for i in range(60, 70)
    ]


def test_beyond_the_bound_it_says_that_only_the_first_rows_are_ordered(ws, told, monkeypatch):
    monkeypatch.setattr(held, "MAX_HELD_ROWS", 3_000)
    line = told(ResultView(ws.sql("SELECT -i AS n FROM range(5000000) r(i)")))
    assert line.answer("open")["said"] == ""
    body = line.answer("page", column=0)
    assert column(body)[0] == "-2999" and body["said"].startswith(
        "Only the first 3,000 rows of the result are sorted here. ORDER BY"
    )
    last = line.answer("page", offset=2_950)
    assert (
        last["said"].startswith("These are the first 3,000 rows; the result has more.")
        and not last["further"]
    )


def test_large_values_fill_the_bound_before_the_rows_do(ws, monkeypatch):
    monkeypatch.setattr(held, "MAX_HELD_BYTES", 1_000_000)
    panel = ResultView(ws.sql("SELECT repeat('x', 2000) AS t FROM range(300000)"))
    result_page_of(panel).load_rows(held.MAX_HELD_ROWS)
    assert result_page_of(panel).is_full and result_page_of(panel).rows.num_rows < 5_000


def test_chosen_rows_are_numbers_of_the_result_and_come_as_a_table(numbers):
    panel, line = numbers()
    line.ask("page", column=0, descending=True)
    panel.selection = ["3", "1"]
    assert panel.selected().column("n").to_pylist() == [2, 0]
    for wrong in ("0", "121", "-1", "x", "²", "9" * 30):
        with pytest.raises(jl.RowNotFound):
            panel.selection = [wrong]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_a_page_sets_wrongly_is_told_there_and_the_next_filter_shows_rows(numbers, text):
    panel, line = numbers()
    assert line.ask("page", column=3)["kind"] == "refused"
    panel.set_state({"selection": ["\ud800"]})
    panel.set_state({"filter": text})
    said = [m["lines"] for m in line.messages if m["kind"] == "said"]
    assert "row" in said[0][0] and "lone surrogate" in said[1][0]
    panel.set_state({"filter": "1"})
    assert line.messages[-1] == {"v": 1, "kind": "said", "lines": []}
    assert line.messages[-2]["kind"] == "changed"


def test_a_value_that_is_not_there_is_refused(numbers):
    _, line = numbers()
    assert (
        line.ask("value", row=120, column=0)["kind"]
        == line.ask("value", row=0, column=3)["kind"]
        == "refused"
    )


def test_what_is_saved_is_the_form_of_the_result(ws):
    result = ws.sql(f"SELECT '{EVIL.replace(chr(39), chr(39) * 2)}' AS t")
    data, _ = ResultView(result)._repr_mimebundle_()
    assert data["text/html"].startswith(result._repr_html_()) and data["text/plain"] == repr(
        result
    ) == repr(ResultView(result))
    assert "<img" not in data["text/html"]


def test_a_table_that_is_not_fresh_is_said_above_the_rows(ws, told, edited):
    edited()
    line = told(ResultView(ws.sql("SELECT * FROM jammi.recent")))
    assert "recent is" in (said := "\n".join(line.answer("open")["badge"])) and "stale" in said
    assert told(ResultView(ws.sql("SELECT 1"))).answer("open")["badge"] == []


def test_a_result_table_is_looked_through_too_and_other_things_are_refused(ws, told):
    assert told(ResultView(ws.table("recent"))).answer("open")["counted"] == "2 rows"
    with pytest.raises(jl.InvalidArgument, match="neither a Result nor a ResultTable"):
        ResultView(pa.table({"a": [1]}))


MIXED = """SELECT i AS n, CASE WHEN i % 10 = 0 THEN NULL ELSE ['ash', 'oak', 'elm'][i % 3 + 1] END AS t,
DATE '2024-01-01' + (i % 100)::INT AS d, [i] AS l, i % 2 = 0 AS b, 'unique ' || i AS u,
(CASE WHEN i = 5 THEN 'nan' WHEN i = 6 THEN 'inf' ELSE i::VARCHAR END)::DOUBLE AS f, 7 AS c
FROM range(240) r(i)"""


def test_a_profile_covers_all_rows_and_not_only_those_on_the_page(numbers):
    panel, line = numbers(240, MIXED)
    n, t = panel.profile("n"), panel.profile("t")
    assert (n.rows, n.nulls, n.lowest, n.highest, n.bins) == (240, 0, "0", "239", [10] * 24)
    assert t.nulls == 24 and t.distinct == 3
    assert t.values == [("ash", 72), ("elm", 72), ("oak", 72)]
    assert (panel.profile("d").lowest, panel.profile("d").highest) == ("2024-01-01", "2024-04-09")
    assert sum(panel.profile("d").bins) == 240 and sum(panel.profile("f").bins) == 238
    assert panel.profile("b").values == [("false", 120), ("true", 120)]
    assert panel.profile("c").values == [("7", 240)] and panel.profile("c").bins == []
    body = line.answer("profile")["profiles"][1]
    assert (body["name"], body["rows"], body["values"][0]) == ("t", 240, ["ash", 72])
    with pytest.raises(jl.InvalidArgument):
        panel.profile("missing")


def test_a_profile_that_could_be_of_other_rows_is_refused(ws, monkeypatch):
    monkeypatch.setattr(held, "MAX_HELD_ROWS", 3_000)
    panel = ResultView(ws.sql("SELECT random() AS n FROM range(4000000)"))
    with pytest.raises(jl.SourceUnavailable, match="too large for a profile"):
        panel.profile("n")


def test_a_large_table_is_profiled_from_a_sample_with_exact_nulls_and_limits(ws, told, monkeypatch):
    monkeypatch.setattr(column_profile, "MAX_EXACT_VALUES", 100_000)
    monkeypatch.setattr(column_profile, "MAX_SAMPLED_VALUES", 80_000)
    ws.materialize(
        "large",
        "SELECT i AS n, CASE WHEN i <> 7 THEN 'k' || i % 5 END AS t FROM range(400000) r(i)",
    )
    panel = ResultView(ws.table("large"))
    n, t = panel.profile("n"), panel.profile("t")
    assert 35_000 < n.sampled < 45_000
    assert (n.rows, n.nulls, n.lowest, n.highest, t.nulls) == (400_000, 0, "0", "399999", 1)
    assert n.distinct == pytest.approx(400_000, rel=0.01) and t.distinct == 5
    assert n.bins == pytest.approx([20_000] * 20, rel=0.15)
    assert dict(t.values) == pytest.approx({f"k{i}": 80_000 for i in range(5)}, rel=0.1)
    panel.filters = {"t": ["k1"], "n": ("100000", "200000")}
    line = told(panel)
    assert line.answer("open")["counted"] == "1 to 50 of 20,000 filtered rows"
    matching = line.answer("profile")["profiles"][0]["matching"]  # counted, not estimated
    assert sum(matching) == pytest.approx(20_000, rel=0.1) and sum(matching[5:10]) == sum(matching)


FILTERS = [
    ({"n": ("10", "30")}, lambda r: 10 <= r["n"] < 30),
    ({"n": (None, 5)}, lambda r: r["n"] < 5),
    ({"t": ["ash", None]}, lambda r: r["t"] in ("ash", None)),
    ({"b": ["true"], "n": (0, 9)}, lambda r: r["n"] % 2 == 0 and r["n"] < 9),
    ({"d": ("2024-01-05", "2024-01-08")}, lambda r: r["n"] % 100 in (4, 5, 6)),
    ({"l": ["[3]"]}, lambda r: r["n"] == 3),
    ({"t": []}, lambda r: False),
]


@pytest.mark.parametrize("kept_in_memory", [True, False], ids=["memory", "engine"])
@pytest.mark.parametrize(("filters", "meets"), FILTERS, ids=[str(f) for f, _ in FILTERS])
def test_filters_keep_the_rows_that_their_sql_returns(ws, told, filters, meets, kept_in_memory):
    ws.materialize("mixed", MIXED)
    result = ws.sql("SELECT * FROM jammi.mixed")
    panel = ResultView(result)
    before = result_page_of(panel)
    everything = (result if kept_in_memory else ws.table("mixed")).arrow().to_pylist()
    panel.filters = filters
    wanted = [row["n"] for row in everything if meets(row)]
    assert result_page_of(panel).rows.column("n").to_pylist() == wanted
    assert result_page_of(panel).rows.schema == result.schema
    assert ws.sql(panel.sql).arrow().column("n").to_pylist() == wanted
    panel.filters = {}
    assert panel.sql == "SELECT * FROM jammi.mixed" and result_page_of(panel) is before


def test_bars_and_values_of_a_profile_filter_and_say_so(numbers):
    panel, line = numbers(240, MIXED)
    panel.selection = ["3"]
    assert line.answer("filter", column=0, bins=[2, 3]) == {}
    assert panel.filters == {"n": ("20", "40")} and panel.selection == []
    line.ask("filter", column=1, values=[0], null=True)
    assert panel.filters["t"] == ["ash", None]
    changed = line.messages[-2]["body"]
    assert changed["filters"] == [[0, "n", "20 – 40"], [1, "t", "ash, NULL"]]
    assert changed["counted"] == f"{len(result_page_of(panel).rows)} filtered rows"
    n, t = line.answer("profile")["profiles"][:2]
    assert n["range"] == [2, 3] and n["bins"] == [10] * 24 and sum(n["matching"][2:4]) == 8
    assert (t["chosen"], t["null"]) == ([True, False, False], True)
    panel.selection = ["1"]
    assert panel.selected().column("n").to_pylist() == [result_page_of(panel).rows["n"][0].as_py()]
    line.ask("filter", column=0)
    assert list(panel.filters) == ["t"]


def test_the_sql_and_the_code_give_the_rows_that_are_seen(ws, told):
    panel = ResultView(
        ws.sql("SELECT i AS n, 'a_' || i AS \"the text\" FROM range($most) r(i)", {"most": 20})
    )
    line = told(panel)
    panel.filters = {"n": (3, 15)}
    panel.filter = "A_1"
    seen = line.answer("page", column=0, descending=True)
    assert column(seen) == ["14", "13", "12", "11", "10"]
    assert "\"the text\" ILIKE '%A\\_1%' ESCAPE '\\'" in seen["sql"]
    assert [str(n) for n, _ in ws.sql(seen["sql"], {"most": 20}).fetchall()] == column(seen)
    assert [str(n) for n, _ in eval(seen["code"], {"ws": ws}).fetchall()] == column(seen)


def test_columns_of_one_name_are_filtered_by_the_first(ws):
    panel = ResultView(ws.sql("SELECT i AS a, -i AS a, i AS A FROM range(5) r(i)"))
    panel.filters = {"A": (3, None)}
    assert ws.sql(panel.sql).fetchall() == [(3, -3, 3), (4, -4, 4)]


@pytest.mark.parametrize(
    ("filters", "told_as"),
    [
        ({"missing": (1, 2)}, "no column 'missing'"),
        ({"n": 3}, "a tuple"),
        ({"n": ("1 OR true", None)}, "cannot be compared"),
        ({"n": (1, 2, 3)}, "a tuple"),
    ],
)
def test_filters_that_are_none_are_refused_and_the_former_stay(numbers, filters, told_as):
    panel, line = numbers()
    panel.filters = {"n": (0, 3)}
    with pytest.raises(jl.InvalidArgument, match=told_as):
        panel.filters = filters
    assert panel.filters == {"n": (0, 3)} and result_page_of(panel).rows.num_rows == 3
    for wrong in ({"bins": [0, 99]}, {"values": [50]}, {"bins": ["0 OR 1", 2]}, {"sql": "1"}):
        assert line.ask("filter", column=0, **wrong)["kind"] == "refused"


def test_a_quote_in_a_value_stays_a_value(ws):
    panel = ResultView(ws.sql("SELECT * FROM (VALUES ('it''s'), ('x'') OR (1=1')) v(\"a\"\"b\")"))
    panel.filters = {'a"b': ["x') OR (1=1"]}
    assert result_page_of(panel).rows.num_rows == 1 and ws.sql(panel.sql).arrow().num_rows == 1

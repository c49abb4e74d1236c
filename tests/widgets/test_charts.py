"""Charts of results."""

import base64
import json
import re
import subprocess
import sys
import types
from importlib import metadata

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_widgets import charts
from tests.cases import cases


def test_a_chart_is_altairs_own_and_brings_a_picture_that_needs_no_network(rows):
    import altair

    made = rows("SELECT * FROM (VALUES ('a', 1), ('b', 2)) t(venue, n)").chart("bar", "venue", "n")
    assert isinstance(made, altair.Chart) and isinstance(made.properties(width=100), altair.Chart)
    data, stamped = made._repr_mimebundle_()
    assert "jammi" in stamped
    assert data["text/plain"] == "bar chart of n by venue, 2 rows"
    assert (
        'src="data:image/png;base64,iVBOR' in data["text/html"] and "http" not in data["text/html"]
    )


def test_the_first_chart_does_not_wait_for_a_grammar_that_it_does_not_use(monkeypatch):
    """It takes longer than altair; checks of addresses are as without charts."""
    if not any(metadata.distributions(name="rfc3987_syntax")):
        pytest.skip("its jsonschema checks no address")
    monkeypatch.delenv("PYTHONPATH", raising=False)  # where tests leave it out
    code = (
        "import sys, jammi_widgets.charts; print('rfc3987_syntax' in sys.modules); import jsonschema; "
        "print([jsonschema.FormatChecker().conforms(a, 'iri') for a in ('http://é.org', 'a b')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n[True, False]\n"


@pytest.mark.parametrize("kind", ["bar", "line", "point", "area", "box", "hist"])
def test_every_kind_draws(rows, kind):
    made = rows(
        "SELECT i::DATE::TIMESTAMP AS day, x::DECIMAL(9, 2) AS x, chr((65 + x)::INTEGER) AS c FROM (SELECT DATE '2026-01-01' + r::INTEGER AS i, r % 7 AS x FROM range(50) t(r))"
    ).chart(kind, "c" if kind == "hist" else "day", None if kind == "hist" else "x")
    assert "iVBOR" in made._repr_mimebundle_()[0]["text/html"]


@pytest.mark.only_soak
def test_of_many_rows_a_sample_is_drawn_and_said(rows):
    made = rows("SELECT r AS a, r * 2 AS b FROM range(200000) t(r)").chart("point")
    spec = made.to_dict()
    values = [v["a"] for v in spec["data"]["values"]]
    assert (
        len(values) == 5_000 and values == sorted(values) and 80_000 < sum(values) / 5_000 < 120_000
    )
    assert "a sample of 5,000 of 200,000 rows" in repr(made) and "a sample of 5,000" in json.dumps(
        spec["title"]
    )
    again = rows("SELECT r AS a, r * 2 AS b FROM range(200000) t(r)").chart("point").to_dict()
    assert again["data"]["values"] == spec["data"]["values"]


@pytest.mark.parametrize(
    ("columns", "words", "drawn"),
    cases("results/charts", "columns", "words", "drawn"),
)
def test_a_column_of_numbers_is_drawn_where_none_is_named(rows, columns, words, drawn):
    assert repr(rows(f"SELECT {columns}").chart(*words)) == f"{drawn}, 1 row"


def test_columns_that_are_not_named_are_the_first_two_and_a_hostile_name_is_one(rows):
    made = rows("""SELECT 1 AS "a.b[0]:Q", 2 AS "</script>", NULL AS c""").chart("bar").to_dict()
    assert (
        made["encoding"]["x"]["title"] == "a.b[0]:Q"
        and made["encoding"]["y"]["field"] == "</script>"
    )


def test_values_that_json_has_no_form_for_are_drawn_as_people_read_them(rows):
    made = (
        rows("SELECT 'NaN'::DOUBLE AS x, [1, 2] AS y, INTERVAL 1 DAY AS z")
        .chart("point", "x", "y", "z")
        .to_dict()
    )
    assert made["data"]["values"][0]["x"] is None and made["data"]["values"][0]["y"] == "[1, 2]"


@pytest.mark.parametrize(
    ("sql", "words", "said"),
    [
        ("SELECT 1 AS a, 2 AS b", ("pie",), "bar"),
        ("SELECT 1 AS a, 2 AS b", ("bar", "aa"), "a"),
        ("SELECT 1 AS a, 2 AS a", ("bar",), "AS"),
        ("SELECT 1 AS a", ("bar",), "hist"),
    ],
)
def test_what_cannot_be_drawn_is_a_typed_error_that_says_what_could(rows, sql, words, said):
    with pytest.raises(jl.InvalidArgument) as caught:
        rows(sql).chart(*words)
    assert said in " ".join(caught.value.rendered_lines())


def test_no_rows_are_an_empty_chart(rows):
    assert "0 rows" in repr(rows("SELECT 1 AS a, 2 AS b WHERE false").chart())


def test_a_character_that_xml_excludes_ends_no_process_that_saves_a_chart(rows, tmp_path):
    made = rows('SELECT chr(27) || r AS a, r AS "n\x1b[\'" FROM range(3) t(r)').chart("bar")
    for number, figure in enumerate((made, made.properties(title="\x1b"))):
        for kind in ("svg", "png", "html"):
            figure.save(tmp_path / f"{number}.{kind}")
    assert "\u241b" in (tmp_path / "1.svg").read_text()


def test_a_chart_is_not_saved_through_a_link(rows, tmp_path):
    kept, link = tmp_path / "kept", tmp_path / "o.png"
    kept.write_text("kept")
    link.symlink_to(kept)
    with pytest.raises(jl.InvalidArgument, match="not a regular file"):
        rows("SELECT 1 AS a, 2 AS b").chart("bar").save(link)
    with pytest.raises(jl.InvalidArgument, match="No such file or directory"):
        rows("SELECT 1 AS a, 2 AS b").chart("bar").save(tmp_path / "none" / "o.png")
    assert kept.read_text() == "kept"


def test_the_sample_of_fewer_rows_is_all_of_them(rows):
    from jammi_widgets.charts import sample_rows

    kept, total = sample_rows(rows("SELECT r FROM range(4999) t(r)"))
    assert total == 4999 and kept["r"].combine_chunks().equals(pa.array(range(4999), pa.int64()))


def test_a_large_image_has_no_pixels_beyond_its_size(rows, monkeypatch):
    monkeypatch.setattr(charts, "MAX_PNG_BYTES", 0)
    html = (
        rows("SELECT i FROM range(5) r(i)").chart("hist", "i")._repr_mimebundle_()[0]["text/html"]
    )
    png = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    assert f'width="{int.from_bytes(png[16:20], "big")}"' in html


def test_an_interactive_chart_has_a_specification_for_the_lab_and_an_image_for_others(rows):
    chart = rows("SELECT i AS a, i * i AS b FROM range(50) r(i)").chart("point")
    data, metadata = chart.interactive()._repr_mimebundle_()
    specification = data["application/vnd.vegalite.v5+json"]
    assert specification["params"] and specification["data"] and "text/html" not in data
    assert "http" not in json.dumps(specification)
    png = base64.b64decode(data["image/png"])
    assert png.startswith(b"\x89PNG")
    assert 480 < metadata["image/png"]["width"] < 640 and data["text/plain"] == repr(chart)
    assert set(chart._repr_mimebundle_()[0]) == {"text/plain", "text/html"}


def test_marimo_gets_the_picture_alone(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "marimo", types.SimpleNamespace(Html=str))
    made = rows("SELECT 1 AS a, 2 AS b").chart("bar")
    for chart in (made, made.interactive()):
        assert chart._display_().startswith('<img src="data:image/png;base64,iVBOR')

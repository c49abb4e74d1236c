"""What a chart takes of a notebook: an image of few bytes in its own colours, and a specification
with the rows that fit."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import jammi_lab as jl
from jammi_widgets.chart_images import smaller_forms
from jammi_widgets.chart_specifications import stored_specification

LAB = "application/vnd.vegalite.v5+json"
MANY = """SELECT random() AS a, random() * 100 AS b, ['x', 'y', 'z', 'w'][(i % 4 + 1)::INT] AS c,
    DATE '2020-01-01' + i::INT AS d FROM range(5000) r(i)"""


@pytest.fixture
def rows(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        yield lambda sql, **named: ws.sql(sql, **named)


def pixels(png):
    """The pixels of an image, as rows of red, green, blue, opacity."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def image(chart):
    html = chart._repr_mimebundle_()[0]["text/html"]
    return base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])


def test_translucent_points_keep_their_colours(rows):
    """The renderer writes a translucent orange as khaki."""
    few = "SELECT i AS a, i AS b, ['x', 'y'][(i % 2 + 1)::INT] AS c FROM range(40) r(i)"
    drawn = pixels(image(rows(few).chart("point", "a", "b", "c"))).reshape(-1, 4).astype(int)
    orange = np.abs(drawn - [245, 133, 24, 178]).max(axis=1) <= 2
    assert orange.sum() > 500


def test_an_image_of_few_colours_is_the_same_in_fewer_bytes(rows):
    import vl_convert

    spec = rows("SELECT i AS a, i AS b FROM range(9) r(i)").chart("line").to_dict()
    spec["config"] = {"background": "white"}
    png = vl_convert.vegalite_to_png(spec)
    smaller, fewer = smaller_forms(png, (16,), lambda: png)
    assert len(fewer) < len(smaller) < len(png) / 4
    assert (pixels(smaller) == pixels(png)).all()
    assert len(np.unique(pixels(fewer).reshape(-1, 4), axis=0)) <= 16
    assert np.abs(pixels(fewer).astype(int) - pixels(png)).mean() < 3


@pytest.mark.parametrize("colour", [None, "c"])
def test_five_thousand_points_take_at_most_60_kilobytes_for_a_reader_and_for_the_lab(rows, colour):
    chart = rows(MANY).chart("point", "a", "b", colour)
    data, _ = chart.interactive()._repr_mimebundle_()
    assert len(base64.b64decode(data["image/png"])) <= 60_000
    assert len(json.dumps(data[LAB])) <= 62_000
    drawn = data[LAB]["data"]["values"].count("\n") - 1
    assert 3_000 < drawn < 5_000
    assert data[LAB]["title"]["text"] == f"{drawn:,} of 5,000 rows are drawn"


def test_a_stored_specification_draws_what_the_chart_draws(rows):
    import vl_convert

    sql = """SELECT TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS d, nullif(i * 3, 9) AS b,
        i % 2 = 0 AS even, 'a "b", ' || i % 3 AS c FROM range(40) r(i)"""
    for words in (("line", "d", "b", "c"), ("point", "d", "b", "even"), ("bar", "c", "b")):
        spec = rows(sql).chart(*words).to_dict()
        stored = stored_specification(spec, 60_000)
        assert stored["data"]["format"]["type"] == "csv"
        assert len(json.dumps(stored)) < len(json.dumps(spec))
        assert vl_convert.vegalite_to_svg(stored) == vl_convert.vegalite_to_svg(spec)


def test_numbers_have_the_digits_that_can_be_seen_and_absent_texts_stay_absent():
    def stored(*values):
        data = {"values": [{"x": value, "y": 1} for value in values]}
        return stored_specification({"mark": "point", "data": data}, 9_000)["data"]["values"]

    assert stored(0.123456789, 1.0) == "x,y\n.12346,1\n1,1\n"
    assert stored(1e9 + 0.123456, 1e9 + 1.0) == "x,y\n1000000000.12346,1\n1000000001,1\n"
    assert stored(-0.5, 0.0, None) == "x,y\n-0.5,1\n0,1\n,1\n"
    assert stored("a", None) == [{"x": "a", "y": 1}, {"x": None, "y": 1}]
    assert stored(1.23456789, "a") == [{"x": 1.2346, "y": 1}, {"x": "a", "y": 1}]
    assert stored() == []


def test_the_title_of_a_chart_stays_above_the_note_on_its_rows():
    data = {"values": [{"x": f"text {n}"} for n in range(1_000)]}
    for title in ("Mine", {"text": "Mine", "fontSize": 20}):
        stored = stored_specification({"title": title, "data": data}, 3_000)
        assert stored["title"]["text"] == "Mine"
        assert "of 1,000 rows are drawn" in stored["title"]["subtitle"]
    assert stored_specification({"data": {"url": "x" * 4_000}}, 3_000) is None
    assert stored_specification({"mark": "x" * 4_000, "data": data}, 3_000) is None

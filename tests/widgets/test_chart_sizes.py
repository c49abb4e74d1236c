"""What a chart takes of a notebook: an image of few bytes in its own colours, and a specification
with the rows that fit."""

import base64
import json

from jammi_widgets.charts import stored_specification

LAB = "application/vnd.vegalite.v5+json"
MANY = """SELECT random() AS a, random() * 100 AS b, ['x', 'y', 'z', 'w'][(i % 4 + 1)::INT] AS c,
    DATE '2020-01-01' + i::INT AS d FROM range(5000) r(i)"""


def test_five_thousand_points_take_at_most_60_kilobytes_for_a_reader_and_for_the_lab(rows):
    chart = rows(MANY).chart("point", "a", "b", "c")
    data, _ = chart.interactive()._repr_mimebundle_()
    assert len(base64.b64decode(data["image/png"])) <= 60_000
    assert len(json.dumps(data[LAB])) <= 62_000
    drawn = len(data[LAB]["data"]["values"])
    assert 500 < drawn < 5_000
    assert data[LAB]["title"]["text"] == f"{drawn:,} of 5,000 rows are drawn"


def test_a_stored_specification_draws_what_the_chart_draws(rows):
    import vl_convert

    sql = """SELECT TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS d, nullif(i * 3, 9) AS b,
        i % 2 = 0 AS even, 'a "b", ' || i % 3 AS c FROM range(40) r(i)"""
    for words in (("line", "d", "b", "c"), ("point", "d", "b", "even"), ("bar", "c", "b")):
        spec = rows(sql).chart(*words).to_dict()
        stored = stored_specification(spec, 60_000)
        assert vl_convert.vegalite_to_svg(stored) == vl_convert.vegalite_to_svg(spec)

"""The words of a statement, and conditions that are none."""

import polars as pl
import pytest

from jammi_lab.core.errors import SqlError
from jammi_lab.engine.sql.tokens import all_tokens, top_level_tokens

UNCLOSED = ["'", '"', "/*", "$$", "$$ a", "E'", "--", "-- a", "x = 'a", 'x = "a', "1 /*/* */"]


@pytest.mark.parametrize("text", ["", *UNCLOSED])
def test_tokens_of_a_text_that_begins_with_none_are_none(text):
    assert b"".join(body for _, body in all_tokens(text)) in text.encode()
    assert len(top_level_tokens(text)) == len(all_tokens(text))


def test_a_condition_that_is_not_closed_is_a_mistake_in_sql_wherever_it_is_given(ws):
    ws.sources.add("s", pl.DataFrame({"id": [1, 2], "x": ["a b", "b c"]}))
    ws.embed("v", "s", key="id", text="x", model="hashing")
    table = ws.mutable.create("m", {"id": "int64", "x": "string"}, primary_key=["id"])
    table.insert([{"id": 1, "x": "a"}])
    ws.topics.register("t", {"x": "string"})
    ws.topics.publish("t", [{"x": "a"}])
    asks = [
        lambda where: ws.sql(f"SELECT * FROM s WHERE {where}").fetchall(),
        lambda where: ws.search("v", "a", where=where).fetchall(),
        lambda where: ws.embed("w", "s", key="id", text="x", model="hashing", where=where),
        lambda where: table.update({"x": "b"}, where),
        table.delete,
        lambda where: list(ws.topics.replay("t", where=where)),
    ]
    for where in UNCLOSED:
        for ask in asks:
            with pytest.raises(SqlError):
                ask(where)
    assert ws.sql("SELECT * FROM mutable.m").fetchall() == [(1, "a")]

"""A topic is a table of SQL, and an input whose state can be told."""

import pytest

from jammi_lab.core.errors import StatementNotAllowed


@pytest.fixture
def clicks(ws):
    ws.topics.register("clicks", {"page": "string", "n": "int64"})
    ws.topics.publish("clicks", [{"page": "a", "n": 1}, {"page": "b", "n": 2}])
    return ws


def test_a_topic_has_its_columns_its_offsets_and_its_moments(clicks):
    clicks.topics.publish("clicks", [{"page": "c"}])
    found = clicks.sql("SELECT * FROM topics.clicks")
    assert found.columns == ["page", "n", "_offset", "_produced_at"]
    assert clicks.sql("SELECT page, n, _offset FROM TOPICS.Clicks").fetchall() == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("c", None, 1),
    ]
    assert [i.kind for i in found.inputs] == ["topic"]
    assert clicks.sql(
        "SELECT count(*) FROM topics.clicks WHERE _produced_at > TIMESTAMPTZ '2020-01-01'"
    ).fetchall() == [(3,)]


def test_an_empty_topic_is_an_empty_table(ws):
    ws.topics.register("none", {"a": "VARCHAR[]"})
    assert ws.sql("SELECT * FROM topics.none").fetchall() == []


def test_a_topic_joins_whatever_else_there_is(clicks, tmp_path):
    (tmp_path / "pages.csv").write_text("page,title\na,Alpha\nb,Beta\n")
    clicks.sources.add("pages", tmp_path / "pages.csv")
    assert clicks.sql(
        "SELECT title, n FROM pages JOIN topics.clicks USING (page) ORDER BY n"
    ).fetchall() == [("Alpha", 1), ("Beta", 2)]


def test_the_catalog_lists_topics_of_this_tenant(clicks):
    with clicks.tenant("acme"):
        clicks.topics.register("mine", {"n": "int64"})
        assert clicks.sql(
            "SELECT name, next_offset, tenant FROM jammi_catalog.topics ORDER BY name"
        ).fetchall() == [
            ("clicks", 1, None),
            ("mine", 0, "acme"),
        ]
    assert clicks.sql("SELECT name FROM jammi_catalog.topics").fetchall() == [("clicks",)]


def test_a_topic_cannot_be_written_by_sql(clicks):
    for text in (
        "INSERT INTO topics.clicks VALUES ('a', 1)",
        "DELETE FROM topics.clicks",
        "DROP TABLE topics.clicks",
    ):
        with pytest.raises(StatementNotAllowed):
            clicks.sql(text)
    assert clicks.topics["clicks"].next_offset == 1

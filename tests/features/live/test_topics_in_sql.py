"""A topic is a table of SQL, and an input whose state can be told."""

import pytest

import jammi_lab as jl
from jammi_lab.core.anchors import AnchorKind
from jammi_lab.core.errors import StatementNotAllowed, TableNotFound
from jammi_lab.core.verdicts import Fresh, InputAdvanced, InputVanished, Stale
from tests.inside import services_of


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
    ws.topics.register("none", {"a": "list<string>"})
    assert ws.sql("SELECT * FROM topics.none").fetchall() == []


def test_a_topic_joins_whatever_else_there_is(clicks, tmp_path):
    (tmp_path / "pages.csv").write_text("page,title\na,Alpha\nb,Beta\n")
    clicks.sources.add("pages", tmp_path / "pages.csv")
    assert clicks.sql(
        "SELECT title, n FROM pages JOIN topics.clicks USING (page) ORDER BY n"
    ).fetchall() == [("Alpha", 1), ("Beta", 2)]


def test_a_publication_makes_its_readers_stale_and_recompute_makes_them_fresh(clicks):
    made = clicks.materialize(
        "per_page", "SELECT page, sum(n) AS n FROM topics.clicks GROUP BY page"
    )
    [anchor] = made.manifest.anchors
    assert (anchor.kind, anchor.input.kind, anchor.input.name) == (
        AnchorKind.SOURCE_VERSION,
        "topic",
        "clicks",
    )
    assert clicks.staleness("per_page") == Fresh()
    clicks.topics.publish("clicks", [{"page": "a", "n": 5}])
    verdict = clicks.staleness("per_page")
    assert isinstance(verdict, Stale)
    assert isinstance(verdict.reasons[0], InputAdvanced)
    assert clicks.plan().certain[0].name == "per_page"
    clicks.recompute()
    assert clicks.staleness("per_page") == Fresh()
    assert sorted(clicks.table("per_page").read().fetchall()) == [("a", 6), ("b", 2)]
    assert (
        clicks.materialize(
            "per_page", "SELECT page, sum(n) AS n FROM topics.clicks GROUP BY page"
        ).outcome
        == "reused"
    )


def test_a_topic_that_was_dropped_and_registered_again_is_never_fresh(clicks):
    clicks.materialize("copy", "SELECT page, n FROM topics.clicks")
    clicks.topics.drop("clicks")
    verdict = clicks.staleness("copy")
    assert isinstance(verdict, Stale)
    assert isinstance(verdict.reasons[0], InputVanished)
    clicks.topics.register("clicks", {"page": "string", "n": "int64"})
    clicks.topics.publish("clicks", [{"page": "a", "n": 1}, {"page": "b", "n": 2}])
    assert isinstance(clicks.staleness("copy"), Stale)


def test_retention_is_an_advance(ws, monkeypatch):
    clock = services_of(ws).clock
    now = [clock.now_ns()]
    monkeypatch.setattr(type(clock), "now_ns", lambda _: now[0])
    ws.topics.register("short", {"n": "int64"}, retention=60)
    ws.topics.publish("short", [{"n": 1}])
    ws.materialize("copy", "SELECT n FROM topics.short")
    now[0] += 61 * 10**9
    assert isinstance(ws.staleness("copy"), Stale)
    ws.recompute()
    assert ws.staleness("copy") == Fresh()
    assert ws.table("copy").read().fetchall() == []


def test_an_own_topic_that_begins_to_hide_a_shared_one_is_an_advance(ws):
    ws.topics.register("t", {"n": "int64"})
    with ws.tenant("acme"):
        ws.materialize("copy", "SELECT n FROM topics.t")
        ws.topics.register("t", {"n": "int64"})
        assert isinstance(ws.staleness("copy"), Stale)


def test_lineage_begins_at_the_topic(clicks):
    clicks.materialize("copy", "SELECT n FROM topics.clicks")
    assert [(e.input, e.derived, e.kind) for e in clicks.lineage("copy").edges] == [
        ("clicks", "copy", "source_version")
    ]
    assert [e.derived for e in clicks.derives_from("clicks")] == ["copy"]
    assert [n.kind for n in clicks.lineage("copy").nodes if n.name == "clicks"] == ["topic"]


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


def test_names_that_are_no_topic_miss_with_near_names(clicks):
    with pytest.raises(TableNotFound) as caught:
        clicks.sql("SELECT * FROM topics.click")
    assert caught.value.near == ("topics.clicks",)
    with pytest.raises(TableNotFound):
        clicks.sql("SELECT * FROM topics.main.clicks")


def test_a_topic_cannot_be_written_by_sql(clicks):
    for text in (
        "INSERT INTO topics.clicks VALUES ('a', 1)",
        "DELETE FROM topics.clicks",
        "DROP TABLE topics.clicks",
    ):
        with pytest.raises(StatementNotAllowed):
            clicks.sql(text)
    assert clicks.topics["clicks"].next_offset == 1


def test_a_result_that_is_read_again_has_the_same_events(clicks):
    found = clicks.sql("SELECT n FROM topics.clicks")
    clicks.topics.publish("clicks", [{"n": 9}])
    assert found.fetchall() == [(1,), (2,)]
    assert found.fetchall() == [(1,), (2,)]


def test_a_python_step_reads_a_topic(clicks):
    clicks.compute(
        "doubled", lambda clicks: clicks.polars().select("n"), inputs=["topics.clicks"], version="1"
    )
    assert clicks.staleness("doubled") == Fresh()
    clicks.topics.publish("clicks", [{"n": 9}])
    assert isinstance(clicks.staleness("doubled"), Stale)


def test_a_publication_in_another_handle_makes_readers_here_stale(clicks, tmp_path):
    clicks.materialize("copy", "SELECT n FROM topics.clicks")
    with jl.open(tmp_path / "lab") as other:
        other.topics.publish("clicks", [{"n": 9}])
        assert isinstance(clicks.staleness("copy"), Stale)
        assert isinstance(other.staleness("copy"), Stale)

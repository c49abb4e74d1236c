"""`jammi_catalog.*`: what SQL reads of the workspace, and what that costs."""

from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.freshness.catalog_relations import COLUMNS
from jammi_lab.inputs.observation import Observation
from tests.cases import cases
from tests.freshness.lab import Lab
from tests.inside import services_of

CONTRACT = dict(cases("results/catalog_relations", "relation", "columns"))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per look that is begun: whether it is deep."""
    begun: list[bool] = []
    first = Observation.__init__

    def counted(self: Observation, *args: Any, deep: bool, **more: Any) -> None:
        begun.append(deep)
        first(self, *args, deep=deep, **more)

    monkeypatch.setattr(Observation, "__init__", counted)
    return begun


def ask(lab: Lab, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    return lab.sql(sql, **params).fetchall()


def test_every_relation_has_the_promised_columns(lab):
    for relation, columns in CONTRACT.items():
        found = lab.sql(f"SELECT * FROM jammi_catalog.{relation}")
        assert found.columns == columns
        assert [(n, t) for n, t, *_ in ask(lab, f"DESCRIBE jammi_catalog.{relation}")] == list(
            COLUMNS[relation].items()
        )


def test_sources_say_where_they_are_and_when_a_table_was_last_anchored_on_them(papers):
    papers.sources.add("idle", papers.path("papers.csv"), anchor="content")
    rows = ask(
        papers,
        "SELECT name, kind, tenant, anchor, anchored_at FROM jammi_catalog.sources ORDER BY name",
    )
    assert rows == [
        ("idle", "csv", None, "content", None),
        ("papers", "csv", None, "auto", papers.table("titles").completed_at),
    ]


def test_tables_have_one_row_per_version_whatever_its_status(papers):
    with pytest.raises(jl.JammiError):
        papers.materialize("titles", "SELECT error('no') AS x FROM papers")
    papers.materialize("titles", "SELECT id FROM papers")
    found = ask(
        papers,
        "SELECT name, version, status, row_count, source, table_name FROM jammi_catalog.tables WHERE name = 'titles' ORDER BY version",
    )
    assert [row[:5] for row in found] == [
        ("titles", 1, "ready", 3, "papers"),
        ("titles", 2, "failed", None, "papers"),
        ("titles", 3, "ready", 3, "papers"),
    ]
    assert found[2][5] == papers.table("titles").table_name


def test_columns_are_in_the_order_of_the_table(papers):
    name = papers.table("titles").table_name
    assert ask(
        papers,
        "SELECT name, type, position FROM jammi_catalog.columns WHERE table_name = $name ORDER BY position",
        name=name,
    ) == [
        ("id", "BIGINT", 1),
        ("title", "VARCHAR", 2),
    ]


def test_recipes_have_their_definition_and_their_newest_version(papers):
    papers.define("later", "SELECT id FROM papers")
    rows = ask(
        papers,
        "SELECT name, kind, definition, newest_version FROM jammi_catalog.recipes ORDER BY name",
    )
    assert rows == [
        ("first", "sql", "SELECT min(id) AS id FROM jammi.titles", 1),
        ("later", "sql", "SELECT id FROM papers", None),
        ("titles", "sql", "SELECT id, title FROM papers WHERE year > 2019", 1),
    ]
    assert ask(
        papers, "SELECT definition_hash FROM jammi_catalog.recipes WHERE name = 'titles'"
    ) == [(papers.table("titles").definition_hash,)]


def test_models_are_those_that_are_registered(lab):
    lab.models.register("mine", dimensions=7)
    assert ask(lab, "SELECT name, version, dimensions, tenant FROM jammi_catalog.models") == [
        ("mine", 1, 7, None)
    ]


def test_anchors_are_those_of_the_manifests(papers):
    table = papers.table("titles")
    [anchor] = table.manifest.anchors
    assert ask(
        papers,
        "SELECT * FROM jammi_catalog.anchors WHERE table_name = $name",
        name=table.table_name,
    ) == [
        (
            table.table_name,
            "papers",
            "source",
            "source_version",
            anchor.method,
            anchor.value,
            ["id", "title", "year"],
        )
    ]


def test_status_says_what_ws_status_says(papers):
    papers.csv("papers", "id,title,year", "1,Other,2020")
    rows = ask(papers, "SELECT * EXCLUDE (age_seconds) FROM jammi_catalog.status")
    assert rows == [
        (
            r.name,
            r.version,
            r.verdict.to_dict()["kind"],
            r.reasons,
            r.rows,
            r.bytes,
            r.index,
            r.checks,
            r.grounds,
        )
        for r in papers.status()
    ]
    assert {row[0]: row[2] for row in rows} == {"titles": "stale", "first": "possibly_stale"}


def test_a_statement_joins_a_relation_with_sources_and_with_itself(papers):
    sql = (
        "SELECT s.verdict, count(p.id) FROM jammi_catalog.status s, papers p, jammi_catalog.recipes r WHERE r.name = s.name"
        " AND s.name = (SELECT max(name) FROM jammi_catalog.status) GROUP BY ALL"
    )
    assert ask(papers, sql) == [("fresh", 3)]


def test_each_version_names_the_kernel_that_made_it(tmp_path):
    with jl.open(tmp_path / "lab") as ada, jl.open(tmp_path / "lab") as ben:
        ada.materialize("a", "SELECT 1 AS n")
        ben.materialize("b", "SELECT n FROM jammi.a")
        ada.materialize("a", "SELECT 2 AS n")
        rows = ada.sql(
            "SELECT name, version, rank() OVER (ORDER BY opened_at, id) FROM jammi_catalog.writers "
            "JOIN jammi_catalog.tables ON writer = id ORDER BY ALL"
        ).fetchall()
    makers = [rank for _, _, rank in rows]
    assert [row[:2] for row in rows] == [("a", 1), ("a", 2), ("b", 1)]
    assert makers[0] == makers[1] != makers[2]


def test_writers_are_the_kernels_that_have_or_had_the_workspace_open(papers):
    other = papers.open()
    other.close()
    rows = ask(
        papers,
        "SELECT alive, pid = $pid FROM jammi_catalog.writers ORDER BY opened_at",
        pid=__import__("os").getpid(),
    )
    # the first is the kernel that made the template of the workspace
    assert rows == [(False, True), (True, True), (False, True)]


# -- what it costs ---------------------------------------------------------------------------------


def test_a_query_that_does_not_ask_for_the_status_takes_no_look(papers, looks):
    for sql in (
        "SELECT id FROM papers",
        "SELECT * FROM jammi_catalog.recipes",
        "SELECT * FROM jammi_catalog.tables",
        "SHOW TABLES",
    ):
        ask(papers, sql)
    assert looks == []


def test_the_status_is_one_shallow_look_each_time_that_it_is_asked(papers, looks):
    ask(
        papers, "SELECT a.name FROM jammi_catalog.status a JOIN jammi_catalog.status b USING (name)"
    )
    assert looks == [False]
    ask(papers, "SELECT count(*) FROM jammi_catalog.status")
    assert looks == [False, False]


def test_describing_and_explaining_the_status_takes_no_look(papers, looks):
    papers.sql("SELECT * FROM jammi_catalog.status").columns  # noqa: B018  its columns are known before it runs
    del looks[:]
    services_of(papers.ws).engine.prepare("SELECT * FROM jammi_catalog.status")
    assert looks == []


def test_only_the_relation_that_is_named_is_computed(papers, monkeypatch):
    from jammi_lab.freshness.catalog_relations import CatalogRelations

    made: list[str] = []
    first = CatalogRelations._table
    monkeypatch.setattr(
        CatalogRelations,
        "_table",
        lambda self, name: made.append(name) or first(self, name),
    )
    ask(papers, "SELECT count(*) FROM jammi_catalog.lineage")
    assert made == ["lineage"]


# -- names, tenants, and tables made from it -------------------------------------------------------


def test_show_tables_and_near_names_know_the_relations(papers):
    assert {(f"jammi_catalog.{name}",) for name in CONTRACT} <= set(ask(papers, "SHOW TABLES"))
    with pytest.raises(jl.TableNotFound) as missing:
        ask(papers, "SELECT * FROM jammi_catalog.statuss")
    assert "jammi_catalog.status" in missing.value.near
    assert "jammi_catalog.status" in services_of(papers.ws).engine.known_names()


def test_names_are_found_in_any_case(papers):
    assert ask(papers, 'SELECT count(*) FROM JAMMI_CATALOG."Status"') == [(2,)]


def test_a_tenant_sees_own_and_shared_rows_and_nobody_elses(lab):
    lab.csv("shared", "id", "1")
    with lab.tenant("acme"):
        lab.sources.add("own", lab.path("shared.csv"))
        lab.materialize("secret", "SELECT id FROM own")
        assert ask(lab, "SELECT name, tenant FROM jammi_catalog.sources ORDER BY name") == [
            ("own", "acme"),
            ("shared", None),
        ]
    for tenant in (None, "other"):
        with lab.tenant(tenant):
            assert ask(lab, "SELECT name FROM jammi_catalog.sources") == [("shared",)]
            for relation in (
                "tables",
                "columns",
                "recipes",
                "anchors",
                "status",
                "lineage",
                "column_lineage",
            ):
                assert ask(lab, f"SELECT * FROM jammi_catalog.{relation}") == []


def test_a_relation_is_read_for_the_tenant_that_asked_whoever_is_bound_when_its_rows_are_taken(
    lab,
):
    lab.csv("shared", "id", "1")
    with lab.tenant("acme"):
        lab.materialize("secret", "SELECT id FROM shared")
        prepared = services_of(lab.ws).engine.prepare(
            "SELECT name FROM jammi_catalog.recipes", tenant="acme"
        )
    assert prepared[0].run().table() == pa.table({"name": ["secret"]})


def test_a_table_made_from_it_is_undecidable_and_says_why(papers):
    papers.materialize("board", "SELECT name, verdict FROM jammi_catalog.status")
    verdict = papers.staleness("board")
    assert isinstance(verdict, jl.Undecidable)
    assert (
        str(verdict)
        == "undecidable: jammi_catalog.status: tables of jammi_catalog change with every operation"
    )
    assert (
        papers.materialize("board", "SELECT name, verdict FROM jammi_catalog.status").outcome
        == "computed"
    )
    assert ("jammi_catalog.status", "board", "unpinned_at_instant") in ask(
        papers, "SELECT * FROM jammi_catalog.lineage"
    )


def test_a_table_made_from_it_is_judged_without_asking_for_it_again(papers, looks):
    papers.materialize("board", "SELECT p.id, s.name FROM papers p, jammi_catalog.status s")
    papers.csv("papers", "id,title,year,more", "1,Other,2020,x")
    del looks[:]
    assert isinstance(papers.staleness("board"), jl.Undecidable)
    assert looks == [True]


def test_a_result_can_be_read_again_with_the_same_rows(papers, looks):
    found = papers.sql("SELECT name, verdict FROM jammi_catalog.status")
    before = found.fetchall()
    papers.csv("papers", "id,title,year", "1,Other,2020")
    assert found.fetchall() == before
    assert looks == [False]

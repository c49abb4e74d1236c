"""What if: verdicts as they would be, and nothing written."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab, said


def words(status: Any) -> dict[str, str]:
    return {row.name: row.verdict.to_dict()["kind"] for row in status}


def everything(lab: Lab) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """The digest of every file of the workspace and its data, but for SQLite's shared memory, and
    every row of the catalog."""
    files = {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest()
        for root in (lab.folder, lab.data)
        for p in sorted(root.rglob("*"))
        if p.is_file() and not p.name.endswith("-shm")
    }
    with sqlite3.connect(f"file:{lab.folder / 'catalog.sqlite3'}?mode=ro", uri=True) as db:
        tables = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
        ]
        rows = {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
    db.close()
    return files, rows


def test_a_changed_source_makes_its_readers_stale_and_theirs_possibly_stale(papers):
    status = papers.what_if(changed=["papers"])
    assert words(status) == {"first": "possibly_stale", "titles": "stale"}
    assert said(status["titles"].verdict) == ["advanced papers"]
    assert status["titles"].reasons == ["papers changed (what if)"]
    assert said(status["first"].verdict) == ["advanced papers ← titles"]


def test_a_changed_recipe_makes_its_readers_stale_and_not_itself(papers):
    assert words(papers.what_if(changed="titles")) == {"first": "stale", "titles": "fresh"}


def test_nothing_that_changes_is_the_status_as_it_is(papers):
    assert (
        words(papers.what_if()) == words(papers.status()) == {"first": "fresh", "titles": "fresh"}
    )


def test_what_is_stale_already_stays_so(papers):
    papers.csv("papers", "id,title,year", "9,New,2020")
    papers.csv("other", "id", "1")
    papers.materialize("third", "SELECT id FROM other")
    assert words(papers.what_if(changed=["other"])) == {
        "first": "possibly_stale",
        "third": "stale",
        "titles": "stale",
    }


def test_a_redefined_recipe_would_be_stale_by_its_definition(papers):
    status = papers.what_if(redefine={"titles": "SELECT id, title FROM papers WHERE year > 2020"})
    assert said(status["titles"].verdict) == ["definition"]
    assert said(status["first"].verdict) == ["definition ← titles"]
    papers.define("titles", "SELECT id, title FROM papers WHERE year > 2020")
    assert [r.verdict for r in papers.status()] == [r.verdict for r in status]


def test_a_cosmetic_redefinition_would_change_nothing(papers):
    status = papers.what_if(
        redefine={"TITLES": "select  ID, title from papers p -- all\nwhere year > 2019"}
    )
    assert words(status) == {"first": "fresh", "titles": "fresh"}


def test_a_redefinition_keeps_the_key_and_the_bound_values_that_it_names(papers):
    papers.materialize(
        "since",
        "SELECT id, year FROM papers WHERE year > $year AND id > $id",
        params={"year": 2019, "id": 0},
        key="id",
    )
    for statement, verdict in (
        ("SELECT id, year FROM papers WHERE id > $id AND year > $year", "stale"),
        ("SELECT id, YEAR FROM papers p WHERE year > $year AND id > $id", "fresh"),
        ("SELECT id, year FROM papers WHERE year > $year", "stale"),
    ):
        assert words(papers.what_if(redefine={"since": statement}))["since"] == verdict
    with pytest.raises(jl.SchemaMismatch):
        papers.what_if(redefine={"since": "SELECT year FROM papers"})


def test_a_redefinition_that_would_read_itself_is_a_cycle(papers):
    with pytest.raises(jl.DependencyCycle) as circle:
        papers.what_if(redefine={"titles": "SELECT id FROM jammi.first"})
    assert {"titles", "first"} <= set(circle.value.path)


def test_changes_and_redefinitions_are_seen_together(papers):
    status = papers.what_if(changed=["papers"], redefine={"titles": "SELECT id FROM papers"})
    assert said(status["titles"].verdict) == ["definition", "advanced papers"]


def test_a_table_inside_a_source_can_be_named(lab):
    path = lab.path("shop.sqlite")
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1); CREATE TABLE b (x INTEGER); INSERT INTO b VALUES (1);"
        )
    db.close()
    try:
        lab.sources.add("shop", f"sqlite:///{path}")
    except jl.JammiError:
        pytest.skip("this build reads no SQLite files")
    lab.materialize("ta", "SELECT x FROM shop.a")
    lab.materialize("tb", "SELECT x FROM shop.b")
    assert words(lab.what_if(changed=["shop.a"])) == {"ta": "stale", "tb": "fresh"}
    assert words(lab.what_if(changed=["SHOP"])) == {"ta": "stale", "tb": "stale"}


def test_what_cannot_be_decided_stays_undecidable(papers):
    papers.materialize("now", "SELECT id, now() AS t FROM papers")
    verdict = papers.what_if(changed=["papers"])["now"].verdict
    assert isinstance(verdict, jl.Undecidable)
    assert said(verdict) == ["advanced papers"]


def test_a_reader_of_an_exact_version_does_not_mind(papers):
    name = papers.table("titles").table_name
    papers.materialize("pinned", f'SELECT id FROM jammi."{name}"')
    assert words(papers.what_if(changed=["titles"]))["pinned"] == "fresh"


def test_an_unknown_name_is_a_typed_miss_with_near_names(papers):
    with pytest.raises(jl.TableNotFound) as missing:
        papers.what_if(changed=["paper"])
    assert missing.value.near == ("papers",)
    with pytest.raises(jl.TableNotFound) as missing:
        papers.what_if(redefine={"title": "SELECT 1 AS x"})
    assert missing.value.near == ("titles",)
    with pytest.raises(jl.InvalidArgument):
        papers.what_if(changed=[3])


def test_only_sql_can_be_imagined_otherwise(papers):
    papers.embed("vectors", "papers", key="id", text="title", model="hashing")
    with pytest.raises(jl.InvalidArgument):
        papers.what_if(redefine={"vectors": "SELECT 1 AS x"})


def test_a_tenants_imagination_reaches_nobody_else(lab):
    lab.csv("shared", "id", "1")
    with lab.tenant("acme"):
        lab.materialize("own", "SELECT id FROM shared")
        assert words(lab.what_if(changed=["shared"])) == {"own": "stale"}
    assert words(lab.what_if(changed=["shared"])) == {}
    with pytest.raises(jl.TableNotFound):
        lab.what_if(changed=["own"])


def test_it_writes_nothing(papers):
    papers.status()
    papers.csv("papers", "id,title,year", "9,New,2020")  # what a look sees of it is new
    before = everything(papers)
    papers.what_if(changed=["papers"], redefine={"titles": "SELECT id FROM papers WHERE id > 1"})
    assert everything(papers) == before
    assert Path(papers.folder, "results").exists()
    assert papers.recipes()[1].definition == "SELECT id, title FROM papers WHERE year > 2019"


def test_the_board_says_that_it_is_imagined(papers):
    status = papers.what_if(changed=["papers"])
    assert "hypothetical; nothing was changed" in repr(status)
    assert "hypothetical" in status._repr_html_()
    assert status.arrow().column("verdict").to_pylist() == ["possibly_stale", "stale"]

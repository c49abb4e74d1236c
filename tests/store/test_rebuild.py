"""Rebuild: a lost or damaged catalog comes back from the manifests, with the same rows, versions
and verdicts."""

import copy
import json
import shutil

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    CatalogTooNew,
    InvalidArgument,
    TableDamaged,
    WorkspaceNotFound,
)
from jammi_lab.store.manifests import manifest_path
from tests.store.conftest import PAPERS, VENUES
from tests.store.lab import catalog, copied, files, flip, resealed, statuses
from tests.templates import Template

TOP = "SELECT * FROM jammi.venues WHERE n > 1"


def _build(folder):
    papers = folder / "papers.csv"
    papers.write_text(PAPERS)
    with jl.open(folder / "lab") as lab:
        lab.sources.add("papers", papers)
        lab.materialize("venues", VENUES, key="venue")
        papers.write_text(PAPERS + "4,b,2024\n")
        lab.materialize("venues", VENUES, key="venue")
        lab.materialize("top", TOP)
        with lab.tenant("acme"):
            lab.materialize("mine", "SELECT venue FROM jammi.venues")
        _told.append(told(lab))


_told = []
TEMPLATES = {"made": Template(_build)}


@pytest.fixture
def papers(tmp_path):
    path = tmp_path / "papers.csv"
    if not path.exists():
        path.write_text(PAPERS)
    return path


@pytest.fixture
def lab(ws, papers):
    if "papers" not in ws.sources:
        ws.sources.add("papers", papers)
    return ws


@pytest.fixture
def made():
    """What is told of two versions of `venues`, the second one read by `top`, and of a tenant's own
    table."""
    return copy.deepcopy(_told[0])


def told(ws):
    """All that a person sees of a workspace's tables."""
    found = {}
    for tenant in (None, "acme"):
        with ws.tenant(tenant):
            for table in ws.tables():
                found[tenant, table.name, table.version] = (
                    table.table_name,
                    table.read().fetchall(),
                    str(table.verify()),
                    table.key,
                    table.inputs,
                )
            found[tenant, "status"] = [(r.name, r.version, str(r.verdict)) for r in ws.status()]
            found[tenant, "edges"] = sorted(map(str, ws.lineage().edges))
            found[tenant, "recipes"] = [
                (r.name, r.definition, r.definition_hash) for r in ws.recipes()
            ]
    return found


def lose(folder):
    for path in folder.glob("catalog.sqlite3*"):
        path.unlink()


def damage(folder):
    path = folder / "catalog.sqlite3"
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])


def cut_to_nothing(folder):
    (folder / "catalog.sqlite3").write_bytes(b"")


def rebuild(lab, folder, spoil=lose):
    """Makes the catalog of a closed workspace again, after what is done to it."""
    lab.close()
    spoil(folder)
    return jl.rebuild(folder)


def back(folder, papers):
    ws = jl.open(folder)
    ws.sources.add("papers", papers)
    return ws


@pytest.mark.parametrize(
    ("harm", "error"),
    [(lose, WorkspaceNotFound), (cut_to_nothing, WorkspaceNotFound), (damage, TableDamaged)],
)
def test_a_catalog_that_is_lost_cut_or_damaged_is_an_error_that_names_rebuild(
    lab, made, folder, harm, error
):
    lab.close()
    harm(folder)
    for way in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(error, match="rebuild"):
            jl.open(folder, **way)
    assert (folder / "catalog.sqlite3").exists() == (harm is not lose)


@pytest.mark.parametrize(
    "spoil", [lose, damage, lambda folder: None], ids=["lost", "damaged", "sound"]
)
def test_a_rebuilt_workspace_has_the_same_rows_versions_lineage_and_verdicts(
    lab, made, folder, papers, spoil
):
    before = {path: (folder / "results" / path).read_bytes() for path in files(folder)}
    report = rebuild(lab, folder, spoil)
    assert {path: (folder / "results" / path).read_bytes() for path in files(folder)} == before
    assert report.recipes == ["mine", "top", "venues"] and len(report.tables) == 4
    assert (report.sources, report.unreadable, report.missing) == (["papers"], [], [])
    with back(folder, papers) as again:
        assert told(again) == made
        assert not again.fsck(deep=True) and not again.recover()


def test_before_its_sources_are_back_a_rebuilt_table_is_not_fresh(lab, made, folder, papers):
    rebuild(lab, folder)
    with jl.open(folder) as again:
        assert str(again.staleness("venues")) == "stale: papers is gone"
        again.sources.add("papers", papers)
        assert str(again.staleness("venues")) == "fresh"
        papers.write_text(PAPERS)
        assert "papers changed" in str(again.staleness("venues"))


def test_a_rebuilt_workspace_goes_on_counting_and_reuses(lab, made, folder, papers):
    rebuild(lab, folder)
    with back(folder, papers) as again:
        assert again.materialize("venues", VENUES, key="venue").outcome == "reused"
        papers.write_text(PAPERS)
        assert again.recompute("venues").executed == [] or again.table("venues").version == 3
        assert again.materialize("venues", VENUES, key="venue", cache="bypass").version == 4


def test_versions_keep_their_numbers_where_some_are_gone(lab, folder, papers):
    made = [lab.materialize("venues", VENUES, cache="bypass") for _ in range(4)]
    made[0].drop()
    made[2].drop()
    rebuild(lab, folder)
    with back(folder, papers) as again:
        assert [(t.version, t.table_name) for t in again.table("venues").history()] == [
            (t.version, t.table_name) for t in (made[3], made[1])
        ]


def test_tables_of_one_number_are_numbered_by_the_time_they_were_made(lab, folder, papers):
    old = [lab.materialize("a", VENUES, cache="bypass") for _ in range(2)]
    lab.rename("a", "b")
    new = lab.materialize("a", VENUES, cache="bypass")
    report = rebuild(lab, folder)
    assert any("names changed" in each for each in report.lost)
    with back(folder, papers) as again:
        assert [t.table_name for t in again.table("a").history()] == [
            new.table_name,
            old[1].table_name,
            old[0].table_name,
        ]
        assert again.table("a").version == 3


def test_numbers_decide_where_a_clock_jumped_between_two_versions(lab, folder, papers):
    first, second = (lab.materialize("venues", VENUES, cache="bypass") for _ in range(2))
    place = manifest_path(first.path)
    plain = json.loads(place.read_text()) | {"produced_at": "2099-01-01T00:00:00.000000Z"}
    place.write_text(json.dumps(plain))
    rebuild(lab, folder)
    with back(folder, papers) as again:
        assert again.table("venues").table_name == second.table_name


def test_the_old_catalog_is_kept_aside_as_it_was_with_its_log(lab, made, folder, papers):
    lab.close()
    damage(folder)
    before = (folder / "catalog.sqlite3").read_bytes()
    (folder / "catalog.sqlite3-wal").write_bytes(b"left by a crash")
    report = jl.rebuild(folder)
    assert (folder / report.kept).read_bytes() == before
    assert (folder / f"{report.kept}-wal").read_bytes() == b"left by a crash"
    with back(folder, papers) as again:
        assert told(again) == made
    lose(folder)
    assert jl.rebuild(folder).kept is None


def test_the_report_says_what_manifests_do_not_hold(lab, made, folder):
    lab.close()
    report = jl.rebuild(folder)
    said = repr(report)
    for word in ("sources", "mutable tables", "topics", "models", "pins", "papers", report.kept):
        assert word in said
    assert str(report) == "rebuilt: 3 recipes, 4 tables"


def test_a_table_whose_bytes_are_gone_comes_back_as_one_to_recompute(lab, made, folder, papers):
    path = lab.table("top").path
    lab.close()
    lose(folder)
    path.unlink()
    assert jl.rebuild(folder).missing == [path.stem]
    with back(folder, papers) as again:
        assert str(again.staleness("top")) == "damaged: its bytes are gone"
        assert (
            again.recompute("top").executed == ["top"]
            and again.table("top").read().arrow().num_rows == 2
        )


def test_damaged_bytes_are_seen_after_a_rebuild(lab, made, folder, papers):
    path = lab.table("top").path
    lab.close()
    flip(path)
    jl.rebuild(folder)
    with back(folder, papers) as again:
        assert isinstance(again.staleness("top"), jl.Damaged)


@pytest.mark.every_case
@pytest.mark.parametrize(
    "spoilt",
    [
        b"{",
        b"[]",
        b'{"manifest_version": 99}',
        {"tenant": "other"},
        {"tenant": "../up"},
        {"table_name": "another"},
        {"recipe": ""},
        {"recipe": "a\nb"},
        {"version": 0},
        {"kind": "of_a_later_release"},
        {"descriptor": {"producer": "of_a_later_release"}},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_taken_over_is_named_and_left_alone(
    lab, made, folder, papers, spoilt
):
    place = manifest_path(lab.table("top").path)
    lab.close()
    place.write_bytes(
        spoilt
        if isinstance(spoilt, bytes)
        else json.dumps(json.loads(place.read_text()) | spoilt).encode()
    )
    before = place.read_bytes()
    report = jl.rebuild(folder)
    assert (
        len(report.unreadable) == 1
        and report.unreadable[0].startswith(f"results/_global/{place.name}: ")
        and report.recipes == ["mine", "venues"]
    )
    assert place.read_bytes() == before
    with back(folder, papers) as again:
        assert "top" not in again and str(again.staleness("venues")) == "fresh"


def test_a_second_table_of_one_name_is_named_and_left_alone(lab, made, folder):
    path = lab.table("top").path
    lab.close()
    other = folder / "results" / "zzz"
    other.mkdir()
    shutil.copy(path, other)
    place = other / manifest_path(path).name
    said = json.dumps(json.loads(manifest_path(path).read_text()) | {"tenant": "zzz"})
    place.write_bytes(resealed(said))
    report = jl.rebuild(folder)
    assert len(report.tables) == 4 and "another table already has that name" in report.unreadable[0]


def test_results_copied_elsewhere_become_a_workspace_of_their_own(
    lab, made, folder, papers, tmp_path
):
    lab.close()
    there = tmp_path / "there"
    there.mkdir()
    shutil.copytree(folder / "results", there / "results")
    jl.rebuild(there)
    shutil.rmtree(folder)
    with back(there, papers) as again:
        assert told(again) == made


def test_a_whole_workspace_copied_elsewhere_opens_there(lab, made, folder, tmp_path):
    lab.close()
    there = copied(folder, tmp_path / "there")
    shutil.rmtree(folder)
    with jl.open(there) as again:
        assert told(again) == made and not again.fsck(deep=True)


def test_a_workspace_that_is_open_is_not_rebuilt(lab, made, folder):
    with pytest.raises(InvalidArgument, match="open in 1 other session"):
        jl.rebuild(folder)
    assert told(lab) == made


def test_a_kernel_that_died_does_not_stand_in_the_way(lab, made, folder, run_python):
    lab.close()
    run_python("import os, jammi_lab as jl; jl.open('lab'); os._exit(0)")
    assert len(list((folder / "writers").glob("*.lock"))) == 1
    jl.rebuild(folder)
    assert list((folder / "writers").glob("*.lock")) == []


def test_without_a_catalog_or_a_manifest_there_is_nothing_to_rebuild(tmp_path):
    with pytest.raises(WorkspaceNotFound):
        jl.rebuild(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkspaceNotFound):
        jl.rebuild(tmp_path / "empty")


@pytest.mark.parametrize("point", ["catalog:before-commit", "rebuild:aside", "rebuild:done"])
def test_a_rebuild_that_is_stopped_anywhere_can_be_done_again(
    lab, made, folder, papers, fault, point
):
    lab.close()
    damage(folder)
    fault(point, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        jl.rebuild(folder)
    fault(None)
    assert not list(folder.glob(".catalog*"))
    jl.rebuild(folder)
    with back(folder, papers) as again:
        assert told(again) == made


def test_a_rebuild_removes_what_a_killed_one_left_and_no_folder(lab, made, folder):
    lab.close()
    (folder / ".catalog.sqlite3.0a1b2c3d.tmp").write_bytes(b"half a catalog")
    (folder / ".catalog.sqlite3.0a1b2c3d.tmp-journal").write_bytes(b"its journal")
    (folder / ".catalog.sqlite3.11111111.tmp").mkdir()
    jl.rebuild(folder)
    assert [path.name for path in folder.glob(".catalog*")] == [".catalog.sqlite3.11111111.tmp"]


def test_what_a_dead_writer_had_attested_is_there_and_what_it_had_not_is_an_orphan(
    lab, made, folder, papers
):
    lab.close()
    name = next(p for p in files(folder) if p.startswith("acme/") and p.endswith(".json"))
    (folder / "results" / name).unlink()
    assert "mine" not in jl.rebuild(folder).recipes
    with back(folder, papers) as again:
        assert again.fsck().orphans == [
            "results/" + name.replace(".materialization.json", ".parquet")
        ]
        assert set(statuses(folder).values()) == {"ready"}


def test_a_workspace_of_a_later_release_is_not_rebuilt(lab, made, folder):
    lab.close()
    with catalog(folder) as db:
        db.execute("UPDATE catalog_format SET format = '9999'")
    with pytest.raises(CatalogTooNew):
        jl.rebuild(folder)
    assert not list(folder.glob("*.before-*"))
    with catalog(folder) as db:
        assert db.execute("SELECT format FROM catalog_format").fetchall() == [("9999",)]

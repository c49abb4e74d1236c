"""A project folder that is moved, copied, or seen under another path."""

import shutil
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.sources.locations import full_location, store_location
from jammi_lab.workspace.copy import copy_workspace
from tests.inside import services_of
from tests.processes import COMMAND


def write(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"id,x\n1,{value}\n")
    return path


def make(project, lab="lab", data="data/a.csv", statement="SELECT sum(x) AS s FROM a"):
    """A project with one source and a table of it."""
    file = write(project / data)
    with jl.open(project / lab) as ws:
        ws.sources.add("a", file)
        ws.materialize("t", statement)
    return file


@pytest.mark.parametrize(
    ("lab", "git"), [("lab", None), (".jammi", ""), ("deep/er/lab", ""), ("deep/lab", "deep")]
)
@pytest.mark.parametrize("statement", ["FROM a", "FROM '{file}'", "FROM read_csv('{file}')"])
def test_a_moved_project_is_fresh_and_a_copy_reads_its_own_files(tmp_path, lab, git, statement):
    project = tmp_path / "p"
    if git is not None:
        (project / git / ".git").mkdir(parents=True)
    data = "deep/data/a.csv" if lab.startswith("deep") else "data/a.csv"
    make(project, lab, data, statement.format(file=project / data))
    shutil.copytree(project, tmp_path / "copy")
    write(tmp_path / "copy" / data, 7)
    with jl.open(tmp_path / "copy" / lab) as ws:
        assert isinstance(ws.staleness("t"), jl.Stale)
        assert ws.sources["a"].location == str(tmp_path / "copy" / data)
        assert ws.recompute("t").steps[0].outcome == "computed"
        assert ws.sql("SELECT * FROM jammi.t").fetchall() == [(1, 7)]
    shutil.move(project, tmp_path / "moved")
    with jl.open(tmp_path / "moved" / lab) as ws:
        assert isinstance(ws.staleness("t"), jl.Fresh)
        assert not ws.recovery.moved and not ws.recovery


@pytest.mark.parametrize("data", ["data/*.csv", "data", "we [1]/a.csv", "dätä/a.csv", "lab/a.csv"])
def test_globs_folders_and_names_with_wildcards_move_along(tmp_path, data, monkeypatch):
    project = tmp_path / "p [x]"
    file = write(project / data.replace("*", "a") / ("" if data.endswith("csv") else "b.csv"))
    monkeypatch.chdir(project)
    with jl.open("lab") as ws:
        ws.sources.add("a", data)
        ws.materialize("t", "SELECT x FROM a")
    monkeypatch.chdir(tmp_path)
    shutil.move(project, tmp_path / "q")
    with jl.open(tmp_path / "q" / "lab") as ws:
        assert isinstance(ws.staleness("t"), jl.Fresh)
        (tmp_path / "q" / file.relative_to(project)).write_text("id,x\n1,8\n")
        assert ws.sql("SELECT x FROM a").fetchall() == [(8,)]


def test_what_is_outside_the_project_is_absolute_and_named_when_it_is_gone(tmp_path):
    outside, kept = write(tmp_path / "out" / "a.csv"), write(tmp_path / "kept" / "b.csv")
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.sources.add("a", outside)
        ws.sources.add("b", kept)
        ws.materialize("t", "SELECT x FROM a")
    shutil.move(tmp_path / "p", tmp_path / "q")
    shutil.move(tmp_path / "out", tmp_path / "new place")
    with pytest.warns(UserWarning, match="not trusted"), jl.open(tmp_path / "q" / "lab") as ws:
        assert ws.recovery.moved == []  # nothing was looked for outside of the folder
    jl.trust(tmp_path / "q" / "lab")
    for _ in range(2):
        with jl.open(tmp_path / "q" / "lab", read_only=True) as ws:
            assert ws.recovery.moved == ["a"]
    with jl.open(tmp_path / "q" / "lab") as ws:
        assert ws.recovery.moved == ["a"]
        with pytest.raises(jl.SourceUnavailable, match=r"ws\.relocate\(old, new\)"):
            ws.sql("SELECT x FROM a")
        assert "ws.relocate(old, new)" in str(ws.status()) and "; ws.relocate(" in str(ws.why("t"))
        assert "1 source left behind when the workspace was moved or copied" in ws._repr_html_()
        assert ws.relocate(tmp_path / "out", tmp_path / "new place") == ["a"]
        assert ws.sources["a"].location == str(tmp_path / "new place" / "a.csv")
        assert isinstance(ws.staleness("t"), jl.Fresh)
        assert ws.sources["b"].location == str(kept)
        with pytest.raises(InvalidArgument, match="No source is at or below"):
            ws.relocate(tmp_path / "out", tmp_path / "elsewhere")
        with pytest.raises(InvalidArgument, match="belongs to the workspace"):
            ws.relocate(tmp_path / "kept", tmp_path / "q" / "lab" / "results")
        assert ws.sources["b"].location == str(kept)
    jl.trust(tmp_path / "q" / "lab")
    with jl.open(tmp_path / "q" / "lab") as ws:
        assert ws.recovery.moved == []


def test_a_source_of_the_former_project_is_named_in_its_copy(tmp_path):
    """The project became wider after the source was added: its path is absolute."""
    file = write(tmp_path / "repo" / "data" / "a.csv")
    with jl.open(tmp_path / "repo" / "work" / "lab") as ws:
        ws.sources.add("a", file)
    (tmp_path / "repo" / ".git").mkdir()
    with jl.open(tmp_path / "repo" / "work" / "lab") as ws:
        assert ws.sources.add("a", file).location == str(file)
    shutil.copytree(tmp_path / "repo", tmp_path / "copy")
    jl.trust(tmp_path / "copy" / "work" / "lab")
    with jl.open(tmp_path / "copy" / "work" / "lab") as ws:
        assert ws.recovery.moved == ["a"]
        ws.relocate(tmp_path / "repo", tmp_path / "copy")
        assert ws.sources["a"].location == str(tmp_path / "copy" / "data" / "a.csv")
    shutil.move(tmp_path / "copy", tmp_path / "again")
    with jl.open(tmp_path / "again" / "work" / "lab") as ws:
        assert ws.sources["a"].location == str(tmp_path / "again" / "data" / "a.csv")


def test_one_project_under_two_paths(tmp_path, monkeypatch):
    """A team share that each user mounts elsewhere; here by a link."""
    make(tmp_path / "share" / "p")
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt" / "s").symlink_to(tmp_path / "share")
    for place in ("mnt/s", "share", "mnt/s"):
        with jl.open(tmp_path / place / "p" / "lab") as ws:
            assert isinstance(ws.staleness("t"), jl.Fresh) and not ws.recovery.moved
            ws.sources.add("a", tmp_path / "mnt" / "s" / "p" / "data" / "a.csv")
            ws.sources.add("a", tmp_path / "share" / "p" / "data" / "a.csv")
            monkeypatch.chdir(tmp_path / place / "p")
            ws.sources.add("a", "data/../data/a.csv")
            monkeypatch.chdir(tmp_path)


def test_the_link_of_a_workspace_leads_to_one_project(tmp_path):
    """The workspace is on another drive, and a link to it is in the project."""
    (tmp_path / "drive").mkdir()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "lab").symlink_to(tmp_path / "drive" / "lab", target_is_directory=True)
    (tmp_path / "drive" / "lab").mkdir()
    file = write(tmp_path / "p" / "a.csv")
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.sources.add("a", file)
    with jl.open(tmp_path / "drive" / "lab") as ws:
        assert ws.sql("SELECT x FROM a").fetchall() == [(1,)]


def test_the_home_folder_is_a_place_like_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "p" / "a.csv")
    with jl.open("~/p/lab") as ws:
        ws.sources.add("a", "~/p/a.csv")
    shutil.move(tmp_path / "p", tmp_path / "q")
    with jl.open("~/q/lab") as ws:
        assert ws.sql("SELECT x FROM a").fetchall() == [(1,)]


def test_a_link_in_the_project_is_kept_as_it_is(tmp_path):
    write(tmp_path / "big" / "a.csv")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "data").symlink_to(tmp_path / "big")
    assert store_location(tmp_path / "p/data/a.csv", tmp_path / "p/lab") == "../data/a.csv"
    assert store_location(tmp_path / "big/a.csv", tmp_path / "p/lab") == str(tmp_path / "big/a.csv")
    assert full_location("../data/a.csv", tmp_path / "p/lab") == str(tmp_path / "p/data/a.csv")
    assert store_location(tmp_path / "p2/a.csv", tmp_path / "p/lab") == str(tmp_path / "p2/a.csv")


def test_nothing_is_relative_to_the_root():
    assert store_location("/data/a.csv", Path("/lab")) == "/data/a.csv"


def test_a_copied_workspace_reads_the_sources_of_the_original(tmp_path, run_python):
    file = make(tmp_path / "p")
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.sources.add("inside", write(tmp_path / "p" / "lab" / "b.csv", 3))
    run_python(COMMAND, "copy", "p/lab", str(tmp_path / "far" / "copy"))
    with jl.open(tmp_path / "far" / "copy") as ws:
        assert not ws.recovery.moved
        assert ws.sources["a"].location == str(file)
        assert ws.sql("SELECT x FROM inside").fetchall() == [(3,)]
        assert isinstance(ws.staleness("t"), jl.Fresh)


def first_column(source):
    return source.arrow().select(["x"])


READERS = {
    "a statement": lambda ws, path: ws.materialize("t", f"SELECT x FROM '{path}'"),
    "a glob": lambda ws, path: ws.materialize("t", f"SELECT x FROM '{path.parent}/*.csv'"),
    "a reader": lambda ws, path: ws.materialize("t", f"SELECT x FROM read_csv('{path}')"),
    "a Python step": lambda ws, path: ws.compute("t", first_column, inputs=str(path)),
}
"""What reads the column x of a file by its path."""


@pytest.mark.parametrize(
    ("reader", "data"), [*((each, "data/a.csv") for each in READERS), ("a statement", "lab/a.csv")]
)
def test_a_copied_workspace_reads_the_paths_of_the_original(tmp_path, reader, data):
    file, copy = write(tmp_path / "p" / data), tmp_path / "q" / "copy"
    with jl.open(tmp_path / "p" / "lab") as ws:
        READERS[reader](ws, file)
        ws.materialize("child", "SELECT sum(x) AS s FROM jammi.t")
        rule = f"SELECT * FROM jammi.t WHERE x < (SELECT max(x) FROM '{file}')"
        ws.checks.add("few", rule, on="t")
        copy_workspace(ws, copy)
    decoy = write(tmp_path / "q" / data.replace("lab", "copy"), 100)
    with jl.open(copy) as ws:
        assert isinstance(ws.staleness("t"), jl.Fresh)
        assert [row.outcome for row in ws.check()] == ["pass"]
        copy_workspace(ws, tmp_path / "far" / "second")
    write(file, 7)
    for each in (copy, tmp_path / "far" / "second"):
        with jl.open(each) as ws:
            assert isinstance(ws.staleness("t"), jl.Stale)
            ws.recompute()
            assert ws.sql("FROM jammi.child").fetchall() == [(7,)]
            READERS[reader](ws, file)
            assert ws.table("t").version == 2  # it is the same definition
    with jl.open(copy) as ws:  # its own files are read by the paths that are typed there
        READERS[reader](ws, decoy)
        assert ws.sql("SELECT x FROM jammi.t").fetchall() == [(100,)]
        assert isinstance(ws.staleness("t"), jl.Fresh)
        with pytest.raises(jl.StatementNotAllowed, match="belongs to the workspace itself"):
            ws.sql(f"FROM '{ws.table('t').path}'")


def test_a_copy_that_is_put_back_or_relocated_reads_the_files_there(tmp_path):
    for project, value in (("p", 1), ("new", 1)):
        write(tmp_path / project / "a.csv", value)
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.materialize("t", f"SELECT x FROM '{tmp_path}/p/a.csv'")
        copy_workspace(ws, tmp_path / "backup" / "lab")
    shutil.rmtree(tmp_path / "p" / "lab")
    shutil.copytree(tmp_path / "backup" / "lab", tmp_path / "new" / "lab")
    shutil.move(tmp_path / "backup" / "lab", tmp_path / "p" / "lab")
    with jl.open(tmp_path / "p" / "lab") as ws:
        assert isinstance(ws.staleness("t"), jl.Fresh)
    shutil.move(tmp_path / "p", tmp_path / "gone")
    jl.trust(tmp_path / "new" / "lab")
    with jl.open(tmp_path / "new" / "lab") as ws:
        assert isinstance(ws.staleness("t"), jl.Stale)
        assert ws.sql(f"SELECT x FROM '{tmp_path}/new/a.csv'").fetchall() == [(1,)]
        with pytest.raises(InvalidArgument, match="No source is at or below"):
            ws.relocate(tmp_path / "other", tmp_path / "new")
        assert ws.relocate(tmp_path / "p", tmp_path / "new") == []
        assert isinstance(ws.staleness("t"), jl.Fresh)
    shutil.move(tmp_path / "new", tmp_path / "newer")
    write(tmp_path / "newer" / "a.csv", 8)
    jl.trust(tmp_path / "newer" / "lab")
    with jl.open(tmp_path / "newer" / "lab") as ws:
        ws.recompute()
        assert ws.sql("FROM jammi.t").fetchall() == [(8,)]


@pytest.mark.parametrize("original", ["{tmp}/lab", "..", "\0", ""])
def test_the_original_that_a_strangers_catalog_names_is_no_way_out_of_the_project(
    tmp_path, original
):
    write(tmp_path / "a.csv", 3)
    with jl.open(tmp_path / "p" / "lab") as ws:
        write(tmp_path / "p" / "a.csv")
        ws.materialize("t", f"SELECT x FROM '{tmp_path}/p/a.csv'")
        services_of(ws).catalog.metadata.set("paths", original.format(tmp=tmp_path))
    shutil.move(tmp_path / "p", tmp_path / "q")  # the folder in its place is not trusted
    with jl.open(tmp_path / "q" / "lab", read_only=True) as ws:
        if original in ("\0", ""):  # none
            assert isinstance(ws.staleness("t"), jl.Fresh)
            return
        assert "is not trusted" in str(ws.staleness("t"))
        with pytest.raises(jl.SourceUnavailable, match="is not trusted"):
            ws.sql("FROM 'workspace://../a.csv'")

"""Each own file and folder of a workspace replaced by something else, as archives and repositories
of strangers may hold it: no verb changes, reads out or waits for anything outside of the folder."""

import contextlib
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.storage.files import open_regular
from jammi_lab.workspace.copy import copy_workspace

FILES = (
    "catalog.sqlite3",
    "catalog.sqlite3-wal",
    "catalog.sqlite3-shm",
    "catalog.sqlite3-journal",
    "catalog.sqlite3-commits",
    "space.reserve",
    "workspace.id",
    "jammi.toml",
    "{t}.parquet",
    "{t}.materialization.json",
    "{v}.idx.usearch",
    "{v}.idx.manifest.json",
    "{t}.sums.arrow",
    "writers/w0123456789abcdef.lock",
    "quarantine/old.parquet",
    "quarantine/old.why.json",
    "checkpoints/abc.parquet",
    "checkpoints/abc.log",
)
FOLDERS = ("results", "results/_global", "quarantine", "checkpoints", "writers", "models")
SECRET = b"precious content that nobody but its owner may see or change, longer than twenty bytes"
LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with one table of each kind that has files of its own, and their paths."""
    lab = tmp_path_factory.mktemp("made") / "lab"
    with jl.open(lab) as ws:
        texts = "SELECT * FROM (VALUES (1, 'a red fox'), (2, 'a blue whale')) AS x(id, body)"
        ws.materialize("texts", texts)
        ws.materialize("t", "SELECT 42 AS n")
        ws.materialize("t", "SELECT 43 AS n")
        ws.embed("v", "jammi.texts", key="id", text="body", model="hashing")
        stems = {
            name: os.path.relpath(ws.table(name).path, lab).removesuffix(".parquet")
            for name in ("t", "v")
        }
    return lab, stems


def sql(ws):
    ws.sql("SELECT sum(n) FROM jammi.t").fetchall()


def search(ws):
    ws.search("v", "a fox", k=1).arrow()


def copy(ws):
    target = Path(ws.path).parent / "copy"
    shutil.rmtree(target, ignore_errors=True)
    copy_workspace(ws, target)


VERBS = (
    lambda ws: ws.status(),
    sql,
    search,
    lambda ws: ws.materialize("new", "SELECT 1 AS a"),
    lambda ws: ws.fsck(),
    lambda ws: ws.verify("t"),
    copy,
    lambda ws: ws.backup(Path(ws.path).parent / "backup.sqlite3"),
    lambda ws: ws.expire("t", keep=1),
    lambda ws: ws.fsck(repair=True, grace=0, deep=True),
    lambda ws: ws.drop("t", force=True),
)
"""In this order, so that all of them meet what was put in place."""


def use(lab: Path) -> None:
    """Open, use, rebuild, and use again; only errors that are typed."""
    for read_only in (True, False):
        with contextlib.suppress(jl.JammiError), jl.open(lab, read_only=read_only) as ws:
            for verb in VERBS:
                with contextlib.suppress(jl.JammiError):
                    verb(ws)
    with contextlib.suppress(jl.JammiError):
        jl.rebuild(lab)
    with contextlib.suppress(jl.JammiError), jl.open(lab) as ws:
        ws.fsck(repair=True, grace=0)


@contextlib.contextmanager
def limit():
    """Fail what blocks."""

    def stop(*_):
        raise TimeoutError("it blocks")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(folder.rglob("*"))
    }


def put(kind: str, place: Path, foreign: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    match kind:
        case "link to a file":
            place.symlink_to(foreign / "thesis.docx")
        case "link to a folder":
            place.symlink_to(foreign)
        case "link to a missing file":
            place.symlink_to(foreign / "new")
        case "hard link":
            os.link(foreign / "thesis.docx", place)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
            (place / "mine").write_bytes(SECRET)
        case "empty file":
            place.touch()


KINDS = (
    "link to a file",
    "link to a folder",
    "link to a missing file",
    "hard link",
    "pipe",
    "folder",
    "empty file",
)


def foreign_folder(tmp_path: Path) -> Path:
    """A folder of somebody else with names that the product gives its own files."""
    foreign = tmp_path / "foreign"
    for name in ("thesis.docx", "poetry.lock", "sub/old.parquet", "sub/.x.parquet.01234567.tmp"):
        (foreign / name).parent.mkdir(parents=True, exist_ok=True)
        (foreign / name).write_bytes(SECRET)
    for path in foreign.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return foreign


GROUPS = [*((name,) for name in (*FILES[:5], *FOLDERS)), FILES[5:]]
"""The files beside the catalog can be replaced at once: opening the workspace reads none of them,
or refuses none."""
CASES = [(group, kind) for group in GROUPS for kind in KINDS]


@pytest.fixture
def lab(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "lab"))


@pytest.fixture
def foreign(tmp_path):
    return foreign_folder(tmp_path)


@pytest.mark.every_case
@pytest.mark.parametrize(("group", "kind"), CASES)
def test_what_is_in_the_place_of_an_own_file_or_folder_leads_nowhere(
    made, tmp_path, lab, foreign, group, kind
):
    before = state(foreign)
    for name in group:
        put(kind, lab / name.format(**made[1]), foreign)
    with limit():
        use(lab)
    assert state(foreign) == before
    copied = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    if kind != "hard link":  # whoever made one could read the file
        assert not [path for path in copied if SECRET in path.read_bytes()]
    shutil.rmtree(lab)  # what looks into it after a test does not expect such files


@pytest.mark.parametrize("folder", FOLDERS[:5])
def test_links_in_an_own_folder_are_removed_and_not_followed(made, tmp_path, lab, foreign, folder):
    (lab / folder).mkdir(exist_ok=True)
    before = state(foreign)
    (lab / folder / "sub").symlink_to(foreign / "sub")
    (lab / folder / "x.lock").symlink_to(foreign / "poetry.lock")
    (lab / folder / ".t.parquet.01234567.tmp").symlink_to(foreign / "thesis.docx")
    with limit():
        use(lab)
    assert state(foreign) == before


def test_a_link_in_place_of_a_folder_is_named_with_what_to_do(made, tmp_path, lab, foreign):
    shutil.rmtree(lab / "writers")
    (lab / "writers").symlink_to(foreign)
    with pytest.raises(jl.JammiError, match="writers' must be a folder and no link") as caught:
        jl.open(lab)
    assert "Move it elsewhere" in caught.value.hint
    with pytest.raises(jl.JammiError, match="writers' must be a folder and no link"):
        jl.rebuild(lab)


def test_fsck_names_a_link_in_place_of_the_quarantine(made, tmp_path, lab, foreign):
    (lab / "quarantine").symlink_to(foreign)
    with jl.open(lab) as ws:
        [error] = ws.fsck(repair=True).errors
    assert error.startswith("quarantine/: ") and "not a folder" in error
    assert state(foreign) == state(foreign_folder(tmp_path / "other"))


def test_a_workspace_is_reached_through_links(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "disk" / "lab")
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    (tmp_path / "lab").symlink_to(tmp_path / "home" / "lab")
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 44 AS n")
        assert not ws.fsck(repair=True, grace=0)
        ws.drop("t", force=True)
        copy_workspace(ws, tmp_path / "home" / "copy")
    with jl.open(tmp_path / "disk" / "copy", create=False) as ws:
        assert ws.search("v", "fox", k=1).arrow()["key"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("own", "other"), [("t*.parquet", "t1.parquet"), ("[t].parquet", "t.parquet")]
)
def test_a_stored_path_with_wildcards_is_that_of_one_file(made, tmp_path, lab, own, other):
    """DuckDB would read what the pattern finds: here a link."""
    path = lab / f"{made[1]['t']}.parquet"
    pq.write_table(pa.table({"n": [7]}), tmp_path / "foreign")
    path.rename(path.with_name(own))
    path.with_name(other).symlink_to(tmp_path / "foreign")
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db, db:
        change = "UPDATE result_tables SET path = replace(path, ?, ?)"
        db.execute(change, [path.name, own])
    with jl.open(lab) as ws:
        table = ws.table("t")
        for rows in (ws.sql("FROM jammi.t"), table.read(), table.scan("duckdb")):
            assert rows.fetchall() == [(43,)]


def test_an_own_file_is_opened_without_following_a_link(tmp_path):
    (tmp_path / "foreign").write_text("x")
    (tmp_path / "own").symlink_to("foreign")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "own", os.O_RDWR)

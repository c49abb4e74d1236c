"""A workspace that somebody else created uses nothing beyond its folder that a file of the folder
names, until the user trusts the folder."""

import builtins
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jammi_lab as jl
from jammi_lab.sources.locations import project_of
from jammi_lab.storage import trusted_folders
from tests.cases import cases
from tests.processes import COMMAND, ROOT


def untrusted() -> Any:
    return pytest.raises(jl.SourceUnavailable, match="is not trusted")


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    """A list of this test's own; the folder in which it lies."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trusted_folders, "listed_here", set())
    return tmp_path / "config" / "jammi"


def by_somebody_else(own_list):
    """From now on all workspaces that exist are those of somebody else."""
    trusted_folders.listed_here.clear()
    (own_list / "trusted").unlink(missing_ok=True)


class Listener:
    """A server on loopback: its port, and what it received."""

    def __init__(self):
        self.server, self.received = socket.socket(), []
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(8)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.received.append(b"connected")
            connection.settimeout(5)
            try:
                self.received.append(connection.recv(400))
                connection.sendall(b"R\0\0\0\x08\0\0\0\x03")
                self.received.append(connection.recv(200))
            except OSError:
                pass
            connection.close()


@pytest.fixture
def listener(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "CANARY")
    listener = Listener()
    yield listener
    listener.server.shutdown(socket.SHUT_RDWR)
    listener.server.close()


def addresses(port):
    return {
        "web": f"http://127.0.0.1:{port}/x.csv",
        "crm": f"postgresql://ada@127.0.0.1:{port}/x?sslmode=disable",
        "shop": f"mysql://ada@127.0.0.1:{port}/x",
        "lake": "s3://bucket/x.parquet",
    }


def ways_to(port):
    """What is given with some of these addresses."""
    return {
        "web": {"kind": "csv"},
        "lake": {"options": {"endpoint_url": f"http://127.0.0.1:{port}"}},
    }


def make_foreign(tmp_path, own_list, port=9):
    """A project of somebody else: its workspace has sources at all kinds of places beyond it, with
    a table from each that looks computed."""
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "far.csv").write_text("id,x\n1,2\n")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.csv").write_text("id,x\n1,2\n")
    (project / "near.csv").write_text("id,x\n1,2\n")
    (project / "link.csv").symlink_to(tmp_path / "far.csv")
    (project / "links").mkdir()
    (project / "links" / "a.csv").symlink_to(tmp_path / "far.csv")
    with jl.open(project / "lab") as ws:
        for name, location in {
            "near": project / "near.csv",
            "far": tmp_path / "far.csv",
            "dots": project / ".." / "far.csv",
            "folder": tmp_path / "far",
            "globbed": f"{tmp_path}/far/*.csv",
            "link": project / "link.csv",
            "links": f"{project}/links/*.csv",
        }.items():
            ws.sources.add(name, location)
            ws.materialize(f"of_{name}", f"SELECT id, x FROM {name}")
        ws.materialize("of_path", f"SELECT id, x FROM '{tmp_path}/far.csv'")
        how = ways_to(port)
        for name, address in addresses(port).items():
            ws.sources.add(name, address, **how.get(name, {}), check=False)
    by_somebody_else(own_list)
    return project / "lab"


def verdicts(ws):
    return {row.name.removeprefix("of_"): row.verdict for row in ws.status()}


def test_sources_beyond_the_project_are_undecidable_and_the_sentence_has_the_line(
    tmp_path, own_list
):
    lab = make_foreign(tmp_path, own_list)
    line = f"jl.trust('{lab}') trusts it"
    with pytest.warns(UserWarning, match=re.escape(line)) as warned:
        ws = jl.open(lab)
    with ws:
        found = verdicts(ws)
        assert isinstance(found.pop("near"), jl.Fresh)
        assert set(found) == {"far", "dots", "folder", "globbed", "link", "links", "path"}
        assert all(
            isinstance(each, jl.Undecidable) and line in str(each) for each in found.values()
        )
        for name in ("far", "dots", "folder", "globbed", "link", "links", f"'{tmp_path}/far.csv'"):
            with untrusted():
                ws.sql(f"FROM {name}").fetchall()
        assert ws.sql("SELECT id, x FROM near").fetchall() == [(1, 2)]
        assert {"near", "globbed"} <= set(re.findall(r"\w+", str(jl.widgets.CatalogBrowser(ws))))
    assert len(warned) == 1 and "far, folder, globbed" in str(warned[0].message)


def test_trust_is_one_line_in_python_and_in_the_shell(tmp_path, own_list, run_python, recwarn):
    lab = make_foreign(tmp_path, own_list)
    done = run_python(COMMAND, "trust", str(lab))
    assert done.stdout == f"Trusted {lab}.\n" and done.stderr == ""
    with jl.open(lab) as ws:
        assert {type(each) for each in verdicts(ws).values()} == {jl.Fresh}
    by_somebody_else(own_list)
    with jl.open(lab) as ws:
        assert jl.Undecidable in {type(each) for each in verdicts(ws).values()}
        assert jl.trust(lab) is None
        assert {type(each) for each in verdicts(ws).values()} == {jl.Fresh}


def test_nothing_is_connected_to_before_the_folder_is_trusted(
    tmp_path, own_list, listener, recwarn
):
    lab = make_foreign(tmp_path, own_list, listener.port)
    with jl.open(lab) as ws:
        for name in addresses(1):
            with untrusted():
                ws.sql(f"FROM {name}.t" if name in ("crm", "shop") else f"FROM {name}").fetchall()
            with untrusted():
                ws.sources[name].preview()
        ws.status(deep=True), ws.plan(), ws.sources.list(), repr(ws.sources["crm"])
        ws.recompute()
    assert listener.received == []
    jl.trust(lab)
    with (
        jl.open(lab) as ws,
        pytest.raises(jl.SourceUnavailable),
    ):
        ws.sql("FROM web").fetchall()
    assert listener.received  # the listener does listen


@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_that_the_folder_names_is_refused_with_the_line(
    tmp_path, own_list, listener, read_only
):
    lab = tmp_path / "lab"
    lab.mkdir()
    url = f"postgresql+psycopg://ada@127.0.0.1:{listener.port}/x?sslmode=disable&connect_timeout=3"
    (tmp_path / "settings.toml").write_text(f'[catalog]\nurl = "{url}"\n')
    (lab / "jammi.toml").symlink_to(tmp_path / "settings.toml")
    for use in (lambda: jl.open(lab, read_only=read_only), lambda: jl.rebuild(lab)):
        with pytest.raises(jl.SourceUnavailable, match=re.escape(f"jl.trust('{lab}') trusts it")):
            use()
    assert listener.received == [] and [each.name for each in lab.iterdir()] == ["jammi.toml"]
    with pytest.raises(jl.SourceUnavailable):  # naming it in the call is trust
        jl.open(lab, catalog=url)
    assert listener.received
    listener.received.clear()
    jl.trust(lab)
    with pytest.raises(jl.SourceUnavailable):
        jl.open(lab, read_only=read_only)
    assert listener.received


def test_a_workspace_is_trusted_where_this_user_created_it_and_nowhere_else(tmp_path, own_list):
    (tmp_path / "far.csv").write_text("id\n1\n")

    def is_read(lab):
        with jl.open(lab) as ws:
            return isinstance(ws.staleness("t"), jl.Fresh)

    lab = tmp_path / "own" / "lab"
    with jl.open(lab) as ws:
        ws.sources.add("far", tmp_path / "far.csv")
        ws.materialize("t", "FROM far")
    [line] = (own_list / "trusted").read_text().splitlines()
    assert line.endswith(f" {lab}")
    trusted_folders.listed_here.clear()  # as another process
    assert is_read(lab)
    (tmp_path / "alias").symlink_to(tmp_path / "own")
    assert is_read(tmp_path / "alias" / "lab")
    shutil.copytree(lab, tmp_path / "own" / "copy")
    with pytest.warns(UserWarning, match="not trusted"):
        assert not is_read(tmp_path / "own" / "copy")
    shutil.copytree(lab, tmp_path / "kept")
    shutil.rmtree(lab)
    shutil.copytree(tmp_path / "kept", lab)  # another folder of the same path
    with pytest.warns(UserWarning, match="not trusted"):
        assert not is_read(lab)


def test_the_place_of_a_removed_folder_is_not_trusted_though_its_inode_is_used_again(
    tmp_path, own_list, monkeypatch
):
    lab = tmp_path / "lab"
    jl.open(lab).close()
    trusted_folders.listed_here.clear()
    assert trusted_folders.is_trusted(lab)
    real = trusted_folders.creation_time(str(lab))
    monkeypatch.setattr(trusted_folders, "creation_time", lambda _: real + 4_000_000)
    assert not trusted_folders.is_trusted(lab)


def test_a_source_that_a_call_names_is_opened(tmp_path, own_list, recwarn):
    lab = make_foreign(tmp_path, own_list)
    with jl.open(lab) as ws:
        ws.sources.add("mine", tmp_path / "far.csv")
        assert ws.sql("FROM mine").fetchall() == [(1, 2)]
        ws.sources.add("far", tmp_path / "far.csv")  # as it is recorded
        assert ws.sql("FROM far").fetchall() == [(1, 2)]
        with untrusted():
            ws.sql("FROM folder").fetchall()


def test_recorded_functions_run_only_in_a_trusted_folder(tmp_path, own_list, monkeypatch, recwarn):
    (tmp_path / "helpers_of_trust.py").write_text(
        "from pathlib import Path\n\n\ndef write(path):\n"
        "    Path(path).write_text('ran')\n    return [{'a': 1}]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import helpers_of_trust

    (tmp_path / "first").mkdir()
    with jl.open(tmp_path / "first" / "lab") as ws:
        ws.compute("t", helpers_of_trust.write, params={"path": str(tmp_path / "ran")})
        Path(ws.table("t").path).unlink()
    (tmp_path / "ran").unlink()
    by_somebody_else(own_list)
    with jl.open(tmp_path / "first" / "lab") as ws:
        assert "is not trusted" in " ".join(map(str, ws.plan("t").blocked))
        ws.recompute()
        ws.recompute("t")
        assert not (tmp_path / "ran").exists()
        ws.compute("t", helpers_of_trust.write, params={"path": str(tmp_path / "ran")})
        assert (tmp_path / "ran").exists()  # a call gave it
    jl.trust(tmp_path / "first" / "lab")
    (tmp_path / "ran").unlink()
    with jl.open(tmp_path / "first" / "lab") as ws:
        Path(ws.table("t").path).unlink()
        ws.recompute("t")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("answer", ["y", "n", EOFError, "notebook"])
def test_an_interactive_session_is_asked_once(tmp_path, own_list, monkeypatch, recwarn, answer):
    lab, questions = make_foreign(tmp_path, own_list), []
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db, db:
        db.execute("UPDATE sources SET name = char(27, 10) || name WHERE name = 'dots'")

    def reply(question):
        questions.append(question)
        if not isinstance(answer, str):
            raise answer
        return "yes" if answer == "notebook" else answer

    monkeypatch.setattr(builtins, "input", reply)
    jl.open(lab).close()
    assert questions == []  # nobody is there to answer
    recwarn.clear()
    if answer == "notebook":
        monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    else:
        monkeypatch.setattr("jammi_lab.workspace.trust.is_terminal", lambda: True)
    for _ in range(2):
        with jl.open(lab) as ws:
            trusted = isinstance(verdicts(ws)["far"], jl.Fresh)
    assert trusted == (answer in ("y", "notebook"))
    assert len(questions) == (2 if answer is EOFError else 1) and "far, folder" in questions[0]
    assert bool(recwarn.list) == (not trusted)
    for text in (*questions, *(str(each.message) for each in recwarn)):
        assert text.isprintable() and r"\x1b\ndots" in text


@pytest.mark.parametrize("home", ["unset", "missing", "read-only", "pipes"])
def test_without_a_writable_home_a_workspace_works_in_the_process_that_created_it(tmp_path, home):
    code = """
import os, sys, warnings, jammi_lab as jl
from jammi_lab.storage.user_key import seal
seal(b"waits for no pipe")
open("far.csv", "w").write("id\\n1\\n")
os.makedirs("p")
with jl.open("p/lab") as ws:
    ws.sources.add("far", os.path.abspath("far.csv"))
    ws.materialize("t", "FROM far")
with jl.open("p/lab") as ws:
    print(type(ws.staleness("t")).__name__)
try:
    jl.trust("p/lab")
except jl.WorkspaceReadOnly as error:
    print(error.message)
print(sorted(os.listdir()))
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CONFIG_HOME")
    }
    if home == "missing":
        environment["HOME"] = "relative/nowhere"
    if home == "read-only":
        (tmp_path / "file").write_text("")
        environment["HOME"] = str(tmp_path / "file")
    if home == "pipes":
        environment["XDG_CONFIG_HOME"] = str(tmp_path)
        (tmp_path / "jammi").mkdir()
        for name in ("trusted", "key"):
            os.mkfifo(tmp_path / "jammi" / name)
    if home == "unset":
        code = "import pwd; pwd.getpwuid = lambda _: {}[0]\n" + code  # a user without an entry
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    verdict, refusal, files = done.stdout.splitlines()
    assert verdict == "Fresh" and "list of trusted folders cannot be kept" in refusal
    assert files == "['far.csv', 'p']"


def test_marks_and_check_commands_never_connect_even_in_a_trusted_folder(
    tmp_path, own_list, listener, run_python
):
    lab = tmp_path / "lab"
    with jl.open(lab) as ws:
        table = ws.materialize("t", "SELECT 1 AS n")
        metadata = table._repr_mimebundle_()[1]
        how = ways_to(listener.port)
        for name, address in addresses(listener.port).items():
            ws.sources.add(name, address, **how.get(name, {}), check=False)
    stamp = metadata["jammi"]
    outputs, shown = [], hashlib.sha256(b"0:0:").hexdigest()
    for name in addresses(1):
        source = {"name": name, "anchor": "0" * 16, "columns": ["id"], "table": "public.t"}
        outputs.append({**stamp, "tables": [], "sources": [source], "rows": shown[:16]})
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "source": "",
                "outputs": [{"data": {"text/plain": ""}, "metadata": {"jammi": held}}],
            }
            for held in outputs
        ]
    }
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook))
    done = run_python(COMMAND, "check-notebook", "--json", str(tmp_path / "n.ipynb"), check=False)
    entries = json.loads(done.stdout)
    assert [entry["outcome"] for entry in entries] == ["unknown"] * 4
    assert all("marks and check commands never connect" in entry["reason"] for entry in entries)
    assert listener.received == []


def test_the_project_is_the_repository_or_the_folder_above_and_never_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    deep = tmp_path / "home" / "code" / "repo" / "analysis" / "lab"
    deep.mkdir(parents=True)
    (tmp_path / "home" / ".git").mkdir()
    assert project_of(deep) == deep.parent
    (tmp_path / "home" / "code" / "repo" / ".git").mkdir()
    assert project_of(deep) == tmp_path / "home" / "code" / "repo"
    assert project_of(tmp_path / "home" / "lab") == tmp_path / "home" / "lab"
    assert project_of(Path("/lab")) == Path("/lab")


def test_the_list_stays_small(tmp_path, own_list, monkeypatch):
    monkeypatch.setattr(trusted_folders, "MAX_LIST_BYTES", 500)
    kept = tmp_path / "kept"
    kept.mkdir()
    jl.trust(kept)
    for number in range(20):
        folder = tmp_path / f"gone{number}"
        folder.mkdir()
        jl.trust(folder)
        folder.rmdir()
    lines = (own_list / "trusted").read_text().splitlines()
    assert len(lines) < 12 and any(line.endswith(f" {kept}") for line in lines)
    trusted_folders.listed_here.clear()
    assert trusted_folders.is_trusted(kept)


@pytest.mark.parametrize("path", ["missing", "a\nline", "s3://bucket/lab", "memory://lab", "", 7])
def test_only_an_existing_folder_can_be_trusted(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("a\nline").mkdir()
    with pytest.raises(jl.JammiError):
        jl.trust(path)
    assert not (tmp_path / "config").exists()


def test_a_recorded_source_with_other_options_is_not_the_one_that_a_call_names(
    tmp_path, own_list, listener, recwarn, monkeypatch
):
    """The options hold the address of the store, to which the user's keys would go."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "CANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    lab, bucket = tmp_path / "lab", "s3://bucket/x.parquet"
    options = {"endpoint_url": f"http://127.0.0.1:{listener.port}", "region": "eu-west-1"}
    with jl.open(lab) as ws:
        ws.sources.add("x", bucket, options=options, check=False)
    by_somebody_else(own_list)
    with jl.open(lab) as ws:
        with pytest.raises(jl.SourceExists):
            ws.sources.add("x", bucket, options={"region": "eu-west-1"}, check=False)
        with untrusted():
            ws.sql("FROM x").fetchall()
    assert listener.received == []


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_table_of_a_lake_lists_its_files_and_is_opened_only_in_a_trusted_folder(
    tmp_path, own_list, recwarn, kind
):
    (tmp_path / "table").mkdir()
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("x", tmp_path / "table", kind=kind, check=False)
    by_somebody_else(own_list)
    with jl.open(tmp_path / "lab") as ws, pytest.raises(jl.SourceUnavailable, match="not trusted"):
        ws.sql("FROM x").fetchall()


@pytest.mark.parametrize("kept", ["results", "models", "checkpoints", "catalog.sqlite3"])
def test_a_folder_that_has_something_of_a_workspace_is_not_new(tmp_path, own_list, recwarn, kept):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS n")
    by_somebody_else(own_list)
    for each in (tmp_path / "lab").iterdir():
        if each.name != kept and each.is_file():
            each.unlink()
        elif each.name != kept:
            shutil.rmtree(each)
    if not (tmp_path / "lab" / kept).exists():
        (tmp_path / "lab" / kept).mkdir()
    for file in (tmp_path / "lab" / "results").rglob("*.*"):
        file.unlink()
    jl.open(tmp_path / "lab").close()
    assert not trusted_folders.is_trusted(tmp_path / "lab")


def test_files_of_a_model_are_loaded_only_in_a_trusted_folder(tmp_path, own_list, recwarn):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    with jl.open(tmp_path / "lab") as ws:
        ws.models.register("m", str(tmp_path / "model"))
    by_somebody_else(own_list)
    with jl.open(tmp_path / "lab") as ws, pytest.raises(jl.ModelNotFound, match="not trusted"):
        ws.materialize("t", "SELECT 1 AS id, 'a' AS text")
        ws.embed("v", "t", key="id", text="text", model="m")


LOCATIONS = cases("sources/far_locations", "kind", "location")


def test_no_spelling_of_a_recorded_location_leads_beyond_the_project(
    tmp_path, own_list, listener, recwarn
):
    lab = make_foreign(tmp_path, own_list)
    record = "UPDATE sources SET kind = ?, location = ? WHERE name = 'far'"
    for kind, spelling in LOCATIONS:
        location = spelling.replace("/FAR", f"{tmp_path}/far.csv")
        location = location.replace("PORT", str(listener.port))
        with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db, db:
            db.execute(record, (kind, location))
        with jl.open(lab) as ws:
            for use in (
                lambda ws=ws: ws.sql("FROM far").fetchall(),
                ws.sources["far"].preview,
                ws.sources["far"].tables,
                ws.sources["far"].columns,
            ):
                with untrusted():
                    use()
            assert isinstance(ws.staleness("of_far"), jl.Undecidable), spelling
    assert listener.received == []


@pytest.mark.every_case
@pytest.mark.parametrize("file", ["/FAR", "../../far.csv", ".sub/far.csv", 7])
def test_no_recorded_list_of_files_leads_beyond_the_project(tmp_path, own_list, file):
    lab = make_foreign(tmp_path, own_list)
    folder = lab.parent / "clean"
    folder.mkdir()
    (folder / "near.csv").write_text("id,x\n1,2\n")
    (folder / ".sub").symlink_to(tmp_path)
    listed = file.replace("/FAR", f"{tmp_path}/far.csv") if isinstance(file, str) else file
    options = json.dumps({"files": [listed] if isinstance(file, str) else file})
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db, db:
        db.execute(
            "UPDATE sources SET location = ?, options = ? WHERE name = 'far'",
            (str(folder), options),
        )
    with pytest.warns(UserWarning, match="not trusted"):
        ws = jl.open(lab)
    with ws:
        with untrusted():
            ws.sql("FROM far").fetchall()
        assert isinstance(ws.staleness("of_far"), jl.Undecidable)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_what_a_catalog_says_of_how_a_source_is_read_is_not_run(
    tmp_path, own_list, monkeypatch, kind
):
    """It belongs to the stats of the files, which who may write to them knows."""
    monkeypatch.setattr("jammi_lab.sources.files.decisions.CLOCK_SECONDS", -60)
    (tmp_path / "p").mkdir()
    near, far = tmp_path / "p" / f"a.{kind}", tmp_path / "far"
    near.write_text({"csv": "id,x\n1,near\n", "ndjson": '{"id": 1, "x": "near"}\n'}[kind])
    far.write_text("CANARY")
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.sources.add("a", near)
        ws.materialize("t", "FROM a")
    by_somebody_else(own_list)
    with contextlib.closing(sqlite3.connect(tmp_path / "p" / "lab" / "catalog.sqlite3")) as db, db:
        find = "SELECT key, body FROM observations WHERE key LIKE 'decision:%'"
        [(key, body)] = db.execute(find).fetchall()
        entry = json.loads(body[8:])
        entry["payload"]["reading"]["casts"] = {"x": f"(SELECT content FROM read_text('{far}'))"}
        text = json.dumps(entry)
        checksum = f"{zlib.crc32(text.encode(), zlib.crc32(key.encode())):08x}"
        db.execute("UPDATE observations SET body = ?", [checksum + text])
    with jl.open(tmp_path / "p" / "lab") as ws:
        assert ws.sql("FROM a").fetchall() == [(1, "near")]


def test_a_workbook_inside_of_the_project_is_read_without_trust(tmp_path):
    (tmp_path / "p").mkdir()
    pd.DataFrame({"a": [1]}).to_excel(tmp_path / "p" / "w.xlsx", index=False)
    with jl.open(tmp_path / "p" / "lab") as ws:
        ws.sources.add("w", tmp_path / "p" / "w.xlsx")
    (tmp_path / "p").rename(tmp_path / "q")
    with jl.open(tmp_path / "q" / "lab") as ws:
        assert ws.sql("SELECT a FROM w").fetchall() == [(1,)]

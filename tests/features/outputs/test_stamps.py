"""Stamps in outputs and files, and what `check-notebook` and `check-file` say of them without a kernel."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from IPython.core.formatters import DisplayFormatter

import jammi_lab as jl
from jammi_lab.features.outputs.file_stamps import sidecar_of
from jammi_lab.features.outputs.stamps import code_digest
from jammi_lab.steps.cell_step import build_step
from jammi_lab.workspace.stamp_checks import shown_in_file, shown_in_notebook
from tests.cases import cases
from tests.inside import services_of
from tests.processes import environment
from tests.shell import run_shell
from tests.sizes import sized

FORMATTER = DisplayFormatter()


def shown(value: Any) -> dict[str, Any]:
    """The output that a notebook stores for a value, its text in lines as nbformat has it."""
    data, metadata = FORMATTER.format(value)
    data = {kind: text.splitlines(keepends=True) for kind, text in data.items()}
    return {"output_type": "execute_result", "data": data, "metadata": metadata}


def notebook(path: Path, *outputs: dict[str, Any], source: str = "ws") -> Path:
    cells = [{"cell_type": "code", "source": [source], "outputs": [each]} for each in outputs]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}))
    return path


def run(*words: object) -> tuple[int, Any]:
    result = run_shell(*words, "--json")
    return result.exit_code, json.loads(result.stdout)


def outcomes(*words: object) -> list[str]:
    return [entry["outcome"] for entry in run(*words)[1]]


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.csv")
        ws.materialize("big", "SELECT * FROM a WHERE x > 2")
        yield ws


def test_an_output_carries_a_small_stamp_with_what_it_rests_on(lab):
    for value in (lab.sql("SELECT * FROM jammi.big"), lab.table("big")):
        stamp = shown(value)["metadata"]["jammi"]
        [table] = stamp["tables"]
        assert (table["name"], table["version"]) == ("big", 1)
        assert lab.table("big").manifest.artifact.digest.startswith(table["digest"])
        assert stamp["verdict"] == "fresh" and stamp["looked_at"].endswith("Z")
        assert len(json.dumps(stamp)) < 400
    lab.define("big", f"SELECT *, '{'x' * 3000}' AS y FROM a")
    assert len(json.dumps(shown(lab.sql("SELECT * FROM jammi.big"))["metadata"])) < 400


def test_a_copy_of_a_workspace_is_judged_by_the_copy_that_holds_the_file(tmp_path):
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "a.csv").write_text("id,x\n1,2\n")
    with jl.open(paper) as ws:
        ws.sources.add("a", paper / "a.csv")
        ws.materialize("t", "SELECT * FROM a").export(paper / "t.parquet")
    for clone in ("first", "second"):
        shutil.copytree(paper, tmp_path / "ci" / clone)
    (tmp_path / "ci" / "second" / "a.csv").write_text("id,x\n1,3\n")
    for name, outcome in (("first", "fresh"), ("second", "stale")):
        assert outcomes("check-file", tmp_path / "ci" / name / "t.parquet") == [outcome]
    shutil.move(tmp_path / "ci" / "second" / "t.parquet", tmp_path / "ci")
    _, [entry] = run("check-file", tmp_path / "ci" / "t.parquet")
    assert entry["outcome"] == "unknown" and "2 copies of the workspace" in entry["reason"]
    assert str(tmp_path / "ci" / "second") in entry["reason"]
    named = ("--workspace", tmp_path / "ci" / "second")
    assert outcomes("check-file", tmp_path / "ci" / "t.parquet", *named) == ["stale"]


@pytest.mark.parametrize("read", ["a", "'{folder}/data/a.csv'"])
def test_a_copied_project_is_judged_by_its_own_files(tmp_path, read):
    project, clone = tmp_path / "project", tmp_path / "ci" / "clone"
    (project / "data").mkdir(parents=True)
    (project / "data" / "a.csv").write_text("id,x\n1,2\n")
    with jl.open(project / "lab") as ws:
        ws.sources.add("a", project / "data" / "a.csv")
        ws.materialize("t", f"SELECT * FROM {read.format(folder=project)}")
        table = ws.materialize("u", "SELECT x FROM jammi.t")
        notebook(project / "n.ipynb", shown(table), shown(ws.sql("SELECT * FROM jammi.t")))
    shutil.copytree(project, clone)
    jl.trust(clone / "lab")
    assert outcomes("check-notebook", clone / "n.ipynb") == ["fresh", "fresh"]
    (clone / "data" / "a.csv").write_text("id,x\n1,3\n")
    assert outcomes("check-notebook", clone / "n.ipynb") == ["stale", "stale"]
    assert outcomes("check-notebook", project / "n.ipynb") == ["fresh", "fresh"]
    (clone / "data" / "a.csv").unlink()
    assert outcomes("check-notebook", clone / "n.ipynb") == ["stale", "stale"]


def test_what_is_shown_is_fresh_outdated_stale_or_edited(lab, tmp_path):
    output = shown(lab.sql("SELECT count(*) AS n FROM jammi.big"))
    file = notebook(tmp_path / "n.ipynb", output)
    assert run("check-notebook", file, "--fail=unknown") == (
        0,
        [
            {
                "file": str(file),
                "cell": 1,
                "table": "big",
                "version": 1,
                "outcome": "fresh",
                "reason": "",
            }
        ],
    )
    edited = json.loads(json.dumps(output).replace("1 row", "9 rows"))
    assert outcomes("check-notebook", notebook(tmp_path / "e.ipynb", edited)) == ["edited"]
    output["data"]["image/svg+xml"] = "<svg/>"
    assert outcomes("check-notebook", notebook(tmp_path / "e.ipynb", output)) == ["edited"]

    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    code, [entry] = run("check-notebook", file, "--fail")
    assert (code, entry["outcome"]) == (1, "stale") and "a changed" in entry["reason"]
    lab.recompute("big")
    code, [entry] = run("check-notebook", file, "--fail")
    assert (code, entry["outcome"]) == (1, "outdated") and "version 2 is ready" in entry["reason"]
    text = run_shell("check-notebook", str(file)).stdout
    assert text == f"{file} cell 1: big version 1: outdated: version 2 is ready\n"
    lab.drop("big")
    assert outcomes("check-notebook", file) == ["stale"]


def test_an_output_of_an_exact_version_is_not_outdated_by_a_newer_one(lab, tmp_path):
    old = lab.table("big")
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    lab.recompute("big")
    file = notebook(
        tmp_path / "n.ipynb", shown(old), shown(lab.sql("FROM jammi_version('big', 1)"))
    )
    assert outcomes("check-notebook", file) == ["stale", "stale"]
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    assert outcomes("check-notebook", file) == ["fresh", "fresh"]


def test_without_the_workspace_it_says_what_is_missing(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))  # it is not this user's
    output = shown(lab.table("big"))
    (tmp_path / "far" / "a" / "b" / "c" / "d").mkdir(parents=True)
    file = notebook(tmp_path / "far" / "a" / "b" / "c" / "d" / "n.ipynb", output)
    code, [entry] = run("check-notebook", file, "--fail")
    assert (code, entry["outcome"]) == (1, "unknown")
    assert (
        "--workspace" in entry["reason"]
        and "fresh clone" in entry["reason"]
        and output["metadata"]["jammi"]["workspace"] in entry["reason"]
    )
    assert run("check-notebook", file, "--fail=stale")[0] == 0
    assert outcomes("check-notebook", file, "--workspace", lab.path) == ["fresh"]
    refused = run_shell("check-notebook", str(file), "--workspace", str(tmp_path / "no"))
    assert refused.exit_code == 3 and "no" in refused.stderr


@pytest.mark.own_catalog
def test_another_workspace_of_these_rows_attests_them_and_of_other_rows_cannot_know(lab, tmp_path):
    file = notebook(tmp_path / "n.ipynb", shown(lab.table("big")))
    for rows, outcome in (("x > 2", "fresh"), ("x < 9", "unknown")):
        with jl.open(tmp_path / outcome) as other:
            other.sources.add("a", tmp_path / "a.csv")
            other.materialize("big", f"SELECT * FROM a WHERE {rows}")
        assert outcomes("check-notebook", file, "--workspace", tmp_path / outcome) == [outcome]


def test_the_list_of_versions_has_the_stamp_of_the_newest_that_is_ready(lab, tmp_path):
    file = notebook(
        tmp_path / "n.ipynb", shown(lab.table("big").history()), source="%jammi history big"
    )
    assert outcomes("check-notebook", file) == ["fresh"]
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    lab.recompute("big")
    assert outcomes("check-notebook", file) == ["outdated"]


def test_outputs_without_a_stamp_or_a_recorded_state_are_unknown(lab, tmp_path):
    bare = shown(lab.sql("SELECT * FROM jammi.big"))
    bare["metadata"] = {}
    file = notebook(tmp_path / "n.ipynb", bare, source="%%jammi\nSELECT 1")
    entry = run("check-notebook", file)[1][0]
    assert [entry[name] for name in ("cell", "table", "version")] == [1, None, None]
    assert (entry["outcome"], entry["reason"]) == ("unknown", "it has no stamp")
    file = notebook(
        tmp_path / "n.ipynb",
        shown(lab.sql("SELECT random() FROM jammi.big")),
        shown(lab.sql("FROM a")),
    )
    assert outcomes("check-notebook", file) == ["fresh", "unknown", "unknown"]
    print_only = {"output_type": "stream", "text": ["<table"]}
    assert run("check-notebook", notebook(tmp_path / "n.ipynb", print_only), "--fail=unknown") == (
        0,
        [],
    )
    bare["data"][
        "application/vnd.jupyter.widget-view+json"
    ] = {}  # a live panel, before its saved form
    assert run(
        "check-notebook",
        notebook(tmp_path / "n.ipynb", bare, source="%%jammi\nSELECT 1"),
        "--fail=unknown",
    ) == (0, [])
    (tmp_path / "x.ipynb").write_text("[]")
    refused = run_shell("check-notebook", str(tmp_path / "x.ipynb"))
    assert refused.exit_code == 3 and "notebook of format 4" in refused.stderr


def test_what_lists_the_catalog_alone_is_not_judged_unless_it_was_edited(lab, tmp_path):
    names = "SELECT name FROM jammi_catalog.recipes"
    listed = [shown(lab.sql(text)) for text in (names, "SHOW TABLES")]
    file = notebook(tmp_path / "n.ipynb", *listed)
    assert run("check-notebook", file, "--fail") == (0, [])
    listed[0]["data"]["text/plain"] = ["name"]
    assert outcomes("check-notebook", notebook(tmp_path / "n.ipynb", *listed)) == ["edited"]
    both = shown(lab.sql("SELECT name, x FROM jammi_catalog.recipes, jammi.big"))
    file = notebook(tmp_path / "n.ipynb", both, shown(lab.sql(f"{names} WHERE random() < 2")))
    assert outcomes("check-notebook", file) == ["fresh", "unknown", "unknown", "unknown"]


def test_the_step_of_a_cell_that_needs_only_its_inputs_is_judged_without_its_kernel(lab, tmp_path):
    shows = []
    for name, text in {"kept": "rows.polars()", "scaled": "rows.polars() * factor"}.items():
        step = build_step(name, ["rows"], text, {"factor": 2})
        shows.append(shown(lab.materialize(name, jl.PythonStep(step, inputs=["jammi.big"]))))
    file = notebook(tmp_path / "n.ipynb", *shows)
    assert outcomes("check-notebook", file) == ["fresh", "unknown"]
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,30\n")
    assert outcomes("check-notebook", file) == ["stale", "stale"]


def test_what_is_fresh_on_grounds_fails_a_check_only_where_that_is_asked(lab, tmp_path):
    lab.sources.add("b", tmp_path / "a.csv", anchor="column:x")
    lab.materialize("late", "SELECT id, x FROM b").export(tmp_path / "late.parquet")
    file = notebook(tmp_path / "n.ipynb", shown(lab.table("late")))
    for command, path in (("check-notebook", file), ("check-file", tmp_path / "late.parquet")):
        code, [entry] = run(command, path, "--fail=unknown")
        assert (code, entry["outcome"]) == (0, "fresh") and "column" in entry["reason"]
        assert run(command, path, "--fail")[0] == 0
        assert run(command, path, "--fail=grounds")[0] == 1
    one = shown(lab.sql("SELECT 1"))
    kept = notebook(tmp_path / "n.ipynb", shown(lab.table("big")), one)
    assert run("check-notebook", kept, "--fail=grounds")[0] == 0
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    assert run("check-notebook", kept, "--fail=grounds")[0] == 1


def test_a_table_stored_from_a_frame_is_unknown_without_its_kernel_and_the_last_line_counts_it(
    lab, tmp_path
):
    lab.sources.add("frame", pd.DataFrame({"id": [1]}))
    kept = shown(lab.materialize("kept", "SELECT * FROM frame"))
    file, junit = notebook(tmp_path / "n.ipynb", kept, shown(lab.table("big"))), tmp_path / "j.xml"
    [entry, _] = run("check-notebook", file)[1]
    assert entry["outcome"] == "unknown" and "frame" in entry["reason"]
    told = {"--fail": "failure", "--fail=unknown": "failure", "--fail=grounds": "failure"}
    for word, tag in {**told, "--fail=stale": "skipped"}.items():
        line = run_shell("check-notebook", str(file), word, "--junit", str(junit))
        assert line.exit_code == (tag == "failure")
        assert line.stdout.splitlines()[-1] == "1 of 2 could not be judged."
        assert junit.read_text().count(f"<{tag} ") == 1
    run_shell("check-notebook", str(file), "--junit", str(junit))
    assert junit.read_text().count("<skipped ") == 1, "nothing was asked to fail"
    last = run_shell("check-notebook", str(file), "--json").stderr
    assert last == "1 of 2 could not be judged.\n"


# -- outputs of cells that were changed -----------------------------------------------------------


def cell(source: str, count: int | None = None, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": source,
        "execution_count": count,
        "outputs": list(outputs),
    }


def cells(path: Path, *cells: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_cell_that_was_edited_and_not_run_is_told(lab, tmp_path):
    source = "%%jammi\nSELECT x FROM jammi.big"
    stamps = services_of(lab).badges.stamps
    stamps.current_code = lambda: code_digest(source)
    output, table = shown(lab.sql("SELECT x FROM jammi.big")), shown(lab.table("big"))
    for text, outcome in ((source, "fresh"), (source + " \n", "fresh"), (source + "g", "edited")):
        file = cells(tmp_path / "n.ipynb", cell(text, 1, output, table))
        _, entries = run("check-notebook", file)
        assert [entry["outcome"] for entry in entries] == [outcome, outcome]
    assert entries[0]["reason"] == "the cell was edited and not run since"


@pytest.mark.parametrize(
    ("above", "count", "outcome"),
    [
        *cases("cells/parameters_assigned_again", "above", "count", "outcome"),
        # no Python runs these
        (f"limit = {'-' * 200_000}1", 9, "fresh"),
        (f"limit = {' + '.join('1' * 100_000)}", 9, "fresh"),
        (f"limit = {'a = ' * 60_000}[{'1,' * 60_000}]", 9, "stale"),
    ],
)
@pytest.mark.parametrize("magic", ["%%jammi", "%%sql"])
def test_a_parameter_that_was_assigned_again_is_told(lab, tmp_path, above, count, outcome, magic):
    statement, values = "SELECT x FROM jammi.big WHERE x > $limit", {"limit": 1}
    rows = shown(lab.sql(statement, params=values))
    table = shown(lab.materialize("some", statement, params=values))
    file = cells(
        tmp_path / "n.ipynb",
        cell("limit = 1", 1),
        cell(above, count),
        cell(f"{magic}\n{statement}", 5, rows),
        cell(f"{magic} -m some\n{statement}", 5, table),
        cell("limit = 3", 6),
    )
    _, entries = run("check-notebook", file)
    assert [entry["outcome"] for entry in entries] == [outcome, outcome]
    reason = "" if outcome == "fresh" else "$limit was assigned again in cell 2"
    assert [entry["reason"] for entry in entries] == [reason, reason]


def test_another_time_zone_makes_what_is_shown_stale(lab, tmp_path):
    file = notebook(tmp_path / "n.ipynb", shown(lab.sql("SELECT x FROM jammi.big")))
    assert outcomes("check-notebook", file) == ["fresh"]
    (Path(lab.path) / "jammi.toml").write_text('[engine]\ntimezone = "Europe/Oslo"\n')
    _, [entry] = run("check-notebook", file)
    assert (entry["outcome"], entry["reason"]) == (
        "stale",
        "engine.timezone changed, UTC → Europe/Oslo",
    )


@pytest.mark.parametrize(
    ("source", "listed"),
    [
        ("%jammi preview big", True),
        ("x = 1\n%jammi search v 'a'", True),
        ("%jammi sources", False),
        ("%jammi preview big\nframe.head()", False),
    ],
)
def test_an_output_without_metadata_below_a_line_is_unknown(lab, tmp_path, source, listed):
    bare = shown(lab.table("big").read())
    bare["metadata"] = {}
    for _ in range(2):
        file = notebook(tmp_path / "n.ipynb", bare, source=source)
        assert outcomes("check-notebook", file) == ["unknown"] * listed
        bare["data"].pop("text/html", None)


def test_a_version_that_was_asked_for_is_named_by_its_recipe(lab, tmp_path):
    lab.sql("SELECT * FROM jammi_version('big', 1)").export(tmp_path / "first.csv")
    _, [entry] = run("check-file", tmp_path / "first.csv")
    assert (entry["table"], entry["version"], entry["outcome"]) == ("big", 1, "fresh")


def test_a_renamed_table_is_judged_by_its_present_name(lab, tmp_path):
    with lab.tenant("acme"):
        lab.materialize("own", "SELECT 1 AS a")
        own = shown(lab.table("own"))
        lab.rename("own", "owned")
    newest, exact = shown(lab.table("big")), shown(lab.sql("FROM jammi_version('big', 1)"))
    file = notebook(tmp_path / "n.ipynb", newest, exact, own)
    lab.table("big").export(tmp_path / "big.csv")
    lab.rename("big", "dear")
    lab.rename("dear", "Large")

    def checked():
        entries = run("check-notebook", file)[1] + run("check-file", tmp_path / "big.csv")[1]
        return [(each["table"], each["outcome"]) for each in entries]

    owned = ("owned", "fresh")
    assert checked() == [("Large", "fresh"), ("Large", "fresh"), owned, ("Large", "fresh")]
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    assert checked() == [("Large", "stale"), ("Large", "stale"), owned, ("Large", "stale")]
    lab.recompute("Large")
    assert checked() == [("Large", "outdated"), ("Large", "stale"), owned, ("Large", "outdated")]
    lab.drop("Large")
    assert checked()[0] == ("big", "stale")


def test_another_table_that_took_the_name_is_not_the_one_that_was_renamed(lab, tmp_path):
    file = notebook(tmp_path / "n.ipynb", shown(lab.table("big")))
    lab.rename("big", "large")
    lab.materialize("big", "SELECT 7 AS id, 7 AS x")
    _, [entry] = run("check-notebook", file)
    assert (entry["table"], entry["outcome"]) == ("big", "outdated")


def test_a_parquet_file_with_the_stamp_of_other_rows_is_edited(lab, tmp_path):
    path = tmp_path / "big.parquet"
    lab.table("big").export(path)
    assert outcomes("check-file", path) == ["fresh"]
    metadata = pq.read_metadata(path).metadata
    assert b"jammi" in metadata
    pq.write_table(pq.read_table(path).slice(0, 0).replace_schema_metadata(metadata), path)
    assert outcomes("check-file", path) == ["edited"]


# -- hits -----------------------------------------------------------------------------------------


DOCS = {"id": [1, 2, 3], "text": ["oak tree", "oak", "pine"], "year": [2001, 2002, 2003]}


@pytest.fixture
def docs(tmp_path):
    """A table with vectors over a file, whose column `year` it does not read."""
    path = tmp_path / "docs.parquet"
    pd.DataFrame(DOCS).to_parquet(path)
    with jl.open(tmp_path / "lab") as ws:
        services_of(ws).badges.stamps.observes_files = True
        ws.sources.add("docs", path)
        ws.embed("v", "docs", key="id", text="text", model="hashing")
        yield ws


@pytest.mark.parametrize(
    ("options", "names", "before", "after"),
    [
        ({}, ["v"], ["fresh"], ["fresh"]),
        ({"select": ["year"]}, ["v", "docs"], ["fresh", "fresh"], ["fresh", "stale"]),
        ({"where": "year > 2001"}, ["v", None], ["fresh", "unknown"], ["fresh", "unknown"]),
    ],
)
def test_hits_are_stamped_with_all_that_they_show(docs, tmp_path, options, names, before, after):
    for _ in range(2):  # the first look at a file may take longer than a search waits
        hits = shown(docs.search("v", "oak", k=2, **options))
    file = notebook(tmp_path / "n.ipynb", hits)
    _, entries = run("check-notebook", file)
    assert [e["outcome"] for e in entries] == before
    assert [e["table"] for e in entries][: len(names) - (None in names)] == [n for n in names if n]
    pd.DataFrame({**DOCS, "year": [1999, 2002, 2003]}).to_parquet(tmp_path / "docs.parquet")
    assert outcomes("check-notebook", file) == after


def test_a_mutable_table_is_judged_by_its_version(lab, tmp_path):
    labels = lab.mutable.create("labels", {"id": "int64"}, primary_key=["id"])
    file = notebook(tmp_path / "n.ipynb", shown(lab.sql("SELECT * FROM mutable.labels")))
    assert outcomes("check-notebook", file) == ["fresh"]
    labels.insert([{"id": 1}])
    assert outcomes("check-notebook", file) == ["stale"]


def test_a_tenants_table_is_judged_in_its_scope(lab, tmp_path):
    with lab.tenant("acme"):
        lab.materialize("own", "SELECT 1 AS a")
        file = notebook(
            tmp_path / "n.ipynb", shown(lab.table("own")), shown(lab.sql("FROM jammi.own"))
        )
    assert outcomes("check-notebook", file) == ["fresh", "fresh"]


@pytest.mark.parametrize("part", [b'<metadata id="jammi">', b"<svg "])
def test_a_picture_of_stamps_without_an_end_is_read_in_time(tmp_path, part):
    (tmp_path / "a.svg").write_bytes(b"<svg>" + part * 50_000)
    begun = time.process_time()
    assert shown_in_file(tmp_path / "a.svg").stamp is None
    assert time.process_time() - begun < 5


def test_saved_files_carry_the_stamp(lab, tmp_path):
    table = lab.table("big")
    rows = lab.sql("SELECT id, x FROM jammi.big")
    files = [table.export(tmp_path / f"t.{kind}") for kind in ("parquet", "csv", "arrow")]
    files += [rows.export(tmp_path / f"r.{kind}") for kind in ("parquet", "csv")]
    for kind in ("png", "svg", "html"):
        files.append(tmp_path / f"c.{kind}")
        rows.chart().save(files[-1])
    assert outcomes("check-file", *files) == ["fresh"] * 8
    beside = sorted(path.name for path in tmp_path.glob("*.jammi.json"))
    assert beside == [
        "c.html.jammi.json",
        "r.csv.jammi.json",
        "t.arrow.jammi.json",
        "t.csv.jammi.json",
    ]
    assert pq.read_table(files[0]).equals(pq.read_table(table.path))
    assert b"jammi" in pq.read_metadata(files[0]).metadata
    assert "<svg" in files[6].read_text() and files[5].read_bytes().startswith(b"\x89PNG")

    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n3,9\n")
    assert outcomes("check-file", *files) == ["stale"] * 8
    for file in files:
        data = file.read_bytes()
        at = 5 if file.suffix == ".parquet" else len(data) - 5  # not in the stamp itself
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert set(outcomes("check-file", *files)) == {"edited"}
    (tmp_path / "plain.csv").write_text("a\n")
    data = files[0].read_bytes()
    for at in range(len(data) - 12, len(data) - 400, -7):  # a damaged footer is no crash
        files[0].write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        assert outcomes("check-file", files[0])[0] in ("edited", "stale", "unknown")
    [entry] = run("check-file", tmp_path / "plain.csv")[1]
    assert (entry["cell"], entry["outcome"], entry["reason"]) == (
        None,
        "unknown",
        "it has no stamp",
    )


def test_a_result_is_not_exported_into_a_workspace(lab, tmp_path):
    with pytest.raises(jl.InvalidArgument, match="workspace's own files"):
        lab.sql("SELECT 1 AS a").export(Path(lab.path) / "results" / "x.parquet")


@pytest.mark.soak
def test_nothing_is_called_fresh_that_a_recomputation_would_change(tmp_path):
    """Random histories of a notebook: edits of files, new definitions, recomputations, outputs."""
    statements = {
        "c0": "SELECT x % {n} AS x FROM a", "c1": "SELECT sum(x) AS x FROM jammi.c0 WHERE x > {n}",
        "c2": "SELECT x + {n} AS x FROM b", "c3": "SELECT x FROM jammi.c1 UNION ALL FROM jammi.c2",
    }  # fmt: skip
    seen = dict.fromkeys(("fresh", "outdated", "stale", "edited", "unknown"), 0)
    for seed in range(sized(4, 40)):
        rng, folder = random.Random(seed), tmp_path / str(seed)
        folder.mkdir()
        with jl.open(folder / "lab") as ws:
            services_of(ws).badges.stamps.observes_files = True  # as in a kernel

            def edit(name, rng=rng, folder=folder):
                (folder / f"{name}.csv").write_text(
                    "x\n" + "".join(f"{rng.randrange(4)}\n" for _ in range(3))
                )

            for name in "ab":
                edit(name)
                ws.sources.add(name, folder / f"{name}.csv")
            for name, text in statements.items():
                ws.materialize(name, text.format(n=1))
            outputs, texts = [], []
            for _ in range(12):
                match rng.randrange(6):
                    case 0:
                        edit(rng.choice("ab"))
                    case 1:
                        name = rng.choice(list(statements))
                        ws.define(name, statements[name].format(n=rng.randrange(1, 4)))
                    case 2:
                        ws.recompute(rng.choice(list(statements)))
                    case _:
                        texts.append(
                            rng.choice(
                                [
                                    "FROM jammi.c3",
                                    "FROM jammi.c1",
                                    "FROM jammi.c0 ORDER BY x",
                                    "FROM b",
                                    "SELECT count(*) FROM jammi.c2, a",
                                ]
                            )
                        )
                        outputs.append(shown(ws.sql(texts[-1])))
            file = notebook(folder / "n.ipynb", *outputs)
            _, entries = run("check-notebook", file, "--workspace", ws.path)
            ws.recompute()
            for number, (output, text) in enumerate(zip(outputs, texts, strict=True), 1):
                own = [entry["outcome"] for entry in entries if entry["cell"] == number]
                assert own
                for outcome in own:
                    seen[outcome] += 1
                if set(own) == {"fresh"}:
                    now = ws.sql(text).arrow().to_pylist()
                    assert (
                        shown(ws.sql(text))["data"]["text/plain"][-len(now) - 1 :]
                        == output["data"]["text/plain"][-len(now) - 1 :]
                    ), (seed, number, own)
    assert seen["fresh"] and seen["stale"]


def test_what_a_stranger_stamped_is_printed_as_text_and_hides_no_other_output(lab, tmp_path):
    good = shown(lab.sql("SELECT x FROM jammi.big"))
    hidden = {"name": "\x1b[2J\r\n::error::x", "version": 1, "digest": ""}
    half = {"name": "\ud800", "kind": "\ud800", "anchor": ""}
    parts = {"tables": [hidden]}, {"sources": [half]}, {"tables": "\ud800"}, {"tenant": "x'; DROP"}
    files = []
    for number, part in enumerate(parts):
        forged = json.loads(json.dumps(good))
        forged["metadata"]["jammi"].update(part)
        files.append(notebook(tmp_path / f"{number}.ipynb", forged, good))
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "jammi_lab.cli", "check-notebook", *map(str, files), *form],
            env=environment(),
            capture_output=True,
            check=True,
        )
        said = done.stdout.decode()
        assert said.count("fresh") >= 4 and all(c.isprintable() or c == "\n" for c in said), said
        assert "\\ud800" in said and "\n::error" not in said and "not a valid tenant" in said


@pytest.mark.parametrize(
    ("read", "is_outside"),
    [
        ("'{tmp}/far.csv'", True),
        ("'{tmp}/gone.csv'", True),
        ("'../../far.csv'", True),
        ("'../link.csv'", True),
        ("'{tmp}/READ.csv'", True),
        ("'{tmp}/*.csv'", True),
        ("read_csv('{tmp}/far.csv', header=True)", True),
        ("read_csv('../near.csv', files=['../../far.csv'])", True),
        ("'{tmp}/read.csv'", False),
        ("'../near.csv'", False),
        ("'{tmp}/project/near.csv'", False),
    ],
)
def test_a_stamp_alone_has_no_file_outside_the_project_looked_at(tmp_path, read, is_outside):
    project = tmp_path / "project"
    project.mkdir()
    for file in (tmp_path / "far.csv", tmp_path / "read.csv", project / "near.csv"):
        file.write_text("x\n1\n")
    (project / "link.csv").symlink_to(tmp_path / "far.csv")
    with jl.open(project / "lab") as ws:
        ws.materialize("of_file", f"SELECT x FROM '{tmp_path}/read.csv'")
        output = shown(ws.sql("SELECT 1 AS n"))
    source = {"name": read.format(tmp=tmp_path), "anchor": "0" * 16, "columns": ["x"]}
    output["metadata"]["jammi"]["sources"] = [source]
    _, [entry] = run("check-notebook", notebook(project / "n.ipynb", output))
    assert entry["outcome"] == ("unknown" if is_outside else "stale")
    assert is_outside == ("outside the project, and no table" in entry["reason"])
    (tmp_path / "far.csv").unlink()
    assert run("check-notebook", project / "n.ipynb")[1] == [entry]  # it tells nothing of the file


def test_a_link_in_the_place_of_a_stamp_is_not_followed(lab, tmp_path):
    lab.table("big").export(tmp_path / "big.csv")
    assert outcomes("check-file", tmp_path / "big.csv") == ["fresh"]
    sidecar_of(tmp_path / "big.csv").rename(tmp_path / "aside")
    sidecar_of(tmp_path / "big.csv").symlink_to(tmp_path / "aside")
    _, [entry] = run("check-file", tmp_path / "big.csv")
    assert (entry["outcome"], entry["reason"]) == ("unknown", "it has no stamp")


def test_files_that_are_nested_too_deeply_and_pipes_are_told_and_not_waited_for(tmp_path):
    notebook, table, pipe = (tmp_path / name for name in ("deep.ipynb", "x.csv", "pipe.ipynb"))
    notebook.write_text('{"cells":' + "[" * 100_000 + "]" * 100_000 + "}")
    table.write_text("a\n1\n")
    sidecar_of(table).write_text("[" * 100_000)
    os.mkfifo(pipe)
    with pytest.raises(jl.InvalidArgument, match="not a notebook of format 4"):
        list(shown_in_notebook(notebook))
    with pytest.raises(jl.InvalidArgument, match="cannot be read"):
        list(shown_in_notebook(pipe))
    with pytest.raises(jl.InvalidArgument, match="cannot be read"):
        shown_in_file(pipe)
    assert shown_in_file(table).stamp is None
    for long in (table, sidecar_of(table), notebook):  # of what is too long little is read
        with open(long, "wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(jl.InvalidArgument, match="more than 256 MiB"):
        list(shown_in_notebook(notebook))
    assert shown_in_file(table).stamp is None

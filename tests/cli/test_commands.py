"""`jammi-lab`: what it prints, its JSON, its exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pexpect
import pytest

import jammi_lab as jl
from jammi_lab.commands.table import SHELL, commands
from jammi_lab.steps.cell_step import build_step
from tests.shell import run_shell


@pytest.fixture
def papers(tmp_path):
    path = tmp_path / "papers.csv"
    path.write_text("id,year\n1,2020\n2,2021\n")
    return path


@pytest.fixture
def lab(tmp_path, papers):
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", papers)
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020")
        ws.materialize("counted", "SELECT count(*) AS n FROM jammi.recent")
    return str(tmp_path / "lab")


@pytest.fixture
def run():
    def line(*words, code=0, **given):
        answer = run_shell(*words, **given)
        assert answer.exit_code == code, answer.output
        return answer

    return line


def value(answer):
    return json.loads(answer.stdout)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">/dev/full", 3, "The output cannot be written: No space left on device.\n"),
        (">/dev/full 2>&1", 3, ""),
        (">&-", 1, ""),
        ("<&- >&- 2>&-", 1, ""),
        ("| true; exit ${PIPESTATUS[0]}", 3, ""),
    ],
)
def test_output_that_cannot_be_written_is_told_apart_from_stale_tables(
    lab, papers, streams, code, said
):
    papers.write_text("id,year\n1,2020\n3,2022\n")
    line = f"{sys.executable} -m jammi_lab status {lab} --fail {streams}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_characters_that_the_encoding_of_the_output_lacks_are_written_as_escapes(lab):
    def written(*words):
        command = [sys.executable, "-m", "jammi_lab", *words]
        ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
        return subprocess.check_output(command, env=ascii_only, text=True)

    assert "\\u2500\\u2500" in written("status", lab)
    assert json.loads(written("sql", lab, "SELECT '😀é' AS x", "--json")) == [{"x": "😀é"}]


def test_a_verdict_that_relies_on_grounds_fails_a_build_where_that_is_asked(lab, run, papers):
    run("status", lab, "--fail=grounds")
    run("why", lab, "recent", "--fail=grounds")
    with jl.open(lab) as ws:
        ws.sources.add("by_year", papers, anchor="column:year")
        ws.materialize("late", "SELECT * FROM by_year")
    shown = run("status", "--fail", lab).stdout
    assert "fresh*" in shown and "by_year by column:year alone" in shown
    run("status", "--fail=grounds", lab, code=1)
    run("why", lab, "late", "--fail")
    run("why", lab, "late", "--fail=grounds", code=1)
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    run("why", lab, "recent", "--fail=grounds", code=1)
    run("status", lab, "--fail=stale", code=2)


def test_plan_and_recompute_make_it_true_again(lab, run, papers):
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    planned = value(run("plan", lab, "--json"))
    assert [s["name"] for s in planned["certain"]] == ["recent"] and [
        s["name"] for s in planned["possible"]
    ] == ["counted"]
    run("plan", lab, "--fail", code=1)
    steps = value(run("recompute", lab, "--json", "--fail"))["steps"]
    assert {s["name"]: s["outcome"] for s in steps} == {"recent": "computed", "counted": "computed"}
    run("plan", lab, "--fail")
    assert "Nothing to do." in run("recompute", lab, "recent").stdout


def test_why_draws_the_tree_that_python_draws_and_fails_a_build_when_asked(lab, run, papers):
    assert run("why", lab, "recent", "--fail").stdout.startswith("recent: fresh\n")
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    told = value(run("why", lab, "counted", "--json", "--fail", code=1))
    with jl.open(lab, read_only=True) as ws:
        found = ws.why("counted")
    assert (
        told["name"] == "counted"
        and told["verdict"] == found.verdict.to_dict()
        and told["verdict"]["kind"] == "possibly_stale"
    )
    shown = run("why", lab, "counted").stdout.splitlines()
    assert [line.partition("seen")[0] for line in shown] == [
        line.partition("seen")[0] for line in found.lines
    ] and len(told["lines"]) == len(shown)
    assert "TableNotFound" in run("why", lab, "nothing", code=3).stderr


def test_a_step_that_fails_is_an_exit_code_whether_asked_or_not_and_one_that_cannot_be_tried_only_when_asked(
    lab, run, papers
):
    papers.write_text("id,year\n1,2020\nx,no year\n")
    steps = {
        s["name"]: s["outcome"] for s in value(run("recompute", lab, "--json", code=1))["steps"]
    }
    assert steps["recent"] == "failed"
    papers.unlink()
    steps = {s["name"]: s["outcome"] for s in value(run("recompute", lab, "--json"))["steps"]}
    assert set(steps.values()) == {"blocked"}
    run("recompute", lab, "--fail", code=1)


def test_verify_and_check_find_damage(lab, run):
    assert run("verify", lab, "recent").stdout == "name    result\n──────  ──────\nrecent  match\n"
    with jl.open(lab) as ws:
        path = ws.table("recent").path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert value(run("verify", lab, "--json", "--fail", code=1))["recent"]["kind"] == "mismatch"
    assert value(run("fsck", lab, "--deep", "--json", "--fail", code=1))["damaged"]


def test_check_runs_checks_and_fails_when_one_does_not_pass(lab, run):
    with jl.open(lab) as ws:
        ws.checks.add("many", jl.checks.row_count(1), on="recent")
    run("check", lab, "--fail")
    with jl.open(lab) as ws:
        ws.checks.add("few", jl.checks.row_count(max=0), on="recent")
    assert run("check", lab).exit_code == 0
    rows = {row["check"]: row for row in value(run("check", lab, "--json", "--fail", code=1))}
    assert (rows["many"]["outcome"], rows["few"]["outcome"]) == ("pass", "fail")
    run("check", lab, "many", "--fail")


def test_lineage_sources_and_tables_are_listed(lab, run):
    graph = value(run("lineage", lab, "recent", "--json"))
    assert {n["name"] for n in graph["nodes"]} == {"papers", "recent", "counted"}
    assert {n["name"] for n in value(run("lineage", lab, "recent", "--up", "--json"))["nodes"]} == {
        "papers",
        "recent",
    }
    assert value(run("lineage", lab, "--columns", "--json"))["column_edges"]
    assert [s["name"] for s in value(run("sources", lab, "--json"))] == [
        "papers"
    ] and "papers" in run("sources", lab).stdout
    assert [(t["name"], t["version"]) for t in value(run("tables", lab, "--json"))] == [
        ("counted", 1),
        ("recent", 1),
    ]


def test_search_gives_hits_by_meaning_words_or_both(lab, run):
    with jl.open(lab) as ws:
        texts = "SELECT * FROM (VALUES (1, 'graph networks'), (2, 'error E17')) t(id, text)"
        ws.lexical("w", texts, key="id", text="text")
        ws.embed("v", texts, key="id", text="text", model="hashing")
    [hit] = value(run("search", lab, "w", "E17", "--select", "text", "--json"))
    assert (hit["key"], hit["text"]) == (2, "error E17")
    [hit] = value(run("search", lab, "v", "E17", "--words", "w", "-k", "1", "--json"))
    assert (hit["key"], hit["rank_words"]) == (2, 1)
    assert (
        "error E17" in run("search", lab, "v", "x", "--select", "text", "--where", "id = 2").stdout
    )
    run("search", lab, "absent", "x", code=3)


def test_sql_gives_rows_as_a_table_or_as_objects(lab, run):
    assert value(run("sql", lab, "SELECT * FROM jammi.recent", "--json")) == [
        {"id": 2, "year": 2021}
    ]
    assert "2021" in run("sql", lab, "-", given="SELECT * FROM jammi.recent").stdout
    assert "first 3 rows" in run("sql", lab, "SELECT * FROM range(10)", "-n", "3").stdout
    run("sql", lab, "SELECT 1 AS a, 2 AS a", "--json", code=3)


def test_a_backup_and_a_copy_are_whole(lab, run, tmp_path):
    run("backup", lab, str(tmp_path / "kept.sqlite3"))
    assert (tmp_path / "kept.sqlite3").exists()
    assert (
        "reads the same sources where they are" in run("copy", lab, str(tmp_path / "first")).stdout
    )
    assert value(run("copy", lab, str(tmp_path / "other"), "--json")) == {
        "target": str(tmp_path / "other"),
        "tables": 2,
        "missing": [],
    }
    with jl.open(tmp_path / "other") as ws:
        assert [str(r.verdict) for r in ws.status()] == ["fresh", "fresh"]
        assert isinstance(ws.verify("counted"), jl.Match) and not ws.recovery


def test_a_copy_has_the_settings_with_which_tables_were_defined(run, tmp_path):
    (tmp_path / "zone").mkdir()
    (tmp_path / "zone" / "jammi.toml").write_text('[engine]\ntimezone = "Europe/Oslo"\n')
    with jl.open(tmp_path / "zone") as ws:
        ws.materialize("t", "SELECT 1 AS n")
    run("copy", tmp_path / "zone", tmp_path / "copied")
    with jl.open(tmp_path / "copied") as ws:
        assert ws.settings["engine.timezone"] == "Europe/Oslo" and ws.staleness("t") == jl.Fresh()


@pytest.mark.parametrize(
    "last",
    [
        "storage.files.AtomicFile.commit",
        "workspace.copy.check_whole",
        "workspace.copy.sync_folder",
    ],
)
def test_a_copy_that_is_killed_before_its_end_is_no_workspace(lab, run_python, tmp_path, last):
    """Neither does opening it make one, nor a rebuild from the part of the tables that it has."""
    code = """
import os, pkgutil, sys, jammi_lab as jl
from jammi_lab.workspace import copy
owner, _, function = sys.argv[3].rpartition(".")
with jl.open(sys.argv[1]) as ws:
    setattr(pkgutil.resolve_name("jammi_lab." + owner), function, lambda *_: os._exit(9))
    copy.copy_workspace(ws, sys.argv[2])
"""
    other = tmp_path / "other"
    assert run_python(code, lab, str(other), last, check=False).returncode == 9
    before = sorted(other.rglob("*"))
    assert before and bool(list(other.rglob("*.parquet"))) == last.endswith("sync_folder")
    for make in (jl.open, jl.rebuild, lambda path: jl.open(path, create=False)):
        with pytest.raises(jl.WorkspaceNotFound, match="was not finished"):
            make(other)
    assert sorted(other.rglob("*")) == before


def test_a_copy_into_something_is_refused_and_leaves_it_as_it_was(lab, run, tmp_path, papers):
    before = sorted(tmp_path.iterdir())
    for target in (str(tmp_path), f"{lab}/inside", "s3://bucket/lab"):
        assert "InvalidArgument" in run("copy", lab, target, code=3).stderr
    assert sorted(tmp_path.iterdir()) == before


def test_rebuild_makes_a_catalog_from_manifests(lab, run, tmp_path):
    (tmp_path / "lab" / "catalog.sqlite3").unlink()
    assert value(run("rebuild", lab, "--json"))["recipes"] == ["counted", "recent"]


def test_what_cannot_be_done_is_said_on_standard_error_without_a_trace(lab, run, tmp_path):
    answer = run("status", str(tmp_path / "nothing"), code=3)
    assert (
        answer.stderr.startswith("WorkspaceNotFound: ")
        and answer.stdout == ""
        and "follows the verb: jammi-lab status PATH" in answer.stderr
        and not (tmp_path / "nothing").exists()
    )
    assert "recnt" in run("verify", lab, "recnt", code=3).stderr
    assert "near" not in run("sql", lab, "SELEC 1", code=3).stdout
    run("nothing", code=2)


def test_a_tenant_sees_its_own(lab, run):
    with jl.open(lab) as ws, ws.tenant("acme"):
        ws.materialize("secret", "SELECT 1 AS a")
    assert "secret" not in run("tables", lab).stdout
    assert "secret" in run("tables", lab, "--tenant", "acme").stdout


def test_the_command_is_installed_and_help_loads_nothing_heavy(tmp_path):
    code = "import sys, jammi_lab.cli as c; c.main(['--help']); print([m for m in ('duckdb', 'pyarrow', 'polars', 'sqlalchemy') if m in sys.modules])"
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.endswith("[]\n")
    from importlib.metadata import entry_points

    assert [e.value for e in entry_points(group="console_scripts", name="jammi-lab")] in (
        [],
        ["jammi_lab.cli:main"],
    )


@pytest.fixture
def live(lab, tmp_path):
    with jl.open(lab) as ws:
        ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 1}])
        ws.topics.register("events", {"id": "int64"})
    return lab


def test_a_rebuild_of_a_sound_workspace_is_refused_and_names_what_would_be_gone(live, run):
    said = run("rebuild", live, code=3).stderr
    assert "mutable tables labels; topics events; sources papers" in said and "--force" in said
    assert value(run("sql", live, "SELECT * FROM mutable.labels", "--json")) == [{"id": 1}]


def test_a_damaged_catalog_is_rebuilt_without_force(live, run, tmp_path):
    catalog = tmp_path / "lab" / "catalog.sqlite3"
    with catalog.open(
        "r+b"
    ) as file:  # the header stays: it opens, and its pages are not what they were
        file.seek(4096)
        file.write(b"\xff" * (catalog.stat().st_size - 4096))
    assert value(run("rebuild", live, "--json"))["recipes"] == ["counted", "recent"]


def test_numbers_that_json_has_no_form_for_are_null(lab, run):
    told = run(
        "sql",
        lab,
        "SELECT 'NaN'::double AS n, [1.5, '-inf'::double] AS i, {'a': 'inf'::float} AS s, DATE 'infinity' AS d",
        "--json",
    ).stdout

    def refused(word):
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(told, parse_constant=refused) == [
        {"n": None, "i": [1.5, None], "s": {"a": None}, "d": "infinity"}
    ]


def test_a_change_by_sql_says_what_it_did(live, run):
    assert (
        run("sql", live, "INSERT INTO mutable.labels VALUES (2), (3)").stdout
        == "2 rows inserted into mutable.labels, version 2\n"
    )


def test_help_lists_every_command_and_explains_each(run):
    listed = run("--help").stdout
    assert listed == run().stdout == run("help").stdout
    for verb in commands(SHELL):
        assert verb.synopsis in listed and "…" not in listed.partition(verb.synopsis)[2][:1]
        shown = run(verb.name, "-h").stdout
        assert verb.help in shown and all(flag.help in shown for flag in verb.flags)
    assert run("--version").stdout == f"jammi-lab {jl.__version__}\n"


def test_status_writes_junit_and_sarif_and_tells_old_from_stale(lab, run, papers, tmp_path):
    junit, sarif = tmp_path / "status.xml", tmp_path / "status.sarif"
    shown = run("status", lab, "--max-age", "24h", "--fail").stdout
    assert "2 recipes: 2 fresh" in shown and "hours old" not in shown
    assert (
        "recent is fresh, and 0.0 hours old."
        in run("status", lab, "--max-age", "0s", "--fail", code=1).stdout
    )
    papers.write_text(papers.read_text() + "9,Z,2030\n")
    verdicts = {row["name"]: row["verdict"] for row in value(run("status", lab, "--json"))}
    run("status", lab, "--junit", junit, "--sarif", sarif, "--max-age", "0s", "--fail", code=1)
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
    assert {c.get("name"): c[0].get("type") for c in suite} == verdicts
    assert verdicts == {"recent": "stale", "counted": "possibly_stale"}
    [report] = json.loads(sarif.read_text())["runs"]
    found = {r["ruleId"]: (r["level"], r["message"]["text"]) for r in report["results"]}
    assert found["stale"][0] == "error" and "papers changed" in found["stale"][1]
    assert found["possibly_stale"][0] == "warning"
    assert found.keys() <= {rule["id"] for rule in report["tool"]["driver"]["rules"]}
    assert "takes a duration" in run("status", lab, "--max-age", "soon", code=2).output


def test_reports_hold_what_a_build_fails_for(lab, run, papers, tmp_path):
    moved = tmp_path / "la b"
    shutil.move(lab, moved)
    with jl.open(moved) as ws:
        ws.sources.add("by_year", papers, anchor="column:year")
        ws.materialize("late", "SELECT * FROM by_year")
    junit, sarif = tmp_path / "status.xml", tmp_path / "status.sarif"
    reports = ("--junit", junit, "--sarif", sarif)
    run("status", moved, *reports, "--fail")
    assert ElementTree.parse(junit).getroot().get("failures") == "0"
    assert json.loads(sarif.read_text())["runs"][0]["results"] == []
    run("status", moved, *reports, "--fail=grounds", code=1)
    (tmp_path / "link.xml").symlink_to(sarif)
    told = run("status", moved, "--junit", tmp_path / "link.xml", code=3)
    assert "it is a link, or not a regular file" in told.output
    [failure] = ElementTree.parse(junit).getroot().iter("failure")
    assert failure.get("type") == "grounds" and "late is fresh*, " in failure.get("message")
    [result] = json.loads(sarif.read_text())["runs"][0]["results"]
    assert result["ruleId"] == "grounds" and result["level"] == "warning"
    [location] = result["locations"]
    address = location["physicalLocation"]["artifactLocation"]["uri"]
    assert address == f"{tmp_path}/la%20b"  # a URI, which has no spaces


def test_advice_in_reports_is_that_of_the_shell(lab, run, papers, tmp_path):
    with jl.open(lab) as ws:
        ws.sources.add("large", papers, anchor="content")
        ws.materialize("copied", "SELECT * FROM large")
    Path(lab, "jammi.toml").write_text("[look]\nscan_bytes = 1\n")
    papers.write_text(papers.read_text() + "9,Z,2030\n")
    junit, sarif = tmp_path / "status.xml", tmp_path / "status.sarif"
    run("status", lab, "--junit", junit, "--sarif", sarif, "--fail", code=1)
    for report in (junit, sarif):
        assert f"jammi-lab status {lab} --deep" in report.read_text()
        assert "ws.status(deep=True)" not in report.read_text()


def test_check_writes_junit_with_the_first_failing_rows(lab, run, tmp_path):
    with jl.open(lab) as ws:
        ws.checks.add("many", jl.checks.row_count(1), on="recent")
        ws.checks.add("old", "SELECT * FROM jammi.recent WHERE year < $y", on="recent", params={"y": 3000}, description="a\x00year <is> new")  # fmt: skip
    run("check", lab, "--junit", tmp_path / "checks.xml", "--fail", code=1)
    suite = ElementTree.parse(tmp_path / "checks.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    cases = {case.get("name"): case for case in suite}
    assert len(cases["many"]) == 0 and cases["old"].get("classname") == "recent"
    [failure] = cases["old"]
    assert failure.get("message").startswith("a�year <is> new: ") and "'year': 2021" in failure.text


CELLS = {
    "grown": "recent.polars().with_columns(year=recent.polars()['year'] + 1)",
    "scaled": "recent.polars().with_columns(year=recent.polars()['year'] * factor)",
}


def test_steps_of_cells_run_when_the_caller_allows_python_and_they_need_only_inputs(
    lab, run, papers
):
    with jl.open(lab) as ws:
        for name, text in CELLS.items():
            step = build_step(name, ["recent"], text, {"factor": 2})
            ws.materialize(name, jl.PythonStep(step, inputs=["jammi.recent"]))
        step = build_step("renamed", ["rows", "all"], "rows.arrow()", {})
        ws.materialize("renamed", jl.PythonStep(step, inputs=["jammi.recent", "papers"]))
        step = build_step("doubled", ["year"], "{'twice': 2 * year}", {})
        ws.materialize("doubled", jl.RowMap(step, "recent", key="id", inputs=["year"]))
    papers.write_text(papers.read_text() + "9,2030\n")

    def outcomes(*flags: str) -> dict[str, str]:
        names = (*CELLS, "doubled", "renamed")
        steps = value(run("recompute", lab, *names, "--json", *flags))["steps"]
        return {step["name"]: step["outcome"] for step in steps}

    assert "jammi-lab recompute --allow-python runs it" in run("plan", lab, "grown").stdout
    blocked = dict.fromkeys([*CELLS, "doubled", "renamed"], "blocked")
    assert outcomes() == {"recent": "computed"} | blocked
    ran = dict.fromkeys(["grown", "doubled", "renamed"], "computed") | {"scaled": "blocked"}
    assert outcomes("--allow-python") == ran
    shown = run("recompute", lab, "scaled", "--allow-python").stdout
    assert "its cell needs more than its inputs" in shown
    with jl.open(lab) as ws:
        assert ws.sql("SELECT max(year) FROM jammi.grown").fetchall() == [(2031,)]
        assert ws.sql("SELECT max(twice) FROM jammi.doubled").fetchall() == [(4060,)]


def test_steps_of_cells_of_somebody_else_are_not_run(lab, run, papers, tmp_path):
    with jl.open(lab) as ws:
        step = build_step("grown", ["recent"], CELLS["grown"], {})
        ws.materialize("grown", jl.PythonStep(step, inputs=["jammi.recent"]))
    papers.write_text(papers.read_text() + "9,2030\n")
    got = Path(lab).rename(tmp_path / "got")
    shown = run("recompute", got, "grown", "--allow-python", "--fail", code=1).stdout
    assert "was recorded by somebody else" in shown


COMPLETED = [
    ("rec", "recompute"),
    ("recompute --al", "--allow-python"),
    ("status pap", "papers.csv"),
]


@pytest.mark.parametrize(("words", "offered"), COMPLETED)
def test_a_shell_completes_commands_flags_and_files(run, tmp_path, words, offered):
    (tmp_path / "papers.csv").touch()
    script = run("completion").stdout + (
        f"COMP_WORDS=(jammi-lab {words}) COMP_CWORD={len(words.split())}\n"
        '_jammi_lab; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    shell = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert shell.stdout.splitlines() == [offered], shell.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_at_a_tab(run, tmp_path):
    (tmp_path / "papers.csv").touch()
    (tmp_path / "completion").write_text(run("completion").stdout)
    places = {"HOME": str(tmp_path), "TERM": "dumb"}
    env = {"PATH": os.environ["PATH"], **places}
    shell = pexpect.spawn("zsh", ["-f", "-i"], cwd=tmp_path, env=env, encoding="utf-8", timeout=30)
    shell.sendline('source completion; echo LOA"DED"')
    shell.expect_exact("LOADED")
    for words, offered in COMPLETED:
        shell.send(f"jammi-lab {words}\t")
        shell.expect_exact(offered)
        shell.sendcontrol("u")
    shell.close(force=True)


def test_commands_without_a_path_open_the_folder_that_cells_open(
    tmp_path, papers, run, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with jl.open(".jammi") as ws:
        ws.sources.add("papers", papers)
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020")
    assert "1 recipe: 1 fresh" in run("status", "--fail").stdout
    assert "recent" in run("why", "recent").stdout
    assert value(run("sql", "SELECT 2/2 AS n", "--json")) == [{"n": 1.0}]
    assert run("plan", "recent").stdout == run("plan", ".jammi", "recent").stdout
    assert run("lineage", "recent").stdout == run("lineage", ".jammi", "recent").stdout
    run("recompute")
    run("copy", "other")
    assert "1 recipe: 1 fresh" in run("status", "other").stdout
    assert "'nowhere'" in run("status", "nowhere", code=3).stderr


def test_a_path_is_meant_where_the_default_folder_has_no_workspace(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "'nowhere'" in run("recompute", "nowhere", code=3).stderr
    assert ".jammi" in run("why", "recent", code=3).stderr
    (tmp_path / "lab").mkdir()
    assert run("why", "lab", code=2).stderr.startswith("jammi-lab why needs a NAME.\n")

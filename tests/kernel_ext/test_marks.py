"""The process that says which cells of an open notebook no longer hold."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest

import jammi_lab as jl
from jammi_kernel_ext import marks
from jammi_kernel_ext.marks import MarkService
from jammi_kernel_ext.marks_server import COMMAND, MarksSocket
from jammi_lab.core.records import TableRecord, TableStatus
from tests.inside import services_of
from tests.waiting import until


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.csv")
        ws.materialize("big", "SELECT * FROM a WHERE x > 2")
        ws.materialize("counted", "SELECT count(*) AS n FROM jammi.big")
        yield ws


@pytest.fixture
def service():
    service = MarkService(io.StringIO())
    yield service
    service.close()


def stamp(shown):
    return shown._repr_mimebundle_()[1]["jammi"]


def watch(service, folder, *outputs, key=1):
    request = {"id": key, "file": str(folder / "n.ipynb"), "stamps": outputs}
    service.receive(json.dumps(request))


def answers(service):
    """What the service sends at one check of everything."""
    for notebook in service._notebooks.values():
        notebook.timer.due = 0.0
    service._output.seek(0)
    service._output.truncate()
    service.check_due()
    return [json.loads(line) for line in service._output.getvalue().splitlines()]


def board_answers(service):
    """The same when the board is due, too."""
    for timer, _ in service._boards.values():
        timer.due = 0.0
    return answers(service)


def marked(service):
    """The marks of the last answer at one check."""
    return answers(service)[-1]["marks"]


def test_a_cell_is_marked_while_its_table_does_not_hold(lab, service, tmp_path):
    watch(
        service,
        tmp_path,
        ["c1", stamp(lab.table("big")), []],
        ["c2", stamp(lab.sql("SELECT 1")), []],
    )
    [first, second] = answers(service)
    assert first["marks"] == {} and second["counts"] == {"fresh": 2}
    assert second["workspace"] == str(tmp_path / "lab")
    assert answers(service) == []  # nothing changed

    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    [changed, counted] = answers(service)
    assert list(changed["marks"]) == ["c1"]
    assert changed["marks"]["c1"].startswith("big is stale: a changed")
    assert counted["counts"] == {"stale": 1, "possibly stale": 1}
    (tmp_path / "a.csv").write_text("id,x\n1,2\n2,3\n")
    assert marked(service) == {}  # the tables hold again

    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    lab.recompute("big")
    assert marked(service)["c1"].startswith("big is outdated: version 2 is ready. Run the cell.")


def test_a_mark_on_a_table_that_was_renamed_says_its_present_name(lab, service, tmp_path):
    watch(service, tmp_path, ["c1", stamp(lab.table("big")), ["*"]])
    lab.rename("big", "large")
    assert marked(service) == {}
    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    assert marked(service)["c1"].startswith("large is stale: a changed")
    lab.recompute("large")
    assert marked(service)["c1"].startswith("large is outdated: version 2 is ready")


def test_a_mark_says_which_process_computes_the_table_now(lab, service, tmp_path):
    watch(service, tmp_path, ["c1", stamp(lab.table("big")), []])
    assert marked(service) == {}
    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    order = TableRecord(
        table_name="",
        kind="sql",
        status=TableStatus.BUILDING,
        recipe="big",
        version=0,
        definition_hash="d",
    )
    with contextlib.suppress(KeyError), services_of(lab).publisher.build_row(order, "a"):
        assert f"; process {os.getpid()} computes it" in marked(service)["c1"]
        raise KeyError
    assert "computes it" not in marked(service)["c1"]


def test_a_file_that_a_statement_read_marks_its_cell(lab, service, tmp_path):
    services_of(lab).badges.stamps.observes_files = True
    watch(service, tmp_path, ["c1", stamp(lab.sql("SELECT * FROM a")), []])
    assert marked(service) == {}
    (tmp_path / "a.csv").write_text("id,x\n1,9\n")
    assert marked(service)["c1"].endswith(" changed. Run the cell.")


def test_what_an_output_reports_itself_is_no_mark_unless_it_is_outdated(lab, service, tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    result = stamp(lab.sql("SELECT * FROM jammi.big"))
    assert result["verdict"].startswith("big is stale")
    watch(
        service,
        tmp_path,
        ["badge", result, ["big is stale"]],
        ["panel", result, ["*"]],
        ["bare", result, []],
        ["other", stamp(lab.table("counted")), ["big is stale"]],
    )
    assert sorted(marked(service)) == ["bare", "other"]
    lab.recompute("big")
    assert sorted(marked(service)) == ["badge", "bare", "other", "panel"]


def test_a_mark_says_the_verdicts_own_word_and_that_a_badge_has_another(lab, service, tmp_path):
    badge = stamp(lab.table("counted"))
    watch(service, tmp_path, ["bare", badge, []], ["badge", badge, ["counted is stale"]])
    assert marked(service) == {"badge": "counted is fresh now. Run the cell."}
    (tmp_path / "a.csv").write_text("id,x\n1,9\n2,3\n")
    said = marked(service)
    assert sorted(said) == ["badge", "bare"]
    assert all(line.startswith("counted is possibly stale: a changed") for line in said.values())
    watch(service, tmp_path, ["badge", badge, ["counted is possibly stale"]])
    assert marked(service) == {}
    result = {**badge, "verdict": "counted is possibly stale: a changed, by way of big."}
    watch(service, tmp_path, ["panel", result, ["*"]])
    assert marked(service) == {}
    lab.define("counted", "SELECT count(*) + 1 AS n FROM jammi.big")
    assert marked(service)["panel"].startswith("counted is stale: definition changed")
    assert lab.status()["counted"].verdict.to_dict()["kind"] == "stale"


def test_the_counts_are_those_of_the_board_of_the_stamps_tenant(lab, service, tmp_path):
    watch(service, tmp_path, ["c", stamp(lab.table("big")), []])
    assert answers(service)[-1]["counts"] == {"fresh": 2}
    with lab.tenant("acme"):
        lab.materialize("own", "SELECT 1 AS one")
        watch(service, tmp_path, ["c", stamp(lab.table("own")), []])
    assert answers(service)[-1]["counts"] == {"fresh": 3}


def test_a_failed_run_and_a_new_version_change_the_state_of_the_board(lab, service, tmp_path):
    watch(service, tmp_path, ["c", stamp(lab.sql("SELECT 1")), []])
    watch(service, tmp_path, ["c", stamp(lab.table("big")), ["big is stale"]])
    (tmp_path / "a.csv").write_text("id,y\n1,9\n2,3\n")
    before = answers(service)[-1]
    assert [step.outcome for step in lab.recompute("big").steps] == ["failed"]
    [after] = board_answers(service)
    assert {**after, "state": ""} == {**before, "state": ""} and after["state"] != before["state"]


@pytest.mark.own_catalog  # catalogs of one template have one id
def test_a_workspace_elsewhere_is_found_where_this_user_created_it(service, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folders = [tmp_path / "elsewhere" / name for name in ("other", "lab", "newer")]
    for folder in folders:
        jl.open(folder).close()
    with jl.open(folders[1]) as ws:
        (tmp_path / "b.csv").write_text("x\n1\n")
        ws.sources.add("b", tmp_path / "b.csv")
        ws.materialize("t", "SELECT * FROM b")
        found = stamp(ws.table("t"))
    (tmp_path / "b.csv").write_text("x\n2\n")
    (tmp_path / "notes").mkdir()
    watch(service, tmp_path / "notes", ["c", found, []])
    assert list(marked(service)) == ["c"]
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folders[1], copy)
    jl.trust(copy)
    service._workspaces._found.clear()
    assert marked(service) == {}  # which of the two it is, nobody knows


@pytest.mark.own_catalog  # catalogs of one template have one id
def test_nothing_is_marked_without_its_workspace_or_with_a_stamp_that_is_none(
    service, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with jl.open(tmp_path / "elsewhere" / "lab") as ws:
        (tmp_path / "b.csv").write_text("x\n1\n")
        ws.sources.add("b", tmp_path / "b.csv")
        ws.materialize("t", "SELECT * FROM b")
        unfound = stamp(ws.table("t"))
        (tmp_path / "b.csv").write_text("x\n2\n")
        broken = [{}, 7, None, {**unfound, "tables": [{"name": 3}]}]
        (tmp_path / "config" / "jammi" / "trusted").unlink()
        watch(
            service, tmp_path, ["c", unfound, []], *([f"b{n}", b, []] for n, b in enumerate(broken))
        )
        [only] = answers(service)
        assert only == {"id": 1, "marks": {}}


@pytest.mark.own_catalog  # catalogs of one template have one id
def test_a_workspace_that_was_replaced_is_opened_again(service, tmp_path):
    def make(value):
        (tmp_path / "a.csv").write_text(f"x\n{value}\n")
        with jl.open(tmp_path / "lab") as ws:
            ws.sources.add("a", tmp_path / "a.csv")
            ws.materialize("t", "SELECT * FROM a")
            return stamp(ws.table("t"))

    watch(service, tmp_path, ["c", make(1), []])
    assert marked(service) == {}
    shutil.rmtree(tmp_path / "lab")
    service._workspaces._search_again_at = 0.0
    assert answers(service)[-1]["marks"] == {}  # gone: nothing is known
    watch(service, tmp_path, ["c", make(2), []])
    assert answers(service)[-1]["counts"] == {"fresh": 1}
    (tmp_path / "a.csv").write_text("x\n3\n")
    assert list(marked(service)) == ["c"]


def test_notebooks_are_answered_each_and_forgotten_when_they_go(lab, service, tmp_path):
    for key in (1, 2):
        watch(service, tmp_path, ["c", stamp(lab.table("big")), []], key=key)
    assert {answer["id"] for answer in answers(service)} == {1, 2}
    watch(service, tmp_path, key=1)
    (tmp_path / "a.csv").write_text("id,x\n1,9\n")
    assert {answer["id"] for answer in answers(service)} == {2}
    watch(service, tmp_path, key=2)
    assert answers(service) == [] and service.check_due() > 60


def test_a_slow_workspace_is_checked_less_often():
    timer = marks.Timer(marks.INTERVAL_SECONDS)
    timer.begin_pause(time.monotonic() - 3)  # the first check opens the workspace
    assert timer.due - time.monotonic() < 1
    timer.begin_pause(time.monotonic() - 2)
    assert 17 < timer.due - time.monotonic() < 19
    assert marks.INTERVAL_SECONDS < 0.5  # a mark is to come within a second


def test_the_process_answers_writes_nothing_and_ends_with_its_input(lab, tmp_path):
    """The folder of the server may be somebody else's: no module in it is imported."""
    for name in ("jammi_kernel_ext", "jammi_lab", "json", "duckdb"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was run')")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "lab").rglob("*.parquet")}
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    request = {
        "id": 7,
        "file": str(tmp_path / "n.ipynb"),
        "stamps": [["c", stamp(lab.table("big")), []]],
    }
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["marks"] == {}
    (tmp_path / "a.csv").write_text("id,x\n1,9\n")
    lines = iter(process.stdout.readline, "")
    assert next(each for line in lines if (each := json.loads(line)["marks"]))["c"].startswith(
        "big is"
    )
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "lab").rglob("*.parquet")} == before
    assert until(lambda: lab.table("big").version == 1)


MALFORMED = [
    "", "{", "[]", "null", "7", '{"id": "x"}', '{"id": 8, "stamps": 7}', '{"id": 8, "stamps": [7]}',
    '{"id": 8, "stamps": [["c"]]}', '{"id": 8, "file": 3, "stamps": []}', "[" * 100_000,
    '{"id": 8, "file": "n.ipynb", "stamps": [["c", STAMP, null]]}',
    '{"id": 8, "file": "n.ipynb", "stamps": [["c", STAMP, 7]]}',
    '{"id": 8, "file": "n.ipynb", "stamps": [[null, STAMP, []]]}',
    '{"id": 8, "file": "a\\u0000b/n.ipynb", "stamps": [["c", STAMP, []]]}',
    '{"id": 8, "file": "/LONG/n.ipynb", "stamps": [["c", STAMP, []]]}',
    '{"id": 8, "file": "n.ipynb", "stamps": [["c", ODD, []]]}',
]  # fmt: skip


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_request_ends_nothing_for_other_notebooks(lab, service, tmp_path, line):
    odd = {**stamp(lab.table("big")), "tenant": "a/b\0", "workspace": "../.."}
    line = line.replace("STAMP", json.dumps(stamp(lab.table("big"))))
    line = line.replace("LONG", "x" * 5000).replace("ODD", json.dumps(odd))
    watch(service, tmp_path, ["c", stamp(lab.table("big")), []])
    service.receive(line)
    (tmp_path / "a.csv").write_text("id,x\n1,9\n")
    ours = [each for each in answers(service) if each["id"] == 1]
    assert ours[-1]["marks"]["c"].startswith("big is")


@pytest.mark.parametrize("path", ["../n.ipynb", "a/../../n.ipynb", "..", 7])
def test_no_path_of_a_page_leads_out_of_the_root_folder(path):
    closed = []
    socket = SimpleNamespace(contents_manager=None, close=lambda code, _: closed.append(code))
    # It waits for nothing; asyncio.run would refuse where a browser has left its loop in this thread.
    with pytest.raises(StopIteration):
        MarksSocket.on_message(socket, json.dumps({"path": path, "stamps": []})).send(None)
    assert closed == [1003]


def test_a_saved_file_names_the_cell_that_made_it_and_an_output_does_not(papers, tmp_path):
    from jammi_lab.features.outputs.file_stamps import read_stamp

    names = "import os, jammi_lab\nws = jammi_lab.get_workspace()"
    papers.run(names, "%%jammi -m t -q\nSELECT * FROM papers")
    number = int(papers.value("get_ipython().execution_count"))
    papers.run("_ = ws.table('t').export('one.parquet')")
    set_name = "os.environ['JPY_SESSION_NAME'] = '/somewhere/figures.ipynb'"
    papers.run(f"{set_name}\n_ = ws.sql('FROM jammi.t').export('two.csv')")
    one, two = (read_stamp(tmp_path / name)[0] for name in ("one.parquet", "two.csv"))
    papers("del os.environ['JPY_SESSION_NAME']")
    assert one is not None and two is not None
    assert one.cell.startswith("cell [") and " of " not in one.cell
    assert two.cell == f"cell [{int(one.cell[6:-1]) + 1}] of figures.ipynb"
    assert int(one.cell[6:-1]) > number - 1
    assert "'cell'" not in papers.value("ws.table('t')._repr_mimebundle_()[1]")


def test_a_markdown_cell_is_marked_while_a_number_in_it_is_outdated(lab, service, tmp_path):
    rows = "SELECT * FROM (VALUES ('LLM', {}), ('BM25', 0.212e0)) t(model, f1)"
    lab.materialize("scores", rows.format("0.364e0"), key="model")
    texts = [["m1", "LLM has an F1 of 0.364."], ["m2", "BM25 has 0.212."], ["m3", "# Nothing"]]
    request = {"id": 1, "file": str(tmp_path / "n.ipynb"), "stamps": [], "texts": texts}
    service.receive(json.dumps(request))
    assert answers(service) == [{"id": 1, "marks": {}}]
    lab.materialize("scores", rows.format("0.455e0"), key="model")
    reason = "0.364 is outdated: it was scores version 1, row LLM, column f1; now 0.455."
    assert marked(service) == {"m1": reason}
    assert answers(service) == []
    # a text that keeps the marks of other notebooks waiting is not read
    service.receive(json.dumps({**request, "texts": [*texts, ["m4", "1 " * 100_000]]}))
    assert marked(service) == {}
    service.receive(json.dumps(request))
    assert marked(service) == {"m1": reason}
    lab.materialize("scores", rows.format("0.364e0"), key="model")
    assert marked(service) == {}
    elsewhere = tmp_path / "far" / "a" / "b" / "c" / "d"
    elsewhere.mkdir(parents=True)
    service.receive(json.dumps({**request, "file": str(elsewhere / "n.ipynb")}))
    assert answers(service) == [{"id": 1, "marks": {}}]  # no workspace is near

"""`%jammi expire`, `check` and `recover`, and what a cell says when opening the workspace settled
something."""

import os
import re
import sys

import pytest

MADE = "%%jammi -m venues --bypass\nSELECT venue, count(*) AS n FROM papers GROUP BY venue"


@pytest.fixture
def three(papers):
    """Three versions of `venues`."""
    for _ in range(3):
        assert papers(MADE).error is None
    return papers


def test_expire_says_how_many_went_and_gives_their_names(three):
    assert three("gone = %jammi expire venues --keep 2\ngone").text == "venues: 1 table removed."
    assert three.value("len(gone), gone[0].startswith('papers__sql__')") == "(1, True)"
    assert three("%jammi expire venues").text == "venues: 1 table removed."
    assert three("%jammi expire venues").text == "venues: there are no versions to remove."


def test_expire_needs_a_known_recipe_and_a_number_from_1(three):
    assert three("%jammi expire").ename == "InvalidArgument"
    assert three("%jammi expire venues --keep 0").ename == "InvalidArgument"
    shown = three("%jammi expire venue")
    assert shown.ename == "TableNotFound" and "Did you mean venues?" in shown.error


def test_check_says_that_all_is_sound(three):
    shown = three("%jammi fsck")
    assert "No problems found" in shown.text and "No problems found" in shown.html


def test_check_names_what_it_found_and_repair_mends_it(three, tmp_path):
    place = next((tmp_path / ".jammi" / "results" / "_global").glob("*.json"))
    place.unlink()
    (tmp_path / ".jammi" / "results" / "_global" / "<b>.txt").write_text("not ours")
    shown = three("report = %jammi fsck\nreport")
    assert (
        place.name in shown.text
        and "orphans" in shown.text
        and "<b>.txt" not in shown.html
        and "&lt;b&gt;.txt" in shown.html
    )
    assert (
        three.value("report.missing[0].endswith('.json'), report.orphans")
        == "(True, ['results/_global/<b>.txt'])"
    )
    shown = three("%jammi fsck --repair --deep")
    assert "repaired" in shown.text and place.exists()


def test_recover_shows_its_report_and_gives_it(three, tmp_path):
    assert three("%jammi recover").text == "recovery: nothing to do"
    next((tmp_path / ".jammi" / "results" / "_global").glob("*.json")).unlink()
    shown = three("report = %jammi recover\nreport")
    assert (
        shown.text
        == "Recovery\n  - 1 table whose manifest was restored from the catalog, or whose index was rebuilt from the vectors: venues"
        and "Recovery" in shown.html
    )
    assert three.value("len(report.healed)") == "1"


def killed(cell, tmp_path):
    """A kernel that died in the middle of a materialisation."""
    code = (
        "import os, jammi_lab as jl\n"
        "from jammi_lab.storage.files import install_fault_hook\n"
        "ws = jl.open('.jammi')\n"
        "install_fault_hook(lambda name: os._exit(9) if name == 'publish:sealed' else None)\n"
        "ws.materialize('lost', 'SELECT 1 AS one')\n"
    )
    (tmp_path / "child.py").write_text(code)
    paths = cell.value("__import__('os').environ['PYTHONPATH']").strip("'")
    assert (
        os.spawnve(
            os.P_WAIT,
            sys.executable,
            [sys.executable, str(tmp_path / "child.py")],
            {**os.environ, "PYTHONPATH": paths},
        )
        == 9
    )


def test_the_first_cell_says_what_opening_settled_and_the_next_does_not(
    cell, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    killed(cell, tmp_path)
    shown = cell("%%jammi\nSELECT 1 AS one")
    assert (
        "Recovery\n  - 1 table started but never finished, marked failed"
        in shown.data[0]["text/plain"]
        and len(shown.data) == 2
    )
    assert "Recovery" not in cell("%%jammi\nSELECT 1 AS one").text


def test_where_says_what_opening_settled_once(cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    killed(cell, tmp_path)
    shown = cell("%jammi")
    assert shown.text.count("marked failed") == 1 and shown.text.startswith("Workspace .jammi")


def test_the_versions_of_a_table_are_listed_compared_restored_and_exported(three, tmp_path):
    shown = three("%jammi history venues")
    assert re.search(
        r"^ +3 +\d+ .*20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  no row differs$", shown.text, re.MULTILINE
    )
    assert "3 versions; %jammi diff venues 2 3 shows the rows that changed" in shown.text
    assert "application/vnd.jupyter.widget-view+json" in shown.data[0]
    assert " note " not in shown.text
    shown = three("%jammi diff venues")
    assert shown.text.splitlines()[0] == "venues, version 2 → 3: no row differs"
    assert "application/vnd.jupyter.widget-view+json" in shown.data[0]
    assert "version 1 → 3" in three("%jammi diff venues 1").text
    assert "version 1 → 2" in three("%jammi diff venues 1 2").text
    assert "version 4" in three("%jammi restore venues 1").text
    assert (
        three("%jammi restore venues x")
        .error[0]
        .startswith("InvalidArgument: V of %jammi restore takes a positive integer")
    )
    assert "venues.csv" in three(f"%jammi export venues {tmp_path}/venues.csv").text
    assert (tmp_path / "venues.csv").read_text().startswith('"venue"')
    assert "is now called places" in three("%jammi rename venues places").text
    assert three("%jammi drop places").text == "Removed the recipe places and its versions."
    assert three("%jammi history places").ename == "TableNotFound"


def test_the_line_that_is_meant_is_named(papers):
    papers("%%jammi -m venues\nSELECT venue FROM papers")
    assert "%jammi drop venues" in "".join(papers("%jammi remove venues").error)
    told = "".join(papers("%jammi search venues kyoto").error)
    assert "%jammi embed NAME venues --key K --text C" in told and "lexical" in told


def test_a_rejected_step_fails_the_cell_and_stands_in_the_history(three):
    three("%%jammi --check few --on venues\nSELECT * FROM jammi.venues WHERE n < 0")
    three("%%jammi -m venues\nSELECT venue, -count(*) AS n FROM papers GROUP BY venue")
    shown = three("%jammi recompute venues")
    assert shown.ename == "StepFailed" and "1 step rejected: venues" in shown.error[0]
    assert "fail the check 'few'" in shown.error[1]
    lines = three("%jammi history venues").text.splitlines()
    assert sum("rejected" in line for line in lines) == 2
    assert any("5 versions" in line for line in lines)
    three("import jammi_lab; jammi_lab.get_workspace().define('never', 'SELECT -1 AS n')")
    three("%%jammi --check less --on never\nSELECT * FROM jammi.never WHERE n < 0")
    assert three("%jammi recompute never").ename == "StepFailed"
    assert "rejected" in three("%jammi history never").text

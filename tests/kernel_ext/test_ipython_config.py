"""The settings of cells as IPython's own: `%config`, its files, its completion; and beside them
`%jammi config`."""

import pytest

ROWS = "%%jammi\nSELECT range AS n FROM range(1000)"


def test_config_sets_what_cells_follow_in_this_workspace_and_in_the_next(papers):
    papers("%config JammiMagics.limit = 3")
    assert (
        papers(ROWS).text.endswith("first 3 rows")
        and "cells.limit  3" in papers("%jammi config cells.limit").text
    )
    papers("%jammi open other")
    assert papers(ROWS).text.endswith("first 3 rows")


def test_config_shows_every_setting_of_cells_with_its_words_and_what_holds(papers):
    papers("%jammi config cells.badge wait")
    shown = papers("%config JammiMagics").stream
    assert (
        "JammiMagics.badge=<Enum>" in shown
        and "'auto', 'wait'" in shown
        and "Current: 'wait'" in shown
    )
    ours = "next(c for c in get_ipython().configurables if type(c).__name__ == 'JammiMagics')"
    assert papers.value(
        f"sorted('cells.' + n for n in {ours}.class_own_traits(config=True))"
    ) == papers.value(
        "sorted(k for k in __import__('jammi_lab.core.settings').core.settings.DEFAULTS if k.startswith('cells.'))"
    )


def test_what_the_line_sets_holds_until_the_workspace_is_closed(papers):
    papers("%jammi config cells.limit 3\n%jammi config cells.traceback full")
    assert papers("%config JammiMagics.limit").text == "3"
    papers("%jammi close")
    assert papers("%config JammiMagics.limit").text == "20" and papers(ROWS).text.endswith(
        "first 20 rows"
    )
    assert len(papers("%%jammi\nSELECT nothing").error) <= 5


def test_config_needs_no_workspace_and_opens_none(cell, tmp_path):
    cell("%config JammiMagics.traceback = 'full'")
    assert not (tmp_path / ".jammi").exists()
    assert len(cell("%jammi no-such").error) > 5


def test_what_is_no_such_value_is_refused_and_nothing_changes(papers):
    assert "less than 1" in papers("%config JammiMagics.limit = 0").stream
    papers("%config JammiMagics.badge = 'never'")
    assert (
        papers("%config JammiMagics.limit").text == "20"
        and papers("%config JammiMagics.badge").text == "'auto'"
    )
    for key, value, words in (
        ("cells.limit", "0", "an integer of at least 1"),
        ("cells.badge", "weit", "auto or wait"),
        ("cells.traceback", "long", "short or full"),
    ):
        error = papers(f"%jammi config {key} {value}").error
        assert error[0] == f"InvalidArgument: The setting {key} takes {words}, not {value!r}."
    assert "Did you mean wait?" in papers("%jammi config cells.badge weit").error


@pytest.mark.parametrize(
    ("toml", "typed", "rows"),
    [
        ("", "", 2),
        ("[cells]\nlimit = 20\n", "", 20),
        ("[cells]\nlimit = 20\n", "%config JammiMagics.limit = 4", 4),
    ],
    ids=["the file of IPython", "jammi.toml goes first", "what is typed goes before all"],
)
def test_a_file_of_ipython_gives_settings_below_those_of_the_workspace(
    run_python, tmp_path, toml, typed, rows
):
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c.JammiMagics.limit = 2\n")
    (tmp_path / ".jammi").mkdir()
    (tmp_path / ".jammi" / "jammi.toml").write_text(toml)
    lines = [
        "%load_ext jammi_lab",
        typed,
        "shown = get_ipython().run_cell_magic('jammi', '', 'SELECT range AS n FROM range(1000)')",
        "print(shown)",
    ]
    code = f"import IPython; IPython.start_ipython(argv=['--no-banner', '--colors=NoColor', '-c', {chr(10).join(lines)!r}])"
    done = run_python(code, start=True, env={"IPYTHONDIR": str(tmp_path / "ipython")})
    assert f"first {rows} rows" in done.stdout, done.stdout + done.stderr


def test_a_wrong_value_in_a_file_of_ipython_says_where_it_stands(bare):
    bare("get_ipython().config.JammiMagics.limit = 'few'")
    shown = bare("%load_ext jammi_lab")
    assert (
        shown.ename == "InvalidArgument"
        and "'limit'" in shown.error[0]
        and "ipython_config.py" in shown.error[-1]
    )
    assert "not found" in bare("%jammi").stream  # and nothing was brought
    bare("get_ipython().config.pop('JammiMagics')")
    assert bare("%load_ext jammi_lab\n%jammi").error is None

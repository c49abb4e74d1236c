"""What front ends other than JupyterLab rely on: classic notebook, VS Code, Colab, a plain
terminal, `jupyter execute`.

They are not run here; what they are known to need is held: plain kinds of output, nothing that a
page must load or run, Colab's own widget manager, answers without any extension of the lab.
"""

import re

import pytest


def lines(shown):
    texts = [data["text/plain"] for data in shown.data]
    return [text for text in texts if text.startswith("≠ ")]


@pytest.mark.parametrize("editor", [True, False], ids=["an editor", "JupyterLab"])
def test_where_no_marks_are_drawn_one_line_below_the_next_cell_has_their_words(
    papers, tmp_path, editor
):
    if editor:
        papers(f"__vsc_ipynb_file__ = {str(tmp_path / 'x.ipynb')!r}")
        papers("%jammi close", looked_on=True)
    made = papers("%%jammi -m kept\nSELECT * FROM papers WHERE year > 2020", looked_on=True)
    read = papers("%%jammi\nFROM jammi.kept", looked_on=True)
    assert lines(made) == lines(read) == []
    file = tmp_path / "papers.csv"
    file.write_text(file.read_text() + "9,Z,2024\n")
    first, second = [papers(code, looked_on=True) for code in ("1 + 1", "2 + 2")]
    recomputed = papers("%jammi recompute", looked_on=True)
    assert lines(second) == []  # it is the same
    if not editor:
        assert lines(first) == lines(recomputed) == []
        return
    [line] = lines(first)
    assert re.fullmatch(
        r"≠ Out of date: cell \[\d+\] \(kept is stale: papers changed, 4 → 5 rows\), "
        r"cell \[\d+\] \(kept is stale: papers changed, 4 → 5 rows\)\.",
        line,
    )
    [line] = lines(recomputed)
    assert line.count("kept is outdated: version 2 is ready") == 2
    [line] = lines(papers("%%jammi\nFROM jammi.kept", looked_on=True))
    assert line.count("cell [") == 1  # an output of this text is new


@pytest.mark.only_soak
@pytest.mark.slow
def test_a_plain_terminal_shows_texts_stops_at_an_error_and_has_no_panels(run_python, tmp_path):
    (tmp_path / "papers.csv").write_text("id,venue\n1,A\n2,B\n")
    cells = [
        "%load_ext jammi_lab",
        "%jammi add papers papers.csv",
        "%%jammi\nSELECT venue FROM papers ORDER BY id",
        "%%jammi -m v\nSELECT id FROM papers",
    ]
    cells += [
        "%jammi status",
        "%jammi lineage",
        "%jammi catalog",
        "%jammi view papers",
        "%%jammi --help",
        "%%jammi\nSELECT venu FROM papers",
    ]
    code = f"""
import os; os.chdir({str(tmp_path)!r})
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(colors='nocolor', simple_prompt=True)
for cell in {cells!r}:
    print('>', shell.run_cell(cell, store_history=True).success)
"""
    done = run_python(code, start=True, env={"IPYTHONDIR": str(tmp_path / "ipython")})
    said = done.stdout
    assert said.count("> True") == len(cells) - 1 and said.rstrip().endswith("> False"), (
        said + done.stderr
    )
    for part in (
        "venue\nvarchar\n───────\nA\nB\n2 rows",
        "1 recipe: 1 fresh",
        "└─ v (sql, version 1): fresh",
        "--materialize RECIPE",
    ):
        assert part in said, part
    assert "SqlError: There is no column venu in papers." in said and "Did you mean venue?" in said
    assert (
        "Traceback" not in said
        and "<" not in said.replace("> True", "").replace("> False", "")
        and "object at 0x" not in said
    )

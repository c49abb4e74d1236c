"""`%jammi resume` after a restart: variables are bound to the versions that they held, without running
anything."""

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path

import pytest

from tests.kernel_ext.conftest import CLEAN, Kernel

NAMES = "import jammi_lab, pandas as pd\nws = jammi_lab.get_workspace()"
AGES = "%%jammi ages -m ages\nSELECT id, year FROM papers"


class Notebook:
    """Runs cells in a kernel, and saves them as a front end does."""

    def __init__(self, kernel: Kernel, file: Path) -> None:
        self.kernel, self.file, self.cells = kernel, file, list[dict[str, object]]()
        self.begin()

    def begin(self) -> None:
        named = f"os.environ['JPY_SESSION_NAME'] = {str(self.file)!r}"
        folder = f"import os; os.chdir({str(self.file.parent)!r})"
        self.kernel.run(f"{folder}; {named}", "%load_ext jammi_lab")

    def run(self, *cells: str) -> str:
        """What the last cell shows."""
        for code in cells:
            shown = self.kernel.run(code)
            self.cells.append({"cell_type": "code", "source": code.splitlines(True)})
        return shown.text

    def save(self) -> None:
        self.file.write_text(json.dumps({"cells": self.cells}))

    def restart(self) -> None:
        self.save()
        self.kernel.run(CLEAN)
        self.begin()


@pytest.fixture
def notebook(papers: Kernel, tmp_path: Path) -> Notebook:
    """A notebook with the table `ages`."""
    made = Notebook(papers, tmp_path / "days.ipynb")
    made.run(NAMES, AGES)
    yield made
    papers("del os.environ['JPY_SESSION_NAME']")


def test_variables_are_bound_to_the_same_tables_and_nothing_runs(notebook, edited):
    notebook.run(
        "df = ws.table('ages').pandas()",
        "%%sql flat --as polars\nFROM jammi.ages",
        "rows = ws.table('ages').read()\nsame = rows",
        "%%jammi_py step --inputs ages=jammi.ages\nages.pandas().assign(z=1)",
        "%%jammi -m later -q\nSELECT year FROM df",
        "%%jammi query\nSELECT count(*) AS n FROM jammi.ages",
        "other = ws.table('ages').arrow()",
        "other = other.slice(1)",
        "changed = ws.table('ages').pandas()\nchanged['k'] = 1",
        "popped = ws.table('ages').pandas()\nyears = popped.pop('year')",
        "big = df[df.year > 3]\nlow, high = big.head(1), len(rows)",
        "high = 3",
        "typed: object = ws.table('ages').pandas()",
        "few = ws.table('ages').pandas().head(1)",
        "twin = both = ws.table('ages').arrow()",
    )
    edited()
    notebook.restart()
    shown = notebook.run("%jammi resume")
    lines = {line.split()[0].rstrip(":"): line for line in shown.splitlines() if line.strip()}
    for name, form in (("df", "pandas"), ("flat", "polars"), ("rows", "result"), ("ages", "table")):
        assert f"ages version 1  {form}" in lines[name], shown
        assert "stale: papers changed" in lines[name]
    assert "ages version 1  pandas" in lines["typed"]
    assert all("ages version 1  arrow" in lines[name] for name in ("twin", "both"))
    computed = ("query", "other", "changed", "popped", "years", "big", "low", "few")
    for name in computed:
        assert "run cell [" in lines[name], shown
        assert lines[name].endswith("which computes it from ages"), shown
    assert "Python steps found: step" in shown and "high" not in lines
    notebook.run(NAMES, "%%jammi -m again -q\nSELECT id FROM df")
    assert (
        notebook.kernel.value("ws.recipe('again').definition")
        .strip("'")
        .endswith("FROM jammi.ages AS df")
    )
    assert notebook.kernel.value("len(df), len(flat), len(rows), ages.version") == "(4, 4, 4, 1)"
    status = notebook.kernel("%jammi status").text
    assert "undecidable" not in status, status
    assert notebook.kernel.value("[t.version for t in ws.tables()]") == "[1, 1, 1, 1]"
    assert notebook.kernel.value("sorted(s.outcome for s in ws.recompute().steps)") == (
        "['computed', 'computed', 'computed', 'computed']"
    )


def test_a_step_that_names_what_is_not_defined_yet_is_told_with_its_cell(notebook):
    step = "%%jammi_py step --inputs ages=jammi.ages\nages.pandas().assign(z=m.pi)"
    notebook.run("import math as m", step)
    notebook.restart()
    assert "step: run the cell of step step: " in notebook.run("%jammi resume")
    assert "Python steps found: step" in notebook.run("import math as m", "%jammi resume")


CHANGES = [
    "_ = {0}.insert(0, 'k', 1)",
    "def change(frame):\n    frame['k'] = 1\nchange({0})",
    "for each in [{0}]:\n    each['k'] = 1",
    "[each.insert(0, 'k', 1) for each in [{0}]]",
    "other_{0} = {0}\nother_{0}['k'] = 1",
    "held_{0} = {{'a': {0}}}\nheld_{0}['a']['k'] = 1",
    "column_{0} = {0}['year'].array\ncolumn_{0}[0] = 5",
    "pd.DataFrame.insert({0}, 0, 'k', 1)",
    "method_{0} = {0}.insert\nmethod_{0}(0, 'k', 1)",
    "_ = {0}.rename(columns={{'year': 'y'}}, inplace=True)",
    "later_{0} = lambda: {0}.insert(0, 'k', 1)\nlater_{0}()",
    "import os as {0}",
    "async def {0}(): pass",
    "match 3:\n    case {0}: pass",
    "%%time\n{0} = {0}.head(1)",
    "%time {0}['k'] = 1",
    "%%capture {0}\n1",
    "%%bash --out {0}\necho 1",
    "import own_of_resume\nown_of_resume.change({0})",
    "class Other:\n    def table(self, name): return 3\n{0} = Other().table('ages')",
    "apart = jammi_lab.open('apart')\napart.materialize('ages', 'SELECT 9 AS i')\n{0} = apart.table('ages')",
]
"""Cells after which a frame has other rows than the table."""


def test_frames_that_a_cell_may_have_changed_are_not_bound(notebook, tmp_path):
    (tmp_path / "own_of_resume.py").write_text("def change(frame):\n    frame['k'] = 1\n")
    notebook.run("import sys\nsys.path.insert(0, '')")
    names = [f"v{number}" for number in range(len(CHANGES))]
    notebook.run("\n".join(f"{name} = ws.table('ages').pandas()" for name in ["late", *names]))
    notebook.run("def change_late():\n    kept.head()\n    late['k'] = 1")
    notebook.run("kept, late = 1, 2\nkept = ws.table('ages').pandas()", "kept.head()")
    notebook.run("sums = kept.sum()\nsums['k'] = 1\nprint(len(kept))")
    notebook.run(*(text.format(name) for name, text in zip(names, CHANGES, strict=True)))
    notebook.run(
        "late = ws.table('ages').pandas()", "change_late()", "kept = ws.table('ages').pandas()"
    )
    notebook.restart()
    shown = notebook.run("%jammi resume")
    bound = {line.split()[0] for line in shown.splitlines() if "ages version 1" in line}
    assert bound == {"ages", "kept"}, [CHANGES[int(name[1:])] for name in bound if name in names]


@pytest.mark.parametrize(
    "text",
    [
        "exec('df = 4')",
        "globals()['df'] = 4",
        "get_ipython().push({'df': 4})",
        "%xdel df",
        "%jammi tenant acme\nws.materialize('ages', 'SELECT 9 AS i')\ndf = ws.table('ages')",
    ],
)
def test_nothing_is_bound_again_that_code_out_of_sight_replaced(notebook, text):
    notebook.run("df = ws.table('ages').pandas()", text)
    notebook.restart()
    shown = notebook.run("%jammi resume")
    assert "df  " not in shown and notebook.kernel.value("'df' in dir()") == "False"


def test_a_workspace_is_known_by_its_path(notebook):
    of_t = "ws = jammi_lab.get_workspace()\nother = ws.table('t')"
    notebook.run("%jammi open", "%%jammi -m t -q\nSELECT 1 AS n", of_t)
    notebook.run("%jammi open lab", "%%jammi -m t -q\nSELECT 2 AS n")
    notebook.run("ws = jammi_lab.open('./lab')", "df = ws.table('t').arrow()")
    notebook.restart()
    notebook.run("%jammi open lab")
    shown = notebook.run("%jammi resume")
    assert "t version 1  arrow" in shown and "other" not in shown, shown
    notebook.run("%jammi open")
    assert re.search(r"(?m)^other +t version 1 +table", notebook.run("%jammi resume"))


def test_a_workspace_that_is_not_trusted_is_given_no_step(notebook, tmp_path):
    notebook.run("%%jammi_py step --inputs ages=jammi.ages\nages.pandas().assign(z=1)")
    notebook.restart()
    (tmp_path / ".jammi").rename(tmp_path / "got")
    notebook.run("%jammi open got")
    shown = notebook.run("%jammi resume")
    assert shown == "No variable is missing that this workspace has on record."
    assert "step  blocked" in notebook.run("%jammi recompute step --dry-run")


def test_a_line_offers_it_to_a_person_after_a_restart(notebook):
    notebook.run("df = ws.table('ages').pandas()")
    offered = "%jammi resume binds ages, df again"
    notebook.restart()
    assert offered in notebook.kernel(NAMES, looked_on=True).text
    notebook.restart()
    assert offered not in notebook.kernel(NAMES).text
    notebook.restart()
    notebook.kernel("ages = df = 1")
    assert offered not in notebook.kernel(NAMES, looked_on=True).text


SILENT = {
    "frame": "frame = ws.table('ages').arrow()",
    "table": "table = ws.table('ages')",
    "result": "result = ws.sql('FROM jammi.ages')",
    "quiet": "%%jammi quiet --as pandas -q\nFROM jammi.ages",
    "stored": "%%jammi stored -m ages -q\nSELECT id, year FROM papers",
    "made": "made = ws.materialize('ages', 'SELECT id, year FROM papers')",
    "same": "same = frame",
    "first": "first = ws.table('ages').polars()\nsecond = first",
    "again": "again = ws.table('ages')",
}
"""Cells, by a variable that they bind, whose outputs name no table."""


def test_a_variable_has_the_version_that_its_cell_read(notebook):
    notebook.run("%%jammi old\nFROM jammi.ages", *SILENT.values())
    notebook.run(
        "for looped in [ws.table('ages')]: pass", "ws.materialize('other', 'SELECT 1 AS n')"
    )
    notebook.run("dropped = ws.table('other').arrow()", "ws.drop('other')")
    late = "late = ws.materialize('ages', 'SELECT id FROM papers')\nws.materialize('ages', '{}')"
    notebook.run(late.format("SELECT year FROM papers"), SILENT["again"])
    notebook.run("edited = ws.table('ages', 1)")
    notebook.cells[-1]["source"] = ["edited = ws.table('ages')"]
    notebook.run("removed = ws.table('ages')", "del removed", "gone = ws.table('ages')")
    notebook.cells[-1]["source"] = ["pass"]
    for _ in range(2):  # what the first one binds, and that it ran, changes nothing
        notebook.restart()
        shown = notebook.run("%jammi resume")
        lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
        for name in ("old", *SILENT, "second", "looped", "edited"):
            version = 3 if name == "again" else 1
            assert f"ages version {version}  " in lines[name], (name, shown)
        assert "ages version 2  " in lines["late"], shown
        assert not lines.keys() & {"dropped", "removed", "gone"}, shown
    assert "version 3 is ready" in lines["frame"]
    assert notebook.kernel.value("made.version, first.columns") == "(1, ['id', 'year'])"


def test_of_a_cell_that_failed_is_bound_what_it_bound(notebook):
    failed = "first = ws.table('ages')\n1 / 0\nsecond = ws.table('ages')"
    notebook.run("pass")
    assert notebook.kernel(failed).ename == "ZeroDivisionError"
    notebook.cells[-1]["source"] = [failed]
    notebook.restart()
    shown = notebook.run("%jammi resume")
    assert "first     ages version 1" in shown and "second" not in shown, shown


def test_a_table_of_another_name_is_bound_and_another_table_of_its_name_is_not(notebook):
    notebook.run("silent = ws.table('ages').arrow()", "%%jammi shown\nFROM jammi.ages")
    notebook.kernel("ws.rename('ages', 'years')")
    notebook.restart()
    shown = notebook.run("%jammi resume")
    assert shown.count("years version 1  ") == 3 and shown.count("fresh") == 3, shown
    notebook.restart()
    notebook.run(NAMES, "ws.rename('years', 'old')\nws.unalias('years')")
    notebook.run("ws.materialize('years', 'SELECT id FROM papers')")
    shown = notebook.run("%jammi resume")
    assert shown.count("version 1 of 'years' is not the one that it read") == 3, shown


def test_a_notebook_whose_file_is_not_told_has_a_record_of_its_own(notebook):
    """It has nothing of a session."""
    notebook.run("file = os.environ.pop('JPY_SESSION_NAME')", "kept = ws.table('ages')")
    notebook.run("%jammi tenant acme\nsession = ws.ephemeral()")
    notebook.run("session.create('own', {'n': 'BIGINT'}, primary_key='n')")
    notebook.run("own = session.sql('own', 'FROM {table}').arrow()\nsession.close()")
    notebook.run("%jammi tenant --none", "os.environ['JPY_SESSION_NAME'] = file")
    notebook.restart()
    notebook.run("file = os.environ.pop('JPY_SESSION_NAME')")
    shown = notebook.run("%jammi resume")
    bound = {line.split()[0] for line in shown.splitlines()[2:]}
    assert bound == {"ages", "kept"} and "own" not in shown, shown


def test_a_record_that_names_another_method_binds_nothing(notebook):
    """What is called of a table is one of the methods that give its rows."""
    notebook.run("df = ws.table('ages').pandas()")
    notebook.restart()
    notebook.run(
        f"{NAMES}\ncache, stored = ws._services.observation_cache, ws._services.catalog.observations.load()"
    )
    notebook.run(
        "[key] = [key for key in stored if key.startswith('names:')]\n"
        "stored[key].payload['names']['df']['form'] = 'expire'\ncache.put(key, stored[key])"
    )
    shown = notebook.run("%jammi resume")
    assert shown == "No variable is missing that this workspace has on record."


def test_a_cell_does_not_wait_for_another_process_that_writes_to_the_catalog(notebook, tmp_path):
    catalog = tmp_path / ".jammi" / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        notebook.run("ages = ws.table('ages')")
        assert time.monotonic() - began < 15  # of 30 s that a writer waits


def test_a_variable_that_two_kernels_bound_has_what_the_later_one_bound(notebook):
    notebook.run("df = ws.table('ages').pandas()", "kept = df")
    notebook.restart()
    notebook.run(NAMES, "%%jammi years -m years\nSELECT year FROM papers")
    notebook.run("df = ws.table('years').pandas()")
    notebook.restart()
    shown = notebook.run("%jammi resume")
    assert "df        years version 1" in shown and "kept      ages version 1" in shown, shown


def test_a_renamed_notebook_is_known_by_the_name_that_its_kernel_has(notebook, tmp_path):
    notebook.run("df = ws.table('ages').pandas()")
    notebook.restart()
    notebook.file.rename(tmp_path / "nights.ipynb")
    assert "days.ipynb' cannot be read" in "".join(notebook.kernel("%jammi resume").error or [])
    assert "df        ages version 1" in notebook.run("%jammi resume nights.ipynb")


def test_what_is_gone_is_told_with_its_cell(notebook):
    notebook.run("first = ws.table('ages', 1)", "ws.materialize('ages', 'SELECT id FROM papers')")
    notebook.run("now = ws.table('ages').pandas()", "ws.expire('ages')")
    notebook.restart()
    shown = notebook.run("%jammi resume")
    assert "now" in shown and "ages version 2" in shown
    assert "first: run cell [" in shown and "no ready version 1" in shown
    notebook.run(NAMES, "ws.drop('ages')")
    assert "now is not bound: " in notebook.kernel("now").text


HOSTILE = [
    "x = " + "(" * 5000,
    "%%jammi_py s --inputs a\n" + "(" * 5000,
    "%%jammi_py s --inputs a\n\0",
    "%%jammi --nonsense",
    "x = ws.table('ages', True)\ny = ws.table('ages', 10**30)",
]
"""Texts of cells."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not a notebook"),
        ('{"cells": [{"cell_type": "code", "execution_count": 1e999}]}', "is not a notebook"),
        (
            json.dumps({"cells": [{"cell_type": "code", "source": text} for text in HOSTILE]}),
            "No variable is missing that this workspace has on record.",
        ),
    ],
    ids=["too long", "no JSON", "no text", "hostile"],
)
def test_a_file_that_is_no_notebook_is_a_typed_error(notebook, content, said):
    notebook.kernel("%jammi close")
    if content is not None:
        notebook.file.write_text(content)
    name = "days" * 99 if content is None else "days.ipynb"
    shown = notebook.kernel(f"%jammi resume {name}")
    assert said in (shown.text + " ".join(shown.error or [])), shown
    assert notebook.kernel(NAMES, looked_on=True).error is None


def test_it_says_whether_nothing_is_missing_or_nothing_can_be_bound(notebook):
    notebook.run("%%jammi few\nSELECT id FROM jammi.ages LIMIT 1")
    notebook.save()
    nothing = "No variable is missing that this workspace has on record."
    assert notebook.kernel("%jammi resume").text == nothing
    notebook.restart()
    notebook.kernel("ages = 1")
    first, second = notebook.kernel("%jammi resume").text.splitlines()
    assert first == "No variable is bound again."
    assert second.startswith("few: run cell [") and second.endswith("computes it from ages")

"""A notebook as it is saved and exported: hostile data act nowhere, two runs are the same, no trace
of the moment."""

import html.parser
import json
import re
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import pytest

from tests.processes import environment
from tests.shell import run_shell

pytestmark = pytest.mark.slow
EVIL = "<img src=x onerror=\"document.title='owned'\">"
SETUP = f"""
import jammi_lab as jl, pathlib, pyarrow as pa
evil = {EVIL!r}
pathlib.Path('rows.csv').write_text('id,text\\n1,"' + evil.replace('"', '""') + '"\\n2,"</td><script>document.title=1</script>"\\n')
%load_ext jammi_lab
ws = %jammi open lab
src = ws.sources.add(evil, 'rows.csv')
frame = ws.sources.add("f'\\"<b>", pa.table({{evil: [evil]}}))
"""
CELLS = [
    "ws.sources",
    "src",
    f'%%jammi r\nSELECT text, text AS "{EVIL.replace(chr(34), chr(34) * 2)}", [text] AS l, {{\'k\': text}} AS s FROM "{EVIL.replace(chr(34), chr(34) * 2)}"',
    "ws.materialize(evil + 'a', 'SELECT text FROM ' + '\"' + evil.replace('\"', '\"\"') + '\"')",
    "ws.materialize(evil + 'b', 'SELECT text FROM jammi.\"' + evil.replace('\"', '\"\"') + 'a\"')",
    "%jammi",
    "%jammi tables",
    "%jammi lineage",
    "pathlib.Path('rows.csv').write_text('id,text\\n1,x\\n')",
    "%jammi status",
    "%jammi stale",
    "ws.staleness(evil + 'b')",
    '%%jammi\nSELECT * FROM jammi."' + EVIL.replace('"', '""') + 'b"',
    "%jammi plan",
    "%jammi recompute",
    "%jammi verify",
    "%jammi preview '" + EVIL.replace("'", "'\\''") + "'",
    "%jammi schema '" + EVIL.replace("'", "'\\''") + "'",
    "%jammi help",
    "%jammi config",
]
FAILING = [
    "%jammi why '" + EVIL.replace("'", "'\\''") + "'",
    "%%jammi\nSELECT " + EVIL,
    "%jammi '" + EVIL.replace("'", "") + "'",
    "ws.sources['<b>' + evil]",
    "ws.sql('SELECT $x', {'x': evil, evil: 1})",
]


class Page(html.parser.HTMLParser):
    """Collects what could act: handlers, scripts, images that load, script links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.acting: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            loads = name in ("src", "href") and not (value or "").startswith(
                ("data:image/svg+xml;base64,", "#")
            )
            if name.startswith("on") or name in ("id", "srcdoc") or loads:
                self.acting.append(f"{tag} {name}={value}")


def executed(folder: Path, cells: list[str]) -> nbformat.NotebookNode:
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbclient.NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    return executed(tmp_path / "a", [SETUP, *CELLS, *FAILING])


TAGS = set("div table thead tbody tr th td span b br code pre details summary ul li img".split())
"""What an HTML form is made of."""


@pytest.mark.filterwarnings(
    "ignore:Your element with mimetype"
)  # the place of a progress line that was taken back is empty
def test_nothing_that_came_from_data_or_names_acts_in_what_is_saved_and_exported(notebook):
    """One test, so that the notebook is run once."""
    errors = {
        cell.source: output
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "error"
    }
    assert list(errors) == FAILING
    for source, error in errors.items():
        assert len(error.traceback) <= 5 and error.ename != "NameError", source
    # panels with what is saved for them; and once more below each panel
    shown = [
        (cell.source, output.data)
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data") and output.data
    ]
    htmls = [(source, data["text/html"]) for source, data in shown if "text/html" in data]
    assert len(htmls) >= len(CELLS) - 1
    for source, text in htmls:
        page = Page(text)
        assert not page.acting and page.tags <= TAGS, source
    for source, data in shown:
        assert "text/plain" in data or "jammi-saved" in data["text/html"], source
        text = data.get("text/plain", "") + data.get("text/html", "")
        text = re.sub(r"(Panel|·) as of [-\d: ]+ UTC", "", text)  # the time of the look is wanted
        assert not re.search(r"20\d\d-\d\d-\d\d|0x[0-9a-f]{6,}|\d{8}T\d{6}|__sql__", text), source
    body, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(notebook)
    page = Page(re.sub(r'(id|href)="[^"]*"', "", body))
    assert not [a for a in page.acting if "owned" in a] and "&lt;img src=x onerror=" in body
    assert not re.search(r"<script>document", body)


JUST_RUN = [
    """
import pathlib
pathlib.Path('rows.csv').write_text('id,text\\n1,a\\n2,b\\n')
%load_ext jammi_lab
%jammi open lab
%jammi add rows rows.csv
""",
    "%%jammi -m kept --as polars\nSELECT * FROM rows",
    "%%jammi frame --as pandas\nSELECT * FROM jammi.kept",
    "%%jammi some --as polars -n 1\nSELECT * FROM rows",
    "%%jammi whole --as arrow\nSELECT * FROM jammi.kept",
    "%%jammi\nEXPLAIN SELECT * FROM rows",
    "%%jammi --explain\nSELECT * FROM rows",
    "frame",
    "import jammi_lab as jl\nws = jl.get_workspace()\nws.recompute()\nws.table('kept').diff(1)",
    "other = jl.open('other')\nother.sources.add('more', 'rows.csv')\nother.sql('FROM more')",
]


def test_a_notebook_that_was_just_run_passes_its_check(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    notebook = executed(tmp_path / "a", JUST_RUN)
    assert not [each for each in notebook.cells for out in each.outputs if "ename" in out]
    file = tmp_path / "a" / "n.ipynb"
    nbformat.write(notebook, file)

    def check() -> list[tuple[int, str, str]]:
        shown = run_shell("check-notebook", str(file), "--json").stdout
        return [(each["cell"], each["table"], each["outcome"]) for each in json.loads(shown)]

    told = [(2, "kept"), (3, "kept"), (4, "rows"), (5, "kept"), (10, "more")]
    assert check() == [(*each, "fresh") for each in told]
    assert run_shell("check-notebook", str(file), "--fail").exit_code == 0
    (tmp_path / "a" / "rows.csv").write_text("id,text\n1,a\n2,z\n")
    assert check() == [(*each, "stale") for each in told]

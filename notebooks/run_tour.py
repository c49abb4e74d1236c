"""Runs a notebook from top to bottom without a browser and leaves a report: `python
notebooks/run_tour.py notebooks/01_tour.ipynb`.

The notebook works in a temporary copy of its folder (itself and `data/`), so nothing in the
repository changes. Each code cell gets a line when it starts and its seconds when it is done. The
report is one HTML file that loads nothing. A failing cell is shown and makes the exit code 1.
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi

ROOT = Path(__file__).resolve().parent.parent
# The lab template without the parts that fetch require.js, MathJax, mermaid and the widget manager
# from elsewhere.
TEMPLATE = (
    "{% extends 'lab/index.html.j2' %}{% block html_head_js %}{% endblock %}{% block "
    "jupyter_widgets %}{% endblock %}"
    "{% block html_head_js_mathjax %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}"
    "{% block html_head_css %}{{ resources.include_css('static/theme-dark.css') | "
    "replace('<style', '<style media=\"' ~ resources.dark ~ '\"') }}"
    "<style>{{ resources.style }}</style>{% endblock %}"
)
DARK = "screen and (prefers-color-scheme: dark)"
# The template knows one theme at a time, lets displays without a number stand further left than
# others, cuts long code and breaks words of outputs.
STYLE = (
    ":root { color-scheme: light dark } "
    ".jp-OutputArea-prompt:empty { padding: 0 var(--jp-code-padding); border: solid "
    "transparent; border-width: 0 var(--jp-border-width) } "
    ".jp-InputArea-editor { overflow-x: auto } .jp-OutputArea-output pre { word-break: "
    "normal; overflow-wrap: anywhere }"
)
_REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_REMOTE_CSS = re.compile(
    r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^)'\"\s]+)", re.IGNORECASE
)


class Loads(HTMLParser):
    """Collects in `found` the addresses that a browser would fetch on opening the page. A link to
    click on is none."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One opening tag."""
        self._in_style = tag == "style"
        for name, value in attrs:
            fetched = name in {"src", "srcset", "poster", "data", "xlink:href"} or (
                name == "href" and tag in {"link", "image", "use", "base"}
            )
            if value and fetched and _REMOTE.match(value):
                self.found.append(value)
            if value and name == "style":
                self.found += _REMOTE_CSS.findall(value)

    def handle_endtag(self, tag: str) -> None:
        """One closing tag."""
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        """The text between tags."""
        if self._in_style:
            self.found += _REMOTE_CSS.findall(data)


class Ticker:
    """Says on the terminal which cell runs and how long it took."""

    def __init__(self, cells: list[Any]) -> None:
        self._numbers = {
            index: number
            for number, index in enumerate((i for i, cell in enumerate(cells) if runs(cell)), 1)
        }
        self._since = 0.0
        self.current = 0

    def start(self, cell: Any, cell_index: int) -> None:
        """A cell begins: its number and first line."""
        if not runs(cell):
            return
        self.current, self._since = self._numbers[cell_index], time.monotonic()
        first = cell.source.strip().splitlines()[0]
        print(f"[{self.current:2}/{len(self._numbers)}] {first[:88]:88}", end=" ", flush=True)

    def done(self, **_: Any) -> None:
        """A cell came back: its seconds. (nbclient names the cell, its index and the reply.)"""
        print(f"{time.monotonic() - self._since:5.1f} s", flush=True)


def runs(cell: Any) -> bool:
    """Whether a cell is one that the kernel gets."""
    return bool(cell.cell_type == "code" and cell.source.strip())


def execute(notebook: Any, folder: Path, timeout: int) -> str | None:
    """Runs the notebook in `folder` and fills in its outputs; what went wrong, as text, or None."""
    ticker = Ticker(notebook.cells)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # no word about loopback without encryption
        on_cell_start=ticker.start,
        on_cell_executed=ticker.done,
    )
    try:
        asyncio.run(client.async_execute())
    except CellExecutionError as error:
        return (
            f"cell {ticker.current} "
            f"failed\n\n{error if sys.stderr.isatty() else strip_ansi(str(error))}"
        )
    except CellTimeoutError:
        return f"cell {ticker.current} took longer than {timeout} s"
    except DeadKernelError:
        return f"the kernel died in cell {ticker.current}"
    return None


def report(notebook: Any, title: str, path: Path) -> None:
    """Writes the executed notebook as one HTML file that loads nothing; exits when an output of it
    would."""
    exporter = HTMLExporter(template_name="lab", raw_template=TEMPLATE, embed_images=True)
    html, _ = exporter.from_notebook_node(
        notebook, resources={"metadata": {"name": title}, "dark": DARK, "style": STYLE}
    )
    if loads := Loads(html).found:
        sys.exit(
            f"the report would load {loads[0]} from outside; an output of the notebook asks for it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def isolate(folder: Path) -> None:
    """Keeps a person's own Jupyter and IPython settings out of the run, and the run out of
    theirs."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        place = folder / name.lower()
        place.mkdir()
        os.environ[name] = str(place)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"


def tidy(notebook: Any) -> None:
    """Takes out displays that were emptied again: the progress of a cell that happened to take
    long."""
    for cell in notebook.cells:
        if runs(cell):
            cell.outputs = [
                output
                for output in cell.outputs
                if output.output_type != "display_data" or output.data
            ]


def store(notebook: Any, path: Path) -> None:
    """Writes the executed notebook in place of the one that was read, without what differs from
    machine to machine."""
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(notebook, path)


def run(path: Path, out: Path, timeout: int, keep: bool) -> int:
    """Executes and reports one notebook, and stores its outputs in it when they are to be kept; the
    exit code."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="jammi-tour-") as temporary:
        folder = Path(temporary) / "notebooks"
        folder.mkdir()
        shutil.copy(path, folder)
        if (path.parent / "data").is_dir():
            shutil.copytree(path.parent / "data", folder / "data")
        isolate(Path(temporary))
        began = time.monotonic()
        wrong = execute(notebook, folder, timeout)
        seconds = time.monotonic() - began
    tidy(notebook)
    report(notebook, path.stem, out)
    if wrong is not None:
        print(f"\n{wrong}\nas far as it came: {out}", file=sys.stderr)
        return 1
    if keep:
        store(notebook, path)
    print(f"\n{path.name} ran through in {seconds:.1f} s. To work in it yourself: make lab")
    print(f"report: {out}")
    return 0


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Run a notebook without a browser and write a report."
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "--report", type=Path, help="the HTML file to write; build/<notebook>.html when not given"
    )
    parser.add_argument("--timeout", type=int, default=600, help="seconds that a cell may take")
    parser.add_argument(
        "--store",
        action="store_true",
        help="store the outputs in the notebook, which the tests then compare with",
    )
    given = parser.parse_args()
    if not given.notebook.is_file():
        parser.error(f"there is no notebook {given.notebook}")
    out = given.report or ROOT / "build" / f"{given.notebook.stem}.html"
    return run(given.notebook.resolve(), out.resolve(), given.timeout, given.store)


if __name__ == "__main__":
    sys.exit(main())

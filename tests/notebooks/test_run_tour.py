"""The runner behind `make demo`, on small notebooks of our own."""

import collections
import concurrent.futures
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))
import run_tour  # noqa: E402  (a script beside the notebooks, in no package)

pytestmark = pytest.mark.slow


Run = collections.namedtuple("Run", ["returncode", "stdout", "stderr"])


@pytest.fixture
def tour(tmp_path, monkeypatch, capsys):
    """Runs a notebook of these code cells: what became of the run, the report's path, the
    notebook's own folder.

    The runner is called in a thread of this process, which has no event loop; only with `start` is
    it a command.
    """
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, "")  # the runner sets them; they are put back after the test
    for name in ("JUPYTER_PREFER_ENV_PATH", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "1")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["run_tour.py", *arguments])
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            try:
                code = thread.submit(run_tour.main).result()
            except SystemExit as end:
                print(end.code, file=sys.stderr)
                code = 1
        return Run(code, *capsys.readouterr())

    def run(
        *cells: str,
        markdown: str = "# A tour",
        options: tuple[str, ...] = (),
        start: bool = False,
    ):
        folder = tmp_path / "notebooks"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / "one.csv").write_text("a\n1\n")
        notebook = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            }
        )
        notebook.cells = [
            nbformat.v4.new_markdown_cell(markdown),
            *(nbformat.v4.new_code_cell(cell) for cell in cells),
        ]
        nbformat.write(notebook, folder / "tiny.ipynb")
        report = tmp_path / "out" / "tiny.html"
        arguments = (str(folder / "tiny.ipynb"), "--report", str(report), *options)
        if not start:
            return call(*arguments), report, folder
        command = [sys.executable, str(ROOT / "notebooks" / "run_tour.py"), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL
        )
        return done, report, folder

    return run


@pytest.mark.only_soak
def test_the_last_line_says_where_the_report_is(tour):
    done, report, _ = tour("1 + 1", start=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"report: {report}")
    assert report.is_file()


def test_a_run_has_a_line_for_each_cell_a_report_that_loads_nothing_and_changes_no_file(tour):
    done, report, folder = tour(
        "first = 1\nfirst",
        "",
        "open('new.txt', 'w').write('x')",
        "_ = open('data/one.csv', 'a').write('2\\n'); print('a word of the output')",
        markdown="[a link](https://example.org) and $x^2$",
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("[ 1/3] first = 1") and lines[0].endswith(" s")
    assert lines[1].startswith("[ 2/3] open('new.txt'")
    assert sorted(p.name for p in folder.iterdir()) == ["data", "tiny.ipynb"]
    assert (folder / "data" / "one.csv").read_text() == "a\n1\n"
    assert not nbformat.read(folder / "tiny.ipynb", 4).cells[1].outputs
    html = report.read_text()
    assert "a word of the output" in html
    assert run_tour.Loads(html).found == []
    assert "<script" not in html


def test_outputs_are_stored_in_the_notebook_when_asked_but_for_displays_that_were_emptied(tour):
    _, _, folder = tour(
        "1 + 1",
        "shown = display({'text/plain': '10 %'}, raw=True, display_id=True)\nshown.update({}, raw=True)",
        options=("--store",),
    )
    stored = nbformat.read(folder / "tiny.ipynb", 4)
    assert stored.cells[1].outputs[0].data["text/plain"] == "2"
    assert "execution" not in stored.cells[1].metadata
    assert "version" not in stored.metadata.language_info
    assert stored.cells[2].outputs == []


def test_a_failing_cell_shows_its_error_and_exits_with_one(tour):
    done, report, _ = tour("1 + 1", "raise RuntimeError('the cause')", "print('never')")
    assert done.returncode == 1
    assert "cell 2 failed" in done.stderr
    assert "the cause" in done.stderr
    assert "report: " not in done.stdout
    assert "the cause" in report.read_text()


def test_a_dead_kernel_is_told_and_exits_with_one(tour):
    done, _, _ = tour("import os; os._exit(3)")
    assert (done.returncode, "the kernel died in cell 1" in done.stderr) == (1, True)


def test_an_output_that_would_load_something_is_refused(tour):
    done, report, _ = tour(
        "from IPython.display import HTML\nHTML('<img src=\"https://example.org/x.png\">')"
    )
    assert done.returncode == 1
    assert "https://example.org/x.png" in done.stderr
    assert not report.exists()


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://x.org/a.js"></script>',
        '<script src="//x.org/a.js"></script>',
        '<link rel="stylesheet" href="http://x.org/a.css">',
        "<style>@import 'https://x.org/a.css';</style>",
        "<style>p { background: url(https://x.org/a.png) }</style>",
        "<p style=\"background: url('https://x.org/a.png')\">",
        '<img srcset="https://x.org/a.png 2x">',
        '<svg><image href="https://x.org/a.png"/></svg>',
    ],
)
def test_each_way_to_load_something_is_seen(html):
    assert len(run_tour.Loads(html).found) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://x.org">',
        '<img src="data:image/png;base64,AA">',
        "<p>https://x.org</p>",
        '<a href="#top">',
    ],
)
def test_a_link_or_an_embedded_picture_is_no_load(html):
    assert not run_tour.Loads(html).found

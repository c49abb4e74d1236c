"""Every notebook runs and gives the outputs that are stored in it (nbval, strict), in a copy of its
folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

FEDERATED = ROOT / "notebooks" / "09_federated_sql.ipynb"
SHARED = ROOT / "notebooks" / "10_share_a_workspace.ipynb"
SERVERS = {
    FEDERATED: {
        "JAMMI_NOTEBOOK_POSTGRES": "postgres_server",
        "JAMMI_NOTEBOOK_MYSQL": "mysql_server",
    },
    SHARED: {"JAMMI_NOTEBOOK_POSTGRES": "postgres_server"},
}
"""Where notebooks find their servers, and the fixtures that have them."""

PYTEST = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
each_notebook_with_its_servers = pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, marks=[pytest.mark.services] if path in SERVERS else [])
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.name,
)


@pytest.mark.every_case
@pytest.mark.slow
@pytest.mark.timeout(600)
@each_notebook_with_its_servers
def test_a_notebook_gives_the_outputs_stored_in_it(notebook, tmp_path, request):
    servers = {
        name: request.getfixturevalue(server) for name, server in SERVERS.get(notebook, {}).items()
    }
    shutil.copy(notebook, tmp_path)
    shutil.copytree(ROOT / "notebooks" / "data", tmp_path / "data")
    arguments = [
        "--nbval",
        "--nbval-cell-timeout=120",
        "--nbval-sanitize-with",
        str(ROOT / "tests" / "sanitize.cfg"),
    ]
    # Other plugins take time to load, and pytest-randomly would shuffle the cells; a configuration
    # of ours does not hold for them.
    plugins = ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-c", os.devnull]
    plugins += ["--rootdir", str(tmp_path)]
    done = processes.run(
        [sys.executable, "-c", PYTEST, "-q", *plugins, *arguments, notebook.name],
        cwd=tmp_path,
        env=processes.environment(
            {
                **servers,
                "IPYTHONDIR": str(tmp_path / ".ipython"),
                "JUPYTER_PREFER_ENV_PATH": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            }
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.only_soak
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_servers_the_notebook_on_federated_sql_says_so_and_goes_on(tmp_path, monkeypatch):
    import nbclient

    shutil.copytree(ROOT / "notebooks" / "data", tmp_path / "data")
    for name, scheme in (("POSTGRES", "postgresql"), ("MYSQL", "mysql")):
        monkeypatch.setenv(f"JAMMI_NOTEBOOK_{name}", f"{scheme}://me@127.0.0.1:9/db")
    for name, value in (
        ("IPYTHONDIR", str(tmp_path / ".ipython")),
        ("PYTHONPATH", os.pathsep.join(sys.path)),
    ):
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(FEDERATED, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    said = "".join(
        out.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for out in cell.outputs
    )
    assert (
        "No PostgreSQL server answers at 127.0.0.1:9" in said
        and "No MariaDB or MySQL server answers" in said
    )
    moved = ("pg.airlines", "maria.airports", "hangar.planes", "weather", "alliances", "flights")
    assert all(f"stale: {place} changed" in said for place in moved)
    assert not (tmp_path / "federated").exists()


@pytest.mark.only_soak
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_a_server_the_notebook_on_sharing_ends_and_names_what_it_needs(
    tmp_path, monkeypatch
):
    import nbclient

    shutil.copytree(ROOT / "notebooks" / "data", tmp_path / "data")
    monkeypatch.setenv("JAMMI_NOTEBOOK_POSTGRES", "postgresql://me@127.0.0.1:9/db")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    client = nbclient.NotebookClient(
        nbformat.read(SHARED, as_version=4), resources={"metadata": {"path": str(tmp_path)}}
    )
    with pytest.raises(
        nbclient.exceptions.CellExecutionError, match="This notebook needs a PostgreSQL server"
    ):
        client.execute()


@each_notebook
def test_a_notebook_is_stored_as_it_ran_from_top_to_bottom(notebook):
    counts = [
        cell.execution_count
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code" and cell.source.strip()
    ]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_a_notebook_stores_what_marks_are_drawn_from_no_empty_output_and_no_widget_state(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert '"jammi": {' in text and '"data": {}' not in text
    assert "widgets" not in nbformat.read(notebook, as_version=4).metadata
    assert notebook.stat().st_size < 500_000


@each_notebook
def test_a_notebook_names_no_folder_of_the_machine_it_ran_on(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert not [
        place
        for place in ("/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/", "/tm" + "p/")
        if place in text
    ]


@each_notebook
def test_a_notebook_is_named_where_a_reader_looks_for_it(notebook):
    assert f"`{notebook.stem}" in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert [*notebook.parent.glob(notebook.name[:3] + "*")] == [notebook]

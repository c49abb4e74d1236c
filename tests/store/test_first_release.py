"""A table as the first release wrote it opens in every later one. `python -m
tests.store.test_first_release` writes the fixture, once for a format."""

import shutil
import tempfile
from pathlib import Path

import jammi_lab as jl
from jammi_lab.core.verdicts import Match

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "format-1"
ROWS = [(1, "Graphs", 2020), (2, "Trees", 2021)]


def write() -> None:
    """Make the fixture with this release."""
    with tempfile.TemporaryDirectory() as folder:
        papers = Path(folder) / "papers.csv"
        papers.write_text("id,title,year\n1,Graphs,2020\n2,Trees,2021\n")
        with jl.open(Path(folder) / "lab") as ws:
            ws.sources.add("papers", papers)
            ws.materialize("titles", "SELECT id, title, year FROM papers", key="id")
            ws.materialize("years", "SELECT DISTINCT year FROM jammi.titles")
        shutil.rmtree(FIXTURE, ignore_errors=True)
        shutil.copytree(Path(folder) / "lab" / "results" / "_global", FIXTURE)


def test_a_workspace_is_made_from_them_whose_tables_verify_and_read(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "lab" / "results" / "_global")
    report = jl.rebuild(tmp_path / "lab")
    assert sorted(report.recipes) == ["titles", "years"] and not report.unreadable
    with jl.open(tmp_path / "lab") as ws:
        assert [ws.verify(name) for name in ("titles", "years")] == [Match(), Match()]
        assert sorted(ws.table("titles").read().fetchall()) == ROWS
        assert [e.derived for e in ws.derives_from("titles")] == ["years"]


if __name__ == "__main__":
    write()

"""A workspace over one small CSV, and faults at named points."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAPERS = "id,venue,year\n1,a,2020\n2,b,2021\n3,a,2022\n"
VENUES = "SELECT venue, count(*) AS n FROM papers GROUP BY venue"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lab"


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    path.write_text(PAPERS)
    return path


@pytest.fixture
def lab(ws: Any, papers: Path) -> Any:
    """The workspace with the source `papers`."""
    ws.sources.add("papers", papers)
    return ws


@pytest.fixture
def table(lab: Any) -> Any:
    return lab.materialize("venues", VENUES)


@pytest.fixture
def reopen(lab: Any, folder: Path) -> Iterator[Callable[[], Any]]:
    """Closes `lab` and opens the workspace again, as often as it is called."""
    import jammi_lab as jl

    opened = [lab]

    def again() -> Any:
        opened[-1].close()
        opened.append(jl.open(folder))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


@pytest.fixture
def fault(fault_hook: Callable[..., None]) -> Callable[..., list[str]]:
    """`fault(point, error, nth=1)` raises the error when the point is passed for the n-th time;
    gives the list of points passed."""

    def at(point: str | None, error: BaseException | None = None, nth: int = 1) -> list[str]:
        passed: list[str] = []

        def hook(name: str) -> None:
            passed.append(name)
            if error is not None and name == point and passed.count(name) == nth:
                raise error

        fault_hook(hook)
        return passed

    return at

"""A workspace beside a folder of data."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.freshness.lab import Lab
from tests.templates import Template


def build_papers(root: Path) -> None:
    lab = Lab(root)
    lab.csv("papers", "id,title,year", "1,Graphs,2020", "2,Trees,2021", "3,Heaps,2022")
    lab.materialize("titles", "SELECT id, title FROM papers WHERE year > 2019")
    lab.materialize("first", "SELECT min(id) AS id FROM jammi.titles")
    lab.close()


_papers = Template(build_papers)


@pytest.fixture
def lab(request: pytest.FixtureRequest, nothing_left_behind: None) -> Iterator[Lab]:
    """A new workspace, or that of `papers`; closed after the test."""
    names = request.fixturenames
    own = getattr(request.module, "TEMPLATES", {}).keys() & set(names)
    root = (
        _papers.restore() if "papers" in names and not own else request.getfixturevalue("tmp_path")
    )
    lab = Lab(root)
    yield lab
    lab.close()


@pytest.fixture
def papers(lab: Lab) -> Lab:
    """A CSV of papers, `titles` made from two of its columns and `first` from `titles`."""
    return lab

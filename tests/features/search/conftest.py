"""A workspace over papers."""

from pathlib import Path
from typing import Any

import pytest

from tests.features.search.papers import TITLES, write


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.parquet"
    if not path.exists():
        write(path, TITLES)
    return path


@pytest.fixture
def lab(ws: Any) -> Any:
    """Vectors of the titles of `papers`, where the module's template is that of them."""
    return ws

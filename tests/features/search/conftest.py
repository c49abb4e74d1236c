"""A workspace over papers."""

from pathlib import Path
from typing import Any

import pyarrow as pa
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


@pytest.fixture
def grid(ws: Any) -> Any:
    """Vectors from outside, several of them equal."""
    vectors = [[1, 0], [0, 1], [1, 0], [1, 1], [-1, 0]]
    ws.import_embeddings(
        "g",
        pa.table(
            {
                "id": list("ebdac"),
                "vector": pa.array(vectors, pa.list_(pa.float32(), 2)),
                "tag": [1, 2, 3, 4, 5],
            }
        ),
    )
    return ws

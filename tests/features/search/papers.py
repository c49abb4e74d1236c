"""Papers with titles and years, and vectors of their titles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from tests.templates import Template

TITLES = [
    "graph networks",
    "networks of graphs",
    "pasta at home",
    "tomato sauce",
    "protein folding",
    "football results",
]


def write(path: Path, titles: Sequence[str] | Mapping[Any, str], **others: list[Any]) -> None:
    """Replace the papers: titles by id, or counted from 0."""
    by_id = titles if isinstance(titles, Mapping) else dict(enumerate(titles))
    columns = {
        "id": list(by_id),
        "title": list(by_id.values()),
        "year": [2000 + key for key in by_id],
    }
    pq.write_table(pa.table({**columns, **others}), path)


def _build(folder: Path) -> None:
    write(folder / "papers.parquet", TITLES)
    with jl.open(folder / "lab") as ws:
        ws.sources.add("papers", folder / "papers.parquet")
        ws.embed("v", "papers", key="id", text="title", model="hashing")


VECTORS = Template(_build)
"""The papers, their source and the table `v`."""

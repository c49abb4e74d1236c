"""A provider that holds relations by name, and the small tables that the engine's tests read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from jammi_lab.core import identifiers as names
from jammi_lab.core.anchors import Input
from jammi_lab.core.settings import Settings
from jammi_lab.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.sources.base import ReadPlan, Relation

PAPERS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "venue": ["a", "b", "a", None],
        "year": pa.array([2000, 2001, 2002, 2000], pa.int32()),
        "cites": [1.5, 2.5, None, 4.0],
        "tags": pa.array([["x"], [], None, ["y", "z"]], pa.list_(pa.string())),
    }
)
VENUES = pa.table(
    {"name": ["a", "b", "c"], "place": [{"city": "Oslo"}, {"city": "Bonn"}, {"city": "Rome"}]}
)
TOP = pa.table({"id": pa.array([2, 3], pa.int64()), "score": [0.5, 0.25]})
ACCENTS = pa.table({"É": [1], "é": [2]})
PHYSICAL = "top__sql__20260101T000000_0a1b2c3d"


class Shelf(NameResolver):
    """A provider over a dict; names compare by fold."""

    def __init__(self) -> None:
        self.relations: dict[tuple[str, ...], Relation] = {}
        self.asked: list[tuple[str, ...]] = []

    def put(self, *parts: str, relation: Relation) -> None:
        self.relations[tuple(map(names.fold, parts))] = relation

    def frame(
        self,
        *parts: str,
        table: pa.Table,
        kind: str = "frame",
        name: str | None = None,
    ) -> None:
        self.put(*parts, relation=Relation(Input(kind, name or parts[-1]), ReadPlan(frame=table)))

    def body(self, *parts: str, body: str, kind: str = "source") -> None:
        self.put(*parts, relation=Relation(Input(kind, parts[-1]), ReadPlan(body=body)))

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        self.asked.append(parts)
        return self.relations.get(tuple(map(names.fold, parts)))

    def names(self) -> Iterable[str]:
        return [".".join(parts) for parts in self.relations]


def engine_of(shelf: Shelf, folder: Path, **settings: Any) -> Engine:
    engine = Engine(
        Settings({key.replace("__", "."): value for key, value in settings.items()}), folder
    )
    engine.register(shelf)
    return engine

"""An engine over a few small tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jammi_lab.engine import Engine, Prepared
from jammi_lab.values.anchors import InputKind
from tests.engine.shelf import ACCENTS, PAPERS, PHYSICAL, TOP, VENUES, Shelf, engine_of


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.frame("papers", table=PAPERS, kind=InputKind.SOURCE)
    shelf.frame("venues", table=VENUES, kind=InputKind.SOURCE)
    shelf.frame("accents", table=ACCENTS)
    shelf.frame("jammi", "top", table=TOP, kind=InputKind.RESULT)
    shelf.frame("jammi", PHYSICAL, table=TOP, kind=InputKind.RESULT)
    shelf.frame(f"jammi.{PHYSICAL}", table=TOP, kind=InputKind.RESULT, name=PHYSICAL)
    return shelf


@pytest.fixture
def engine(shelf: Shelf, tmp_path: Path) -> Iterator[Engine]:
    engine = engine_of(shelf, tmp_path / "spill")
    yield engine
    left = engine.session(None).main.cursor().execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal").fetchall()
    engine.close()
    assert left == [("memory",)], "a statement left its namespace attached"


@pytest.fixture
def prepare(engine: Engine) -> Callable[..., Prepared]:
    def prepare(sql: str, **params: Any) -> Prepared:
        [prepared] = engine.prepare(sql, params)
        return prepared

    return prepare


@pytest.fixture
def rows(prepare: Callable[..., Prepared]) -> Callable[..., list[dict[str, Any]]]:
    def rows(sql: str, **params: Any) -> list[dict[str, Any]]:
        return prepare(sql, **params).run().table().to_pylist()  # type: ignore[no-any-return]

    return rows

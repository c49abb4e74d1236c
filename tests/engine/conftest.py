"""An engine over a few small tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jammi_lab.engine import Engine, PreparedStatement
from tests.engine.shelf import ACCENTS, PAPERS, PHYSICAL, TOP, VENUES, Shelf, engine_of


def _filled(shelf: Shelf) -> Shelf:
    shelf.relations, shelf.asked = {}, []
    shelf.frame("papers", table=PAPERS, kind="source")
    shelf.frame("venues", table=VENUES, kind="source")
    shelf.frame("accents", table=ACCENTS)
    shelf.frame("jammi", "top", table=TOP, kind="result")
    shelf.frame("jammi", PHYSICAL, table=TOP, kind="result")
    shelf.frame(f"jammi.{PHYSICAL}", table=TOP, kind="result", name=PHYSICAL)
    return shelf


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shelf, Engine]]:
    """The shelf and the engine of all tests of a module that is marked `one_engine`."""
    shelf = Shelf()
    engine = engine_of(shelf, tmp_path_factory.mktemp("engine") / "spill")
    yield shelf, engine
    engine.close()


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> Shelf:
    together = request.node.get_closest_marker("one_engine")
    return _filled(request.getfixturevalue("_shared")[0] if together else Shelf())


@pytest.fixture
def engine(shelf: Shelf, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    together = request.node.get_closest_marker("one_engine")
    engine = (
        request.getfixturevalue("_shared")[1] if together else engine_of(shelf, tmp_path / "spill")
    )
    yield engine
    left = (
        engine.instances_of(None)
        .main.cursor()
        .execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        .fetchall()
    )
    if not together:
        engine.close()
    assert left == [("memory",)], "a statement left its namespace attached"


@pytest.fixture
def prepare(engine: Engine) -> Callable[..., PreparedStatement]:
    def prepare(sql: str, **params: Any) -> PreparedStatement:
        [prepared] = engine.prepare(sql, params)
        return prepared

    return prepare


@pytest.fixture
def rows(prepare: Callable[..., PreparedStatement]) -> Callable[..., list[dict[str, Any]]]:
    def rows(sql: str, **params: Any) -> list[dict[str, Any]]:
        return prepare(sql, **params).run().table().to_pylist()  # type: ignore[no-any-return]

    return rows

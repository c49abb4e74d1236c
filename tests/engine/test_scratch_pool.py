"""Statements that were run before over relations that cannot change: their scratch database is
kept, and preparing them again needs no DuckDB."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.anchors import result_input
from jammi_lab.core.errors import SqlError
from jammi_lab.engine import Engine, cancellable, stream
from jammi_lab.sources.base import ReadPlan, Relation
from tests.engine.shelf import Shelf, engine_of

COUNT = "SELECT count(*) AS n, max(name) AS name FROM jammi.small"


def put(shelf: Shelf, path: Path, rows: int, *, name: str = "small", **plan: Any) -> None:
    """A relation over a new Parquet file."""
    pq.write_table(pa.table({"id": range(rows), "name": [str(rows)] * rows}), path)
    shelf.put(
        "jammi",
        name,
        relation=Relation(
            result_input(name),
            ReadPlan(body=f"SELECT * FROM read_parquet('{path}')", **plan),
            columns={"id": "BIGINT", "name": "VARCHAR"},
        ),
    )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf()
    put(shelf, tmp_path / "one.parquet", 3, has_fixed_columns=True)
    return shelf


@pytest.fixture
def engine(shelf: Shelf, tmp_path: Path) -> Iterator[Engine]:
    engine = engine_of(shelf, tmp_path / "spill")
    yield engine
    engine.close()


def rows(engine: Engine, sql: str = COUNT, **params: Any) -> list[dict[str, Any]]:
    [prepared] = engine.prepare(sql, params)
    return prepared.run().table().to_pylist()  # type: ignore[no-any-return]


def scratch_databases(engine: Engine) -> set[str]:
    """The databases that statements left attached."""
    found = (
        engine.instances_of(None)
        .main.cursor()
        .execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        .fetchall()
    )
    return {name for (name,) in found} - {"memory"}


@pytest.fixture
def submissions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pieces of work that were given to other threads, by the name of the thread."""
    names = list[str]()
    for module in (cancellable, stream):
        submit = module.submit

        def counted(
            work: Callable[[], None], name: str, submit: Callable[..., None] = submit
        ) -> None:
            names.append(name)
            submit(work, name)

        monkeypatch.setattr(module, "submit", counted)
    return names


def test_equal_values_of_parameters_are_bound_once_and_others_again(
    engine: Engine, submissions: list[str]
) -> None:
    sql = "SELECT typeof($x) AS t, $x AS x, count(*) AS n FROM jammi.small"
    for value, kind in ((1, "INTEGER"), (True, "BOOLEAN"), (1.0, "DOUBLE"), ("1", "VARCHAR")):
        assert [row["t"] for row in rows(engine, sql, x=value)] == [kind]
    assert [str(rows(engine, sql, x=x)[0]["x"]) for x in (0.0, -0.0)] == ["0.0", "-0.0"]
    submissions.clear()
    assert [row["t"] for row in rows(engine, sql, x=True)] == ["BOOLEAN"]
    assert submissions == ["jammi-statement"]


def test_a_name_that_means_another_table_is_read_from_that_table(
    engine: Engine, shelf: Shelf, tmp_path: Path
) -> None:
    assert rows(engine) == [{"n": 3, "name": "3"}]
    put(shelf, tmp_path / "two.parquet", 5, has_fixed_columns=True)
    assert rows(engine) == [{"n": 5, "name": "5"}]
    assert len(scratch_databases(engine)) == 2


def test_what_may_change_leaves_no_view_behind(
    engine: Engine, shelf: Shelf, tmp_path: Path
) -> None:
    put(shelf, tmp_path / "two.parquet", 5)
    assert rows(engine) == [{"n": 5, "name": "5"}]
    assert not scratch_databases(engine)


def test_a_run_that_failed_or_was_left_leaves_no_database(engine: Engine) -> None:
    with pytest.raises(SqlError):
        rows(engine, "SELECT error(name) FROM jammi.small")
    [prepared] = engine.prepare("SELECT * FROM jammi.small, range(10_000_000)")
    prepared.run().close()
    assert not scratch_databases(engine)
    assert rows(engine) == [{"n": 3, "name": "3"}]


def test_runs_at_the_same_time_have_databases_of_their_own(engine: Engine) -> None:
    answers = list[list[dict[str, Any]]]()
    threads = [
        threading.Thread(target=lambda: answers.extend(rows(engine) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[{"n": 3, "name": "3"}]] * 80
    assert len(scratch_databases(engine)) == 1


def test_a_relation_is_released_after_every_run(engine: Engine, shelf: Shelf) -> None:
    [(parts, relation)] = shelf.relations.items()
    users = list[int]()

    def acquire() -> Callable[[], None]:
        users.append(1)
        return lambda: users.append(-1)

    shelf.put(
        *parts,
        relation=Relation(
            **{field: getattr(relation, field) for field in ("input", "read", "columns")},
            acquire=acquire,
        ),
    )
    rows(engine)
    rows(engine)
    assert users == [1, -1, 1, -1]

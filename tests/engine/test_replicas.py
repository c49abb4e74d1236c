"""The instance that binds statements: one for all workspaces of a process, another for each
tenant."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from jammi_lab.core.errors import SqlError
from jammi_lab.core.settings import Settings
from jammi_lab.engine import Engine
from jammi_lab.engine.duckdb_instances import Replicas
from jammi_lab.engine.sql import read_set
from tests.engine.shelf import PAPERS, Shelf, engine_of


def test_workspaces_share_an_instance_per_time_zone_and_tenants_have_their_own() -> None:
    zones = [Settings({"engine.timezone": zone}) for zone in ("UTC", "UTC", "Asia/Tokyo")]
    one, other, japan = (Replicas(settings, is_shared=True) for settings in zones)
    tenant = Replicas(zones[0], is_shared=False)
    with one.borrow() as a, other.borrow() as b, japan.borrow() as c, tenant.borrow() as d:
        assert a is b
        assert len({id(each) for each in (a, c, d)}) == 3
        assert c.cursor().execute("SELECT current_setting('TimeZone')").fetchone() == (
            "Asia/Tokyo",
        )
    tenant.close()
    one.close()
    with other.borrow() as b:
        assert b.cursor().execute("SELECT 1").fetchone() == (1,)


def test_an_instance_that_failed_is_replaced() -> None:
    replicas = Replicas(Settings({}), is_shared=True)
    with (
        pytest.raises(duckdb.InternalException),
        replicas.borrow() as failed,
    ):
        raise duckdb.InternalException("INTERNAL Error: it failed")
    with replicas.borrow() as instance:
        assert instance is not failed
        assert instance.cursor().execute("SELECT 1").fetchone() == (1,)


def test_two_workspaces_bind_tables_of_one_name_and_other_columns(tmp_path: Path) -> None:
    engines = list[Engine]()
    for number, columns in enumerate((["id"], ["venue", "year"])):
        shelf = Shelf()
        shelf.frame("papers", table=PAPERS.select(columns))
        engines.append(engine_of(shelf, tmp_path / str(number)))
    outputs = [engine.prepare("SELECT * FROM papers")[0].output for engine in engines]
    assert [[name for name, _ in output] for output in outputs] == [["id"], ["venue", "year"]]
    for engine in engines:
        engine.close()


TENANT = "acme"
"""A tenant, so that no replicas of other tests are in the instance."""


def databases(engine: Engine) -> set[str]:
    """The databases of replicas in the instance that binds."""
    with engine.instances_of(TENANT).replicas.borrow() as instance:
        found = instance.cursor().execute("SELECT database_name FROM duckdb_databases()").fetchall()
    return {name for (name,) in found if name.startswith("__jammi_")}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def engine(shelf: Shelf, tmp_path: Path) -> Iterator[Engine]:
    engine = engine_of(shelf, tmp_path)
    yield engine
    engine.close()


def test_replicas_of_the_same_tables_are_kept_for_the_next_text(
    shelf: Shelf, engine: Engine
) -> None:
    shelf.frame("replicated", table=PAPERS)
    engine.prepare("SELECT id FROM replicated", tenant=TENANT)
    kept = databases(engine)
    outputs = [
        engine.prepare(f"SELECT {text} FROM replicated", tenant=TENANT)[0].output
        for text in ("venue AS v", "count(*) AS n", "id + 1 AS id")
    ]
    assert outputs == [[("v", "VARCHAR")], [("n", "BIGINT")], [("id", "BIGINT")]]
    assert databases(engine) == kept
    shelf.frame("replicated", table=PAPERS.select(["id"]))
    with pytest.raises(SqlError):
        engine.prepare("SELECT venue AS w FROM replicated", tenant=TENANT)
    [prepared] = engine.prepare("SELECT * FROM replicated LIMIT 1", tenant=TENANT)
    assert prepared.output == [("id", "BIGINT")]
    assert databases(engine) > kept


def test_replicas_go_after_an_error(shelf: Shelf, engine: Engine) -> None:
    shelf.frame("broken", table=PAPERS)
    engine.prepare("SELECT id FROM broken", tenant=TENANT)
    before = databases(engine)
    with pytest.raises(SqlError):  # nobody knows what is left on the cursor
        engine.prepare("SELECT absent FROM broken", tenant=TENANT)
    assert len(databases(engine)) == len(before) - 1
    engine.prepare("SELECT max(year) FROM broken", tenant=TENANT)
    assert not databases(engine) <= before


def test_replicas_of_two_statements_at_the_same_time_are_not_shared() -> None:
    with Replicas(Settings({}), is_shared=False).borrow() as instance:
        schemas = {("t",): {"id": "BIGINT"}}
        with (
            read_set.kept_replica_tables(instance, schemas) as one,
            read_set.kept_replica_tables(instance, schemas) as other,
        ):
            assert one.database != other.database
        with read_set.kept_replica_tables(instance, schemas) as again:
            assert again.database == one.database

"""The instance that binds statements: one for all workspaces and tenants of a process."""

import duckdb
import pytest

from jammi_lab.core.errors import SqlError
from jammi_lab.core.settings import Settings
from jammi_lab.engine import Engine
from jammi_lab.engine.duckdb_instances import borrow_replicas
from tests.engine.shelf import PAPERS, Shelf, engine_of


def databases() -> list[tuple[str, ...]]:
    """The databases that statements left."""
    with borrow_replicas(Settings({})) as instance, instance.cursor() as cursor:
        return cursor.execute(
            "SELECT database_name FROM duckdb_databases() WHERE NOT internal"
        ).fetchall()


def test_workspaces_share_an_instance_per_time_zone():
    zones = [Settings({"engine.timezone": zone}) for zone in ("UTC", "UTC", "Asia/Tokyo")]
    one, other, japan = map(borrow_replicas, zones)
    with one as a, other as b, japan as c:
        assert a is b and c is not a
        assert c.cursor().execute("SELECT current_setting('TimeZone')").fetchone() == (
            "Asia/Tokyo",
        )


def test_an_instance_that_failed_is_replaced():
    with (
        pytest.raises(duckdb.InternalException),
        borrow_replicas(Settings({})) as failed,
    ):
        raise duckdb.InternalException("INTERNAL Error: it failed")
    with borrow_replicas(Settings({})) as instance:
        assert instance is not failed
        assert instance.cursor().execute("SELECT 1").fetchone() == (1,)


def test_two_workspaces_bind_tables_of_one_name_and_other_columns(tmp_path):
    engines = list[Engine]()
    for number, columns in enumerate((["id"], ["venue", "year"])):
        shelf = Shelf()
        shelf.frame("papers", table=PAPERS.select(columns))
        engines.append(engine_of(shelf, tmp_path / str(number)))
    outputs = [engine.prepare("SELECT * FROM papers")[0].output for engine in engines]
    assert [[name for name, _ in output] for output in outputs] == [["id"], ["venue", "year"]]
    for engine in engines:
        engine.close()


def test_nothing_of_a_statement_is_left_where_another_tenant_binds(tmp_path, shelf):
    engine = engine_of(shelf, tmp_path)
    shelf.frame("secret", table=PAPERS)
    engine.prepare("SELECT id FROM secret", tenant="acme")
    with pytest.raises(SqlError):
        engine.prepare("SELECT absent FROM secret", tenant="acme")
    assert databases() == [("memory",)]
    engine.close()

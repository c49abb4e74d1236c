"""The instance that binds statements: one for all workspaces of a process, another for each
tenant."""

from pathlib import Path

import duckdb
import pytest

from jammi_lab.core.settings import Settings
from jammi_lab.engine import Engine
from jammi_lab.engine.duckdb_instances import Replicas
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

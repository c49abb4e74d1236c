"""A text that is run again is not resolved and bound again while all its names mean the same; any
change of what they mean is seen by the next run."""

import gc
import threading
from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.engine import engine as engine_module
from jammi_lab.store import read_leases
from tests.conftest import settled
from tests.inside import record_of, services_of

COUNT = "SELECT count(*) FROM jammi.numbers"


@pytest.fixture
def engine(ws):
    return services_of(ws).engine


@pytest.fixture
def resolved(monkeypatch):
    """The texts whose names were resolved."""
    texts, resolve = [], engine_module.resolve

    def noted(parsed, *args):
        texts.append(parsed.text)
        return resolve(parsed, *args)

    monkeypatch.setattr(engine_module, "resolve", noted)
    return texts


def make(ws, rows, name="numbers"):
    return ws.materialize(name, f"SELECT i AS id FROM range({rows}) r(i)")


def rows(ws, sql=COUNT, **params):
    return ws.sql(sql, **params).fetchall()


def test_a_repeated_statement_is_not_resolved_again(ws, resolved):
    make(ws, 3)
    del resolved[:]
    assert [rows(ws) for _ in range(3)] == [[(3,)]] * 3
    assert resolved == [COUNT]


def test_a_statement_with_parameters_over_a_source_or_with_changes_is_resolved_again(ws, resolved):
    make(ws, 3)
    ws.sources.add("frame", pa.table({"x": [1, 2]}))
    ws.mutable.create("notes", {"id": "int64"}, primary_key=["id"])
    for sql, params in [
        (f"{COUNT} WHERE id > $low", {"low": 0}),
        ("SELECT count(*) FROM frame", {}),
        ("SELECT count(*) FROM frame, jammi.numbers", {}),
        ("SELECT count(*) FROM mutable.notes", {}),
    ]:
        del resolved[:]
        rows(ws, sql, **params), rows(ws, sql, **params)
        assert resolved == [sql] * 2, sql
    insert = "INSERT INTO mutable.notes VALUES (1)"
    ws.sql(insert)
    with pytest.raises(jl.JammiError):
        ws.sql(insert)
    assert rows(ws, "SELECT count(*) FROM mutable.notes") == [(1,)]


def test_a_new_version_is_read_at_once_also_one_of_another_kernel(ws, tmp_path):
    make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    make(ws, 4)
    assert rows(ws) == rows(ws) == [(4,)]
    with jl.open(tmp_path / "lab") as other:
        make(other, 5)
        assert rows(ws) == [(5,)]


def test_an_alias_and_the_recipe_that_takes_its_name_are_read_at_once(ws):
    make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    ws.rename("numbers", "digits")
    result = ws.sql(COUNT)
    assert (result.fetchall(), result.inputs[0].name) == ([(3,)], "numbers")
    make(ws, 7)
    assert rows(ws) == [(7,)]


def test_a_dropped_table_is_missing_at_once(ws):
    make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    ws.drop("numbers")
    with pytest.raises(jl.TableNotFound):
        rows(ws)


def test_damage_is_found_at_once(ws):
    table = make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    Path(table.path).write_bytes(b"damaged")
    with pytest.raises(jl.TableDamaged):
        rows(ws)


def test_each_tenant_reads_its_own_table(ws):
    make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    with ws.tenant("acme"):
        assert rows(ws) == [(3,)]
        make(ws, 9)
        assert rows(ws) == rows(ws) == [(9,)]
    assert rows(ws) == [(3,)]


def test_another_thread_sees_what_it_should(ws):
    make(ws, 3)
    assert rows(ws) == rows(ws) == [(3,)]
    found = []
    for size in (4, 5):
        make(ws, size)
        thread = threading.Thread(target=lambda: found.extend(rows(ws) + rows(ws)))
        thread.start()
        thread.join()
    assert found == [(4,), (4,), (5,), (5,)]


def test_kept_statements_hold_no_lease_but_running_ones_do(ws, engine):
    table = make(ws, 1_000_000)
    path = Path(table.path)
    assert rows(ws) == rows(ws) == [(1_000_000,)]
    gc.collect()
    assert not settled(lambda: read_leases.is_leased(path))
    everything = "SELECT id FROM jammi.numbers"
    ws.sql(everything).close()
    result = ws.sql(everything)
    assert read_leases.is_leased(path)
    result.close()
    prepared = engine.prepare(everything)
    assert read_leases.is_leased(path)
    del prepared
    assert not read_leases.is_leased(path)
    assert record_of(table).status == "ready"


def test_a_table_that_goes_between_preparing_and_running_can_still_be_read(ws, engine):
    make(ws, 3)
    rows(ws)
    [prepared] = engine.prepare(COUNT, allow_dml=True)
    ws.drop("numbers")
    assert prepared.run().table().to_pydict() == {"count_star()": [3]}


def test_a_result_is_read_again_from_the_same_version(ws):
    make(ws, 3)
    for _ in range(2):
        result = ws.sql("SELECT id FROM jammi.numbers ORDER BY id")
        assert result.fetchall() == [(0,), (1,), (2,)]
        assert [i.name for i in result.inputs] == ["numbers"]
        assert result.staleness().keys() == {"numbers"}

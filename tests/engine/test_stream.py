"""Rows as Arrow: exact types, batches, and what happens to a stream that is not read to its end."""

import threading

import duckdb
import pyarrow as pa
import pytest

from jammi_lab.core import cancellable as waiting
from jammi_lab.core.errors import SessionClosed, SqlError
from jammi_lab.engine import stream
from jammi_lab.engine.sql import releases
from jammi_lab.engine.stream import StreamWorker
from tests.cases import cases

pytestmark = pytest.mark.one_engine


@pytest.mark.parametrize(
    ("expression", "kind", "value"), cases("results/arrow_values", "sql", "type", "value")
)
def test_values_come_out_exactly(prepare, expression, kind, value):
    if releases.IS_2 and expression == "NULL":
        kind = "null"
    table = prepare(f"SELECT {expression} AS v").run().table()
    assert table.schema.names == ["v"]
    assert str(table.schema.field(0).type) == kind
    assert repr(table["v"].to_pylist()) == f"[{value}]"


def test_an_unsigned_number_that_arrow_cannot_hold_is_an_error_and_not_another_number(
    prepare,
):
    with pytest.raises(Exception, match=r"(?i)cast|convert|range"):
        prepare("SELECT 340282366920938463463374607431768211455::UHUGEINT AS v").run().table()


def test_types_that_are_cast_keep_names_and_order(
    prepare,
):
    prepared = prepare('SELECT i::BIT AS a, i AS a, i AS "x y" FROM range(3) t(i) ORDER BY i DESC')
    table = prepared.run_ordered([]).table()
    assert table.schema.names == ["a", "a", "x y"]
    assert table.column(1).to_pylist() == [2, 1, 0]


@pytest.mark.parametrize("rows", [1, 7, 2048, 65_536, 10_000_000])
def test_batches_have_at_most_the_rows_that_were_asked_for(engine, shelf, rows):
    shelf.frame("big", table=pa.table({"x": list(range(3_000 if rows < 2048 else 200_000))}))
    sizes = [b.num_rows for b in engine.prepare("SELECT x FROM big")[0].run().batches(rows)]
    assert sum(sizes) == (3_000 if rows < 2048 else 200_000)
    assert 0 < max(sizes) <= rows


def test_the_schema_is_there_before_the_rows(prepare):
    stream = prepare("SELECT id, venue FROM papers WHERE false").run()
    assert stream.schema.names == ["id", "venue"]
    assert list(stream.batches()) == []
    assert stream.table().num_rows == 0


def test_a_table_holds_the_rows_that_were_not_taken(engine, shelf):
    shelf.frame("big", table=pa.table({"x": list(range(300_000))}))
    stream = engine.prepare("SELECT x FROM big")[0].run()
    first = next(stream.batches())
    assert stream.table().num_rows == 300_000 - first.num_rows


def test_a_closed_stream_says_so(prepare):
    stream = prepare("SELECT id FROM papers").run()
    stream.close()
    stream.close()
    with pytest.raises(SessionClosed, match="closed"):
        next(stream.batches())


def test_an_error_in_the_middle_of_the_rows_is_typed_and_ends_the_stream(engine, shelf):
    shelf.frame("big", table=pa.table({"x": list(range(3_000_000))}))
    [prepared] = engine.prepare(
        "SELECT x, CASE WHEN x < 2900000 THEN 1 ELSE error('late') END AS y FROM big"
    )
    with pytest.raises(SqlError, match="Late"):
        prepared.run().table()


class Late:
    """A cursor whose statement begins when `begins` is set, and hears no interrupt that came
    before."""

    def __init__(self) -> None:
        self.called, self.begins, self.interrupted = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )

    @property
    def cursor(self) -> "Late":
        """Also the run's own cursor."""
        return self

    def begin(self, settings: object) -> None:
        """Nothing is acquired."""

    def end(self) -> None:
        """Nothing is held."""

    def execute(self, sql: str, params: object = None) -> "Late":
        if sql == "SELECT 1":
            self.called.set()
            self.begins.wait(30)
            self.interrupted.clear()
            assert self.interrupted.wait(30)
            raise InterruptedError
        return self

    def interrupt(self) -> None:
        self.interrupted.set()


@pytest.mark.parametrize(
    "why",
    [RuntimeError("can't start new thread"), KeyboardInterrupt()],
    ids=["no thread", "interrupt"],
)
def test_a_statement_that_no_thread_ever_began_is_over_at_once(prepare, why, monkeypatch):
    def fail(*_: object) -> None:
        raise why

    pumps, make = list[StreamWorker](), StreamWorker.start

    def start(self: StreamWorker, with_progress: bool) -> None:
        pumps.append(self)
        make(self, with_progress)

    statement = prepare("SELECT 1 AS x")
    with monkeypatch.context() as patched:
        patched.setattr(StreamWorker, "start", start)
        patched.setattr(stream, "submit", fail)
        patched.setattr(waiting, "submit", fail)
        with pytest.raises(type(why)):
            statement.run()
    [pump] = pumps
    assert pump.finished.is_set() and pump.stop()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        pump.run_cursor.cursor.execute("SELECT 1")
    pump._run()  # a thread that comes too late finds nothing to do
    assert pump.error is None

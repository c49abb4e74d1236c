"""Instances, namespaces, interrupts, threads."""

import gc
import os
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jammi_lab.core import cancellable as waiting
from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SessionClosed,
    SqlError,
    TableNotFound,
)
from jammi_lab.engine import Engine
from jammi_lab.engine import instance_pool as session
from jammi_lab.engine import tenant_instances as instances
from jammi_lab.engine.stream import StreamWorker
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from tests import processes
from tests.engine.shelf import Shelf, engine_of
from tests.sizes import sized, soak
from tests.waiting import in_threads

ROOT = Path(__file__).resolve().parents[2]
LONG = "SELECT count(DISTINCT hash(a.range + b.range)) AS n FROM range(30000) a, range(30000) b"

MEASURED = "SELECT count(DISTINCT hash(range)) AS n FROM range({})"
"""One of the shapes whose progress DuckDB can tell."""


def attached(engine: Engine) -> list[str]:
    rows = (
        engine.instances_of(None)
        .main.cursor()
        .execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        .fetchall()
    )
    return sorted(name for (name,) in rows)


def test_several_statements_are_gated_before_the_first_is_prepared(shelf, engine):
    with pytest.raises(JammiError):
        engine.prepare("SELECT id FROM papers; DROP TABLE papers")
    assert shelf.asked == []


def test_several_statements_come_in_order(engine):
    prepared = engine.prepare("SELECT 1 AS x;\n-- then\nSELECT 2 AS x; SELECT 3 AS x;")
    assert [p.run().table()["x"].to_pylist() for p in prepared] == [[1], [2], [3]]
    assert [p.statement for p in prepared] == [
        "SELECT 1 AS x",
        "-- then\nSELECT 2 AS x",
        "SELECT 3 AS x",
    ]


def test_explain_shows_the_plan_and_reads_the_inputs(
    prepare,
):
    prepared = prepare("EXPLAIN SELECT id FROM papers WHERE year > $y", y=1)
    table = prepared.run().table()
    assert (
        table.schema.names
        == [name for name, _ in prepared.output]
        == ["explain_key", "explain_value"]
    )
    assert (
        "PROJECTION" in table["explain_value"][0].as_py()
        or "SCAN" in table["explain_value"][0].as_py()
    )
    assert prepared.volatile == ("explain",)


def test_extra_providers_are_asked_after_the_registered_ones(shelf, engine):
    extra = Shelf()
    extra.frame("papers", table=pa.table({"wrong": [1]}))
    extra.frame("variable", table=pa.table({"v": [7]}))
    [prepared] = engine.prepare(
        "SELECT v, id FROM variable, papers LIMIT 1", extra_resolvers=[extra]
    )
    assert prepared.run().table().to_pylist() == [{"v": 7, "id": 1}]
    with pytest.raises(TableNotFound):
        engine.prepare("FROM variable")


def test_a_prepared_statement_keeps_the_version_that_it_was_prepared_with(shelf, engine):
    [first] = engine.prepare("SELECT score FROM jammi.top")
    shelf.frame("jammi", "top", table=pa.table({"id": [1], "score": [9.0]}), kind="result")
    [second] = engine.prepare("SELECT score FROM jammi.top")
    one, other = first.run(), second.run()
    assert other.table().to_pylist() == [{"score": 9.0}]
    assert one.table().to_pylist() == [{"score": 0.5}, {"score": 0.25}]
    assert first.run().table().to_pylist() == [{"score": 0.5}, {"score": 0.25}]


def test_tenants_see_only_their_own_instance(shelf, engine):
    assert engine.instances_of("a") is engine.instances_of("a")
    assert engine.instances_of("a").main is not engine.instances_of("b").main
    [prepared] = engine.prepare("SELECT count(*) AS n FROM papers", tenant="a")
    assert prepared.run().table().to_pylist() == [{"n": 4}]


def test_the_least_recently_used_instance_beyond_eight_is_closed(engine):
    first = engine.instances_of("t0")
    kept = engine.instances_of("t1")
    for number in range(2, 8):
        engine.instances_of(f"t{number}")
    assert engine.instances_of("t1") is kept
    engine.instances_of("t8")
    assert engine.instances_of("t1") is kept
    assert engine.instances_of("t0") is not first


def test_an_instance_with_an_open_stream_is_not_closed_for_others(shelf, engine):
    shelf.frame("big", table=pa.table({"x": list(range(2_000_000))}))
    held = engine.instances_of("t0")
    with engine.prepare("SELECT x FROM big", tenant="t0")[0].run() as stream:
        next(stream.batches())
        for number in range(1, 12):
            engine.instances_of(f"t{number}")
        assert engine.instances_of("t0") is held


def test_the_memory_budget_is_shared_out(shelf, tmp_path):
    engine = engine_of(shelf, tmp_path, engine__memory_limit="800MB")

    def limit(tenant: str) -> int:
        return session.duckdb_instances.memory_limit(engine.instances_of(tenant).main)

    alone = limit("a")
    engine.instances_of("b")
    assert limit("a") == pytest.approx(alone / 2, rel=0.02)
    engine.close()


@pytest.mark.parametrize("limit", ["-1", "none", "2000TB", "9999GB"])
def test_the_memory_budget_is_at_most_that_of_the_machine(shelf, tmp_path, limit):
    engine = engine_of(shelf, tmp_path, engine__memory_limit=limit)
    [[shown]] = engine.query("SELECT parse_formatted_bytes(current_setting('memory_limit'))")
    engine.close()
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert shown == pytest.approx(machine, rel=0.02)


@pytest.mark.parametrize(
    ("key", "value"), [("engine__memory_limit", "3 lots"), ("engine__temp_quota", "2 heaps")]
)
def test_a_setting_that_duckdb_does_not_take_is_named(shelf, tmp_path, key, value):
    engine = engine_of(shelf, tmp_path, **{key: value})
    with pytest.raises(InvalidArgument, match=key.replace("__", ".")):
        engine.prepare("SELECT 1")
    engine.close()


def test_the_time_zone_is_the_one_that_was_set_on_every_cursor(shelf, tmp_path):
    engine = engine_of(shelf, tmp_path, engine__timezone="Asia/Tokyo")
    [prepared] = engine.prepare("SELECT TIMESTAMPTZ '2020-01-01 20:00:00+00'::DATE::VARCHAR AS d")
    assert prepared.run().table().to_pylist() == [{"d": "2020-01-02"}]
    assert engine.environment()["timezone"] == "Asia/Tokyo"
    engine.close()


def test_a_closed_engine_says_so_and_closing_twice_is_fine(shelf, tmp_path):
    engine = engine_of(shelf, tmp_path)
    [prepared] = engine.prepare("SELECT 1")
    engine.close()
    engine.close()
    for call in (
        lambda: engine.prepare("SELECT 1"),
        prepared.run,
        lambda: engine.instances_of(None),
    ):
        with pytest.raises(SessionClosed, match="closed"):
            call()


@soak
def test_eight_threads_never_take_each_others_answers(shelf, engine):
    for number in range(8):
        shelf.frame("jammi", f"t{number}", table=pa.table({"x": [number] * 100}), kind="result")
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(sized(6, 50)):
            [prepared] = engine.prepare(
                f"SELECT DISTINCT x + $i AS v FROM jammi.t{number}", {"i": i}
            )
            rows = prepared.run().table().to_pylist()
            if rows != [{"v": number + i}] or [i.relation.input.name for i in prepared.inputs] != [
                f"t{number}"
            ]:
                wrong.append((number, i, rows))

    in_threads(work, range(8))
    assert wrong == []
    assert attached(engine) == ["memory"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nope FROM papers",
        "SELECT venue::INT FROM papers",
        "SELECT id FROM papers; SELECT id FROM nowhere",
        "SELECT error('x') FROM papers",
    ],
)
def test_nothing_is_left_attached_after_a_failure(engine, sql):
    replica_databases = list[object]()
    for _ in range(2):
        with pytest.raises(JammiError):
            engine.prepare(sql)[-1].run().table()
        assert attached(engine) == ["memory"]
        with engine.borrow_replicas() as replicas:
            count = "SELECT count(*) FROM duckdb_databases() WHERE NOT internal"
            replica_databases += replicas.cursor().execute(count).fetchall()
    assert replica_databases[0] == replica_databases[1]


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_closed_or_forgotten_stream_lets_go_of_its_namespace(shelf, engine, is_closed):
    shelf.frame("big", table=pa.table({"x": list(range(2_000_000))}))
    stream = engine.prepare("SELECT x FROM big")[0].run()
    next(stream.batches())
    assert attached(engine) != ["memory"]
    stream.close() if is_closed else None
    del stream
    gc.collect()
    assert attached(engine) == ["memory"]


def test_an_internal_failure_sets_the_instance_aside(engine, prepare):
    before = engine.instances_of(None)
    place = prepare("SELECT 1")._parsed.error_context()
    error = engine.translate_error(RuntimeError("INTERNAL Error: boom"), None, before, place)
    assert isinstance(error, SqlError)
    assert engine.instances_of(None) is not before
    session.RETIRED_INSTANCES.remove(before)
    before.close()


def test_closing_does_not_wait_for_an_instance_that_waits_for_a_server(tmp_path, monkeypatch):
    engine = engine_of(Shelf(), tmp_path)
    answered, held = threading.Event(), engine.instances_of(None)

    class Waiting:
        def close(self, real: Any = held.main) -> None:
            assert answered.wait(60)
            real.close()

    monkeypatch.setattr(instances, "CLOSE_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(held, "main", Waiting())
    engine.close()
    answered.set()
    while any(thread.name == "jammi-engine-close" for thread in threading.enumerate()):
        time.sleep(0.01)


# -- interrupts ------------------------------------------------------------------------------------

CHILD = f"""
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from tests.engine.shelf import Shelf, engine_of
import pyarrow as pa
shelf = Shelf()
shelf.frame("papers", table=pa.table({{"id": list(range(100))}}))
engine = engine_of(shelf, Path(sys.argv[1]))
engine.prepare("SELECT 1")[0].run().table()
def left():
    rows = engine.instances_of(None).main.cursor().execute("SELECT count(*) FROM duckdb_databases() WHERE NOT internal").fetchone()
    return rows[0]
def interrupted(work):
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    try:
        work()
    except KeyboardInterrupt as error:
        return time.monotonic() - began
    return None
LONG = {LONG!r}
def slow_consumer():
    n = 0
    for batch in engine.prepare("SELECT a.id FROM papers a, range(100000000)")[0].run().batches():
        n += batch.num_rows
for work in (
    lambda: engine.prepare(LONG)[0].run().table(),
    lambda: engine.prepare("SELECT id, n FROM papers, (" + LONG + ")")[0].run_ordered([]).table(),
    slow_consumer,
    lambda: engine.prepare(LONG)[0].run(on_progress=lambda p: None).table(),
):
    before = engine.instances_of(None)
    took = interrupted(work)
    after = engine.prepare("SELECT count(*) AS n FROM papers")[0].run().table().to_pylist()
    print("stopped" if took is not None and took < 20 else took, after, "kept" if engine.instances_of(None) is before else "new", left(), flush=True)
engine.close()
"""


def child(tmp_path: Path, code: str, delay: float) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = processes.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(delay)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()


STARTING = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from jammi_lab.engine import duckdb_instances as duck
from tests.engine.shelf import Shelf, engine_of
engine = engine_of(Shelf(), Path(sys.argv[1]))
start = duck.open_main
def slow(*given):
    made = start(*given)
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(1.5)  # a start that nothing can stop
    return made
duck.open_main = slow
try:
    engine.prepare("SELECT 1")[0].run().table()
except BaseException as error:
    print(type(error).__name__)
duck.open_main = start
print(engine.prepare("SELECT 1 AS x")[0].run().table().to_pylist())
engine.close()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()  # a start that took longer than an interrupt waits for
"""


def test_an_interrupt_while_the_engine_starts_is_an_interrupt_and_the_next_statement_works(
    tmp_path,
):
    assert child(tmp_path, STARTING, 0.2) == ["KeyboardInterrupt", "[{'x': 1}]"]


def test_an_interrupt_stops_the_statement_and_the_next_one_works(tmp_path):
    assert child(tmp_path, CHILD, 0.4) == ["stopped [{'n': 100}] kept 1"] * 4


def test_what_does_not_stop_is_set_aside_and_the_interrupt_comes_through(
    monkeypatch,
):
    monkeypatch.setattr(waiting, "STOP_TIMEOUT_SECONDS", 0.2)
    release, stuck = threading.Event(), []

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waiting.run_cancellable(
            release.wait, lambda: None, on_stuck=lambda: stuck.append(True), tick=tick
        )
    release.set()
    assert stuck == [True]


def test_an_error_of_the_progress_callback_stops_the_statement(engine, monkeypatch):
    monkeypatch.setattr(
        StreamWorker, "percent", lambda self: 50.0
    )  # DuckDB cannot tell for every plan

    def fail(percent: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.prepare(LONG)[0].run(on_progress=fail).table()
    assert attached(engine) == ["memory"]


def test_progress_is_told_in_percent(engine, monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.001)
    told: list[float] = []
    for rows in (
        3_000_000,
        12_000_000,
        40_000_000,
        120_000_000,
    ):  # longer ones where the machine leaves no time to look
        engine.prepare(MEASURED.format(rows))[0].run(on_progress=told.append).table()
        if told:
            break
    assert told
    assert all(0 <= percent <= 100 for percent in told)


def test_a_worker_sees_the_callers_context(engine):
    import contextvars

    bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="")
    bound.set("here")
    assert waiting.run_cancellable(bound.get, lambda: None) == "here"


def test_a_filesystem_of_a_relation_is_made_known(shelf, engine):
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/x.csv", "w") as file:
        file.write("a,b\n1,2\n")
    body = "SELECT * FROM read_csv('memory://x.csv')"
    shelf.put(
        "remote",
        relation=Relation(
            source_input("remote"),
            ReadPlan(body=body),
            requirements=Requirements(filesystem=memory),
        ),
    )
    for _ in range(2):
        assert engine.prepare("FROM remote")[0].run().table().to_pylist() == [{"a": 1, "b": 2}]

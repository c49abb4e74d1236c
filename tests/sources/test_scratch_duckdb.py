"""The DuckDB in which connectors look at things: one for all that needs none of its own, in which
nobody sees what another one does."""

import concurrent.futures
import contextlib
import os
import signal
import threading

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.sources import scratch_duckdb as scratch
from jammi_lab.sources.base import ReadPlan, Relation, Requirements
from jammi_lab.sources.scratch_duckdb import SharedInstance
from jammi_lab.storage import spill_folders as spills

HERE = source_input("it")


def body(text):
    return Relation(HERE, ReadPlan(body=text))


def frame(**columns):
    return Relation(HERE, ReadPlan(frame=pa.table(columns)))


def instance():
    with scratch.borrow_bare():
        return scratch._shared_instance._instance


def test_relations_that_need_nothing_share_an_instance_and_see_nothing_of_each_other():
    with (
        scratch.connect(body("SELECT 1 AS a")) as one,
        scratch.connect(frame(b=[2])) as other,
        scratch.borrow_bare() as bare,
    ):
        assert one.execute("FROM it").fetchall() == [(1,)] and other.execute(
            "FROM it"
        ).fetchall() == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            bare.execute("FROM it")
    before = instance()
    assert scratch.describe(body("SELECT 1 AS c")) == {"c": "INTEGER"} and instance() is before
    with scratch.borrow_bare() as bare:
        assert bare.execute(
            "SELECT count(*) FROM duckdb_views() WHERE NOT internal"
        ).fetchall() == [(0,)]


def test_many_threads_at_once(tmp_path):
    def look(number):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({f"c{number}": [number] * number}), path)
        relation = body(f"SELECT * FROM read_parquet('{path}')")
        scratch.preview(relation, 5)
        return scratch.describe(relation), scratch.query(relation, "SELECT count(*) FROM it")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(1, 60))) == [
            ({f"c{n}": "BIGINT"}, [(n,)]) for n in range(1, 60)
        ]


def test_a_file_that_is_rewritten_with_its_size_and_time_is_read_as_it_is(tmp_path):
    path = tmp_path / "x.parquet"
    relation = body(f"SELECT * FROM read_parquet('{path}')")

    def write(name, value):
        pq.write_table(
            pa.table({name: pa.array([value], pa.int64())}),
            path,
            compression="none",
            use_dictionary=False,
        )
        os.utime(path, ns=(10**18, 10**18))
        return path.stat().st_size

    sizes = set()
    for number in range(4):
        sizes.add(write(f"c{number}", number))
        assert scratch.describe(relation) == {f"c{number}": "BIGINT"}
        assert scratch.query(relation, "FROM it") == [(number,)]
    assert len(sizes) == 1


@pytest.mark.parametrize("name", ["httpfs", "avro"])
def test_what_needs_an_extension_has_an_instance_of_its_own(name):
    scratch.describe(
        Relation(
            HERE, ReadPlan(body="SELECT 1 AS a"), requirements=Requirements(extensions=(name,))
        )
    )
    with scratch.borrow_bare() as bare:
        found = bare.execute(
            "SELECT loaded FROM duckdb_extensions() WHERE extension_name = ?", [name]
        ).fetchall()
    assert found == [(False,)]


def test_an_interrupt_is_one_and_the_next_question_is_answered():
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        scratch.query(
            body("SELECT sum(a.range * b.range) AS s FROM range(100000) a, range(1000000) b"),
            "FROM it",
        )
    assert scratch.query(body("SELECT 1 AS a"), "FROM it") == [(1,)]


@pytest.mark.parametrize("extensions", [(), ("avro",)])
def test_what_memory_does_not_hold_lies_in_no_working_folder_of_the_moment(
    tmp_path, monkeypatch, extensions
):
    monkeypatch.setitem(scratch.CONFIG, "memory_limit", "60MB")
    large = Relation(
        HERE,
        ReadPlan(body="SELECT range AS a, md5(range::VARCHAR) AS b FROM range(1500000)"),
        requirements=Requirements(extensions=extensions),
    )
    with contextlib.suppress(duckdb.Error):
        scratch.describe(body("SELECT nothing"))  # after which there is another instance
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with scratch.connect(large) as connection:
            rows = connection.execute("FROM it ORDER BY ALL").to_arrow_reader()
            assert rows.read_next_batch().num_rows and any(
                spills.process_folder[0].folder.iterdir()
            )
        assert os.listdir() == []
    with contextlib.suppress(duckdb.Error):
        scratch.describe(body("SELECT nothing"))


def test_a_loan_that_is_collected_while_the_instance_is_opened_waits_for_nobody():
    def opened():
        loans.clear()
        return duckdb.connect(config={"threads": "1"})

    loans, kept = (
        [],
        SharedInstance(lambda: duckdb.connect(config={"threads": "1"}), lambda _: True),
    )
    loans.append(kept.borrow())
    loans[0].__enter__()
    kept._instance, kept._open_instance = None, opened
    thread = threading.Thread(target=lambda: kept.borrow().__enter__(), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and not loans


def test_a_process_that_was_forked_off_has_one_of_its_own():
    before = instance()
    if (pid := os.fork()) == 0:
        os._exit(
            0
            if instance() is not before
            and scratch.query(body("SELECT 1 AS a"), "FROM it") == [(1,)]
            else 1
        )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert instance() is before


def test_types_are_known_whatever_became_of_the_connection_of_the_process():
    duckdb.execute("BEGIN")
    try:
        with pytest.raises(duckdb.ConversionException):
            duckdb.execute("SELECT 'x'::INT")
        assert scratch.arrow_type("varchar") == pa.string()
        assert scratch.arrow_type("mood") is None
    finally:
        duckdb.execute("ROLLBACK")


def test_a_type_is_not_unknown_for_want_of_memory(monkeypatch):
    class Exhausted:
        def register(self, *_):
            raise duckdb.OutOfMemoryException("Allocation failure")

        sqltype = register

    rows = pa.schema([("a", pa.decimal128(37, 11))])
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "borrow_bare", lambda: contextlib.nullcontext(Exhausted()))
        for ask in (lambda: scratch.arrow_type("bigint"), lambda: scratch.sql_types(rows)):
            with pytest.raises(duckdb.OutOfMemoryException):
                ask()
    assert scratch.sql_types(rows) == {"a": "DECIMAL(37,11)"}

import decimal
import errno
import os

import duckdb
import polars
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.core.anchors import Cost, Snapshot, Unknown, Vanished
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import SourceContext
from jammi_lab.sources.files import csv_files, text_bytes
from jammi_lab.sources.files import snapshots as sightings
from jammi_lab.sources.files.remote_files import file_set_for
from jammi_lab.sources.locations import store_location
from jammi_lab.sources.registry import connector_for, infer_kind
from jammi_lab.sources.scratch_duckdb import describe, query
from jammi_lab.storage.files import to_stat
from tests.contracts.source import Describing, DictMemo, observed, same_state
from tests.sizes import examples
from tests.sources.kinds import FILE_KINDS, bytes_of
from tests.verdicts import is_fresh, is_stale

FIRST = [(1, "a"), (2, "b"), (3, "c")]
EDITED = [(1, "a"), (2, "X"), (3, "c")]
GROWN = [*FIRST, (4, "d")]


def as_table(rows):
    return pa.table(
        {"id": pa.array([r[0] for r in rows], pa.int64()), "name": [r[1] for r in rows]}
    )


def put(path, kind="csv", rows=FIRST):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes_of(kind, as_table(rows)))


def source(location, kind=None, folder=None, **more):
    record = SourceRecord(
        name="s",
        kind=kind or infer_kind(location),
        location=store_location(location, folder),
        **more,
    )
    return connector_for(record, context=SourceContext(folder))


@pytest.fixture(params=sorted(FILE_KINDS))
def kind(request):
    return request.param


# -- what a look costs -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["file", "folder", "glob"])
def test_a_look_on_unchanged_files_opens_none_and_stats_each_once(
    tmp_path, kind, shape, monkeypatch
):
    for n in range(3):
        put(tmp_path / f"{n}.{kind}", kind)
    connector = source(
        {"file": tmp_path / f"0.{kind}", "folder": tmp_path, "glob": tmp_path / f"*.{kind}"}[shape]
    )
    memo = DictMemo()
    first = observed(connector, memo, later=True)
    again = connector_for(connector.record)  # as after a restart
    stats, plain = [], os.lstat
    monkeypatch.setattr(
        os, "lstat", lambda path, *a, **k: (stats.append(str(path)), plain(path, *a, **k))[1]
    )
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("a file was opened"))
    describing = Describing()
    second = observed(again, memo, later=True, describe=describing)
    monkeypatch.undo()
    assert second.cost is Cost.FREE and describing.calls == 0 and same_state(first, second)
    assert len([s for s in stats if s.endswith(kind)]) == (1 if shape == "file" else 3)


@pytest.fixture
def decisions(monkeypatch):
    """The CSV files of each decision."""
    made, plain = [], csv_files.decide

    def counted(kind, files, relation_of):
        made.append([file.path for file in files])
        return plain(kind, files, relation_of)

    monkeypatch.setattr(csv_files, "decide", counted)
    return made


def test_a_file_is_decided_again_when_it_changed_and_by_another_release(
    tmp_path, decisions, monkeypatch
):
    put(tmp_path / "f.csv")
    connector, memo = source(tmp_path / "f.csv"), DictMemo()
    for _ in range(2):
        observed(connector, memo)
    assert len(decisions) == 1
    (tmp_path / "f.csv").write_text("id,name,more\n1,a,2.5\n")
    columns = {"id": "BIGINT", "name": "VARCHAR", "more": "DOUBLE"}
    assert observed(connector, memo).columns == columns and len(decisions) == 2
    assert dict(connector.relation(None).columns) == columns
    decisions.clear()
    monkeypatch.setattr(duckdb, "__version__", "another")
    observed(connector, memo)
    assert len(decisions) == 1


@pytest.mark.parametrize(("grain_seconds", "number"), [(-1.0, 1), (60.0, 4)])
def test_a_decision_outlives_the_process_once_the_clock_has_ticked(
    tmp_path, decisions, monkeypatch, grain_seconds, number
):
    monkeypatch.setattr("jammi_lab.sources.files.decisions.CLOCK_SECONDS", grain_seconds)
    (tmp_path / "f.csv").write_text("id,zip\n1,01010\n2,94110\n")
    record = SourceRecord(name="s", kind="csv", location=str(tmp_path / "f.csv"))
    context = SourceContext(memo=DictMemo())
    for _ in range(2):
        connector = connector_for(record, context=context)
        assert query(connector.relation(None), "FROM it") == [(1, "01010"), (2, "94110")]
        assert connector.notes() == ['zip: text, because "01010" begins with 0']
    assert len(decisions) == number
    monkeypatch.setattr(duckdb, "__version__", "another")
    decisions.clear()
    connector_for(record, context=context).relation(None)
    assert len(decisions) == 1


def test_only_the_files_that_moved_count_against_the_bound(tmp_path):
    for n in range(9):
        put(tmp_path / f"{n}.csv")
    connector, memo = source(tmp_path), DictMemo()
    observed(connector, memo, later=True)
    put(tmp_path / "4.csv", "csv", EDITED)
    assert isinstance(observed(connector, memo, later=True, scan_bytes=30), Snapshot)


# -- what moves a source and what does not ---------------------------------------------------------


def test_rows_that_move_between_partitions_move_the_partition_s_column(tmp_path):
    def fill(first, second):
        put(tmp_path / "year=2020" / "p.parquet", "parquet", first)
        put(tmp_path / "year=2021" / "p.parquet", "parquet", second)

    fill(FIRST[:1], FIRST[1:])
    connector = source(tmp_path)
    assert query(connector.relation(None), "SELECT id, year FROM it ORDER BY id") == [
        (1, 2020),
        (2, 2021),
        (3, 2021),
    ]
    before = observed(connector)
    fill(FIRST[:2], FIRST[2:])
    after = observed(connector)
    assert before.by_column is not None and before.row_count == after.row_count == 3
    assert not same_state(before, after, ("year",))


@pytest.mark.parametrize("how", ["folder", "glob"])
def test_the_same_bytes_under_another_folder_that_sets_a_column_are_another_state(
    tmp_path, kind, how
):
    states = []
    for year in ("2020", "2021"):
        put(tmp_path / f"year={year}" / f"f.{kind}", kind)
        os.utime(tmp_path / f"year={year}" / f"f.{kind}", (1, 1))
        states.append(
            observed(
                source(tmp_path / f"year={year}" / (f"*.{kind}" if how == "glob" else ""), kind)
            )
        )
    assert same_state(*states) == ("year" not in states[0].columns)


def test_a_stamp_moves_when_the_same_bytes_are_written_again_and_an_anchor_does_not(tmp_path, kind):
    put(tmp_path / f"f.{kind}", kind)
    os.utime(tmp_path / f"f.{kind}", (1, 1))
    connector = source(tmp_path / f"f.{kind}")
    before, still = observed(connector), observed(connector)
    put(tmp_path / f"f.{kind}", kind)
    after = observed(connector)
    assert before.stamp == still.stamp != after.stamp and same_state(before, after)


def test_columns_that_sql_renames_are_not_told_apart(tmp_path):
    pq.write_table(pa.table([[1], [2]], ["a", "A"]), tmp_path / "2.parquet")
    connector = source(tmp_path / "2.parquet")
    seen = observed(connector)
    assert seen.by_column is None and list(seen.columns) == list(describe(connector.relation(None)))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    assert observed(source(tmp_path)).by_column is None


# -- strategies ------------------------------------------------------------------------------------


def test_anchor_content_reads_the_bytes_at_each_look(tmp_path):
    put(tmp_path / "f.csv")
    connector, memo = source(tmp_path / "f.csv", anchor="content"), DictMemo()
    assert [observed(connector, memo, later=True).cost for _ in range(2)] == [
        Cost.SCAN,
        Cost.SCAN,
    ]


def test_anchor_column_asks_again_only_when_a_stat_moved_or_has_not_settled(tmp_path, kind):
    put(tmp_path / f"f.{kind}", kind)
    connector, memo = source(tmp_path / f"f.{kind}", anchor="column:id"), DictMemo()
    observed(connector, memo)
    first, again = (observed(connector, memo, later=True) for _ in range(2))
    assert first.cost is not Cost.FREE and again.cost is Cost.FREE and same_state(first, again)
    put(tmp_path / f"f.{kind}", kind, GROWN)
    assert not same_state(first, observed(connector, memo, later=True))


# -- gone, unreadable, torn ------------------------------------------------------------------------


def test_no_permission_is_unknown_not_vanished(tmp_path, monkeypatch):
    put(tmp_path / "f.csv")
    connector, plain = source(tmp_path / "f.csv"), open

    def refuse(path, *rest, **more):
        if str(path).endswith("f.csv"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refuse)
    seen = observed(connector)
    assert isinstance(seen, Unknown) and "permission" in seen.why.lower() and "f.csv" in seen.why


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4"])
def test_a_parquet_file_with_bytes_spoilt_in_its_middle_is_said_to_be_damaged_and_named(
    tmp_path, compression, files
):
    for number in range(files):
        pq.write_table(
            pa.table({"id": range(900 // files)}),
            tmp_path / f"f{number}.parquet",
            compression=compression,
            use_dictionary=False,
        )
    second = tmp_path / f"f{files // 2}.parquet"
    spoilt = bytearray(second.read_bytes())
    spoilt[4:500] = (
        b"\x0e" * 496
    )  # the header of the first page and rows after it; the footer is whole
    second.write_bytes(spoilt)
    with pytest.raises(SourceUnavailable) as refused:
        source(tmp_path).check()
    assert (
        refused.value.message == f"{second.name} is damaged: its rows cannot be read."
        and refused.value.hint
    )


def test_a_parquet_file_whose_footer_is_spoilt_is_not_whole(tmp_path):
    pq.write_table(pa.table({"id": range(900)}), tmp_path / "f.parquet")
    spoilt = bytearray((tmp_path / "f.parquet").read_bytes())
    spoilt[-40:-8] = b"\x0f" * 32  # its length and its mark stay
    (tmp_path / "f.parquet").write_bytes(spoilt)
    with pytest.raises(
        SourceUnavailable, match=r"f\.parquet is not a complete Parquet file"
    ) as refused:
        source(tmp_path).check()
    assert refused.value.hint


WIDE = "Column 'x' of f.parquet has decimals of 45 digits; DuckDB supports at most 38"


@pytest.mark.parametrize("nested", [False, True])
def test_decimals_that_duckdb_would_read_as_other_numbers_are_refused(tmp_path, nested):
    digits = pa.array(
        [decimal.Decimal("1234567890123456789012345678901234567890.12"), None], pa.decimal256(45, 2)
    )
    wide = pa.table(
        {"id": [1, 2], "x": pa.StructArray.from_arrays([digits], ["inner"]) if nested else digits}
    )
    read = (
        duckdb.read_parquet
        if not nested
        else lambda path: duckdb.sql(f"SELECT id, x.inner FROM '{path}'")
    )
    pq.write_table(wide, tmp_path / "f.parquet")
    assert (
        read(str(tmp_path / "f.parquet")).fetchall()[0][1] != digits[0].as_py()
    )  # what this is for
    with pytest.raises(SourceUnavailable, match=WIDE) as refused:
        source(tmp_path / "f.parquet").check()
    assert "with pyarrow, which reads it correctly" in refused.value.hint


def test_a_wrong_format_fails_its_check(tmp_path, kind):
    (tmp_path / "f").write_bytes(
        b"\x00\x01\x02 nothing \xff\xfe that anybody reads,,,\n\n{[\n" * 50
    )
    with pytest.raises(SourceUnavailable) as error:
        source(tmp_path / "f", kind).check()
    assert "\n" not in error.value.message and len(error.value.lines()) <= 5


def test_a_look_never_raises_whatever_the_bytes_are(tmp_path, kind):
    @settings(max_examples=examples(15))
    @given(st.binary(max_size=200))
    def any_bytes(data):
        (tmp_path / f"f.{kind}").write_bytes(data)
        assert isinstance(observed(source(tmp_path / f"f.{kind}")), Snapshot | Unknown)

    any_bytes()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("a,b\n1,2\n3,4,5\n6,7\n", "line 3: 3 values where 2 are expected"),
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: a quotation mark is not closed"),
    ],
)
def test_a_csv_that_breaks_after_it_was_added_names_its_file_and_line(ws, tmp_path, broken, says):
    file = tmp_path / "it's [1].csv"
    file.write_text("a,b\n1,2\n")
    ws.sources.add("p", file)
    ws.materialize("t", "FROM p")
    file.write_text(broken)
    for sql in ("FROM p", f"FROM read_csv('{str(file).replace(chr(39), chr(39) * 2)}')"):
        with pytest.raises(SourceUnavailable, match=r"it's .1.\.csv, ") as caught:
            ws.sql(sql).fetchall()
        assert says in caught.value.message and caught.value.hint
    assert says in str(ws.staleness("t"))
    with pytest.raises(SourceUnavailable, match=says):
        ws.sources.add("q", file)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_of_one_glob_with_other_columns_are_named_with_what_to_do(ws, tmp_path, kind):
    for name in "ab":
        put(tmp_path / f"{name}.{kind}", kind)
    ws.sources.add("pair", tmp_path / f"*.{kind}")
    ws.materialize("ids", "SELECT id FROM pair")
    (tmp_path / f"b.{kind}").write_bytes(bytes_of(kind, pa.table({"id": [1], "other": ["x"]})))
    for act in (
        lambda: ws.sources.add("again", tmp_path / f"*.{kind}"),
        lambda: ws.sql("SELECT name FROM pair").fetchall(),
    ):
        with pytest.raises(
            SourceUnavailable,
            match=f"b.{kind} and a.{kind} do not have the same columns: 'name' is missing",
        ) as caught:
            act()
        assert (
            "Give all files the same columns" in caught.value.hint
            and 'options={"union_by_name": True}' in caught.value.hint
        )
    assert "union_by_name" in str(ws.staleness("ids")), "a verdict names the way, too"


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_files_of_one_glob_with_other_columns_are_put_together_by_name_where_that_is_said(
    ws, tmp_path, kind
):
    def write(name, /, **columns):
        getattr(polars.DataFrame(columns), f"write_{kind}")(tmp_path / f"{name}.{kind}")

    write("a", id=[1], name=["a"])
    write("b", more=[0.5], id=[2])
    ws.sources.add("pair", tmp_path / f"*.{kind}", options={"union_by_name": True})
    both = [(1, "a", None), (2, None, 0.5)]
    assert ws.sql("SELECT id, name, more FROM pair ORDER BY id").fetchall() == both
    reader = {"ndjson": "json"}.get(kind, kind)
    text = f"SELECT id, name, more FROM read_{reader}('{tmp_path}/*.{kind}', union_by_name = true) ORDER BY id"
    assert ws.sql(text).fetchall() == both
    for n, column in enumerate(("id", "name", "more")):
        ws.materialize(f"of{n}", f"SELECT {column} FROM pair")
    write("b", more=[0.75], id=[2])
    assert is_stale(ws, "of2")
    write("c", id=[3])
    assert all(is_stale(ws, f"of{n}") for n in range(3))
    ws.recompute()
    assert ws.sql("SELECT count(*), count(id), count(name), count(more) FROM pair").fetchall() == [
        (3, 3, 1, 1)
    ]
    assert all(is_fresh(ws, f"of{n}") for n in range(3))


def test_what_fails_for_another_reason_than_the_content_stays_unknown(tmp_path, monkeypatch):
    put(tmp_path / "f.csv")

    def fails(*_):
        raise duckdb.OutOfMemoryException("out of memory")

    monkeypatch.setattr(csv_files, "decide", fails)
    assert isinstance(observed(source(tmp_path / "f.csv")), Unknown)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "ndjson"])
def test_a_text_that_was_emptied_is_unreadable_and_never_a_made_up_column(ws, tmp_path, kind):
    put(tmp_path / f"f.{kind}", kind)
    ws.sources.add("p", tmp_path / f"f.{kind}")
    ws.materialize("t", "FROM p")
    (tmp_path / f"f.{kind}").write_text("")
    with pytest.raises(SourceUnavailable, match=f"f.{kind} is empty"):
        ws.sql("FROM p").fetchall()
    assert "p changed and cannot be read: f." in str(ws.staleness("t"))
    [step] = ws.recompute().steps
    assert step.outcome == "failed" and ws.table("t").version == 1
    put(tmp_path / f"f.{kind}", kind)
    assert str(ws.staleness("t")) == "fresh"


def test_empty_texts_among_others_hold_no_rows_and_name_no_columns(tmp_path):
    (tmp_path / "a.csv").touch()
    put(tmp_path / "b.csv")
    (tmp_path / "c.csv").touch()
    connector = source(tmp_path)
    connector.check()
    assert query(connector.relation(None), "SELECT id, name FROM it ORDER BY id") == FIRST
    assert observed(connector).columns == {"id": "BIGINT", "name": "VARCHAR"}


@pytest.mark.parametrize("kind", ["csv", "ndjson", "json"])
@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, kind, mark):
    rows = [(1, "𝄞 é"), (2, "b")]  # the first sign is two units of UTF-16
    text = bytes_of(kind, as_table(rows)).decode()
    text = text.replace(r"\ud834\udd1e", "𝄞").replace(r"\u00e9", "é")
    text = "\ufeff" + text if mark == "utf-16-be" else text
    (tmp_path / f"f.{kind}").write_bytes(text.encode(mark))
    for options in ({}, {"encoding": "cp1252"}):
        marked = source(tmp_path / f"f.{kind}", options=options)
        assert query(marked.relation(None), "FROM it") == rows


def test_a_missing_folder_is_said_so(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(SourceUnavailable) as error:
        source(tmp_path / "dat" / "f.csv").check()
    assert "no folder" in error.value.message and error.value.near == ("data",)


def test_a_parquet_map_whose_key_is_missing_is_named(tmp_path):
    maps = pa.array([[("a", 7)], [("k", 8)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(
        pa.table({"m": maps}), tmp_path / "f.parquet", compression="none", use_dictionary=False
    )
    content = (tmp_path / "f.parquet").read_bytes()
    levels_of_keys = b"\x04\x02\x01\x00\x00\x00a"
    assert content.count(levels_of_keys) == 1
    (tmp_path / "f.parquet").write_bytes(
        content.replace(levels_of_keys, levels_of_keys.replace(b"\x02", b"\x01"))
    )
    with pytest.raises(SourceUnavailable, match=r"f.parquet.*NULL keys"):
        source(tmp_path / "f.parquet").check()


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "f.csv")
    with pytest.raises(SourceUnavailable, match="not a regular file"):
        source(tmp_path / "f.csv").check()
    assert isinstance(observed(source(tmp_path / "f.csv")), Unknown)


def test_a_file_that_goes_and_comes_while_it_is_seen_is_seen_whole(tmp_path, monkeypatch):
    put(tmp_path / "f.csv")
    connector, plain, turns = source(tmp_path / "f.csv"), sightings.describe_cached, []

    def racing(*args):
        if not turns:
            put(tmp_path / "f.csv", "csv", EDITED)
        turns.append(1)
        return plain(*args)

    monkeypatch.setattr(sightings, "describe_cached", racing)
    seen = observed(connector)
    monkeypatch.undo()
    assert len(turns) == 2 and same_state(seen, observed(connector))


def test_a_source_that_never_rests_is_unknown(tmp_path, monkeypatch):
    put(tmp_path / "f.csv")
    connector, plain = source(tmp_path / "f.csv"), sightings.describe_cached

    def racing(*args):
        put(tmp_path / "f.csv")
        return plain(*args)

    monkeypatch.setattr(sightings, "describe_cached", racing)
    assert isinstance(observed(connector), Unknown)


# -- reading ---------------------------------------------------------------------------------------

HOSTILE = [
    "it's",
    'a "b"',
    "new\nline",
    "x[1]",
    "st*r",
    "q?",
    "😀",
    "sp ace",
    "{a,b}",
    "back\\slash",
    "%20",
    "#h",
    "-- ;drop",
    "\u202eRTL",
    "~",
    "$HOME",
    "x" * 240,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_reads_that_file_and_no_other(tmp_path, kind, name):
    for other in ("x1", "star", "q1", "a", "b"):
        put(tmp_path / f"{other}.{kind}", kind, [(9, "other")])
    path = tmp_path / f"{name}.{kind}"
    put(path, kind)
    connector = source(path)
    connector.check()
    assert query(connector.relation(None), "SELECT count(*), max(id) FROM it") == [(3, 3)]
    path.unlink()
    assert isinstance(observed(connector), Vanished)
    with pytest.raises(SourceUnavailable):
        connector.relation(None)


def test_a_packed_text_is_unpacked_to_its_end_once_while_its_stat_stands(tmp_path, monkeypatch):
    file = tmp_path / "f.csv.gz"
    file.write_bytes(pa.compress(b"id,name\n1,a\n", codec="gzip", asbytes=True))
    unpacked, plain, changed = [], text_bytes.container_errors, os.stat(file).st_ctime_ns
    monkeypatch.setattr(
        text_bytes, "container_errors", lambda *given: unpacked.append(given) or plain(*given)
    )
    now = [changed + 10**9]
    monkeypatch.setattr(text_bytes.time, "time_ns", lambda: now[0])
    source(file).relation(None)
    within = len(unpacked)
    assert within > 1  # within the clock's grain an equal stat proves nothing
    now[0] = changed + 3600 * 10**9
    for _ in range(2):
        source(file).relation(None)
    assert len(unpacked) == within + 1


def test_the_same_bytes_under_an_ending_that_unpacks_them_are_another_state(tmp_path):
    packed = pa.compress(b"a\n1\n2\n", codec="gzip", asbytes=True)
    states = []
    for name in ("f.csv", "f.csv.gz"):
        (tmp_path / name).write_bytes(packed)
        states.append(
            observed(
                source(tmp_path / name, "csv", options={"encoding": "latin-1", "header": False})
            )
        )
    assert not same_state(*states, ())


@pytest.mark.parametrize("how", ["feather", "feather uncompressed", "stream"])
def test_every_shape_of_arrow_file_is_read(tmp_path, how):
    if how == "stream":
        with ipc.new_stream(tmp_path / "f.arrow", as_table(FIRST).schema) as writer:
            writer.write_table(as_table(FIRST))
    else:
        feather.write_feather(
            as_table(FIRST),
            tmp_path / "f.arrow",
            compression="uncompressed" if "un" in how else "lz4",
        )
    connector = source(tmp_path / "f.arrow")
    connector.check()
    assert query(connector.relation(None), "SELECT id, name FROM it ORDER BY id") == FIRST


def test_an_arrow_file_that_is_cut_while_its_rows_are_held_harms_nobody(tmp_path):
    put(tmp_path / "f.arrow", "arrow", [(i, "x" * 50) for i in range(20_000)])
    relation = source(tmp_path / "f.arrow").relation(None)
    os.truncate(tmp_path / "f.arrow", 0)
    assert query(relation, "SELECT count(DISTINCT id) FROM it") == [(20_000,)]


@pytest.mark.parametrize("values", [pa.array([2.5]), pa.array(["a"]), pa.array([[{"x": 1}]])])
def test_a_column_of_an_arrow_file_without_values_has_the_type_of_the_next_file(values, tmp_path):
    for name, column in (("a", pa.nulls(1)), ("b", values), ("c", pa.nulls(2))):
        feather.write_feather(pa.table({"v": column}), tmp_path / f"{name}.feather")
    [rows] = query(source(tmp_path).relation(None), "SELECT list(v) FROM it")
    assert rows == ([None, values[0].as_py(), None, None],)


def test_arrow_files_of_different_columns_are_refused(tmp_path):
    put(tmp_path / "a.arrow", "arrow")
    with ipc.new_file(tmp_path / "b.arrow", pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(SourceUnavailable, match=r"b\.arrow"):
        source(tmp_path).check()


# -- the workspace's own files ---------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    lab = tmp_path / "lab"
    put(lab / "results" / "acme" / "t.parquet", "parquet")
    (lab / "catalog.sqlite3").write_bytes(b"x")
    return lab


def test_the_workspace_s_own_rows_are_no_source(tmp_path, lab):
    """Other ways to them are those of tests/inputs/test_path_names.py."""
    put(tmp_path / "soft" / "a.parquet", "parquet")
    os.symlink(lab / "results" / "acme" / "t.parquet", tmp_path / "soft" / "b.parquet")
    for location in (tmp_path / "soft", lab):
        connector = source(location, "parquet", folder=lab)
        for call in (connector.check, lambda: connector.relation(None)):  # noqa: B023
            with pytest.raises(InvalidArgument, match="belongs to the workspace"):
                call()


@pytest.mark.parametrize("anchor", ["auto", "content", "column:id"])
def test_a_source_that_is_linked_to_the_workspace_s_own_rows_later_tells_nothing_of_them(
    tmp_path, lab, anchor
):
    put(tmp_path / "f.parquet", "parquet", EDITED)
    connector, memo = source(tmp_path / "f.parquet", folder=lab, anchor=anchor), DictMemo()
    observed(connector, memo)
    (tmp_path / "f.parquet").unlink()
    (tmp_path / "f.parquet").symlink_to(lab / "results" / "acme" / "t.parquet")
    seen = observed(connector, memo)
    assert isinstance(seen, Unknown) and "belongs to the workspace" in seen.why


def test_other_files_beside_them_are(lab):
    put(lab / "data" / "f.csv")
    source(lab / "data" / "f.csv", folder=lab).check()


def test_a_folder_skips_what_query_engines_write_beside_the_data(tmp_path):
    for name in ("a.csv", "_b.csv", "_SUCCESS", "_temporary/c.csv", ".d/e.csv", "_key=1/f.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")
    files = file_set_for(str(tmp_path), None).list_files("csv")
    assert [file.relative for file in files] == ["_key=1/f.csv", "a.csv"]


def test_a_folder_is_listed_again_when_a_subfolder_goes_away(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.csv").write_text("x\n1\n")
    scandir, renamed = os.scandir, []

    def rename_meanwhile(path):
        if str(path) == str(tmp_path / "b") and not renamed:
            renamed.append((tmp_path / "b").rename(tmp_path / "0"))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", rename_meanwhile)
    files = file_set_for(str(tmp_path), None).list_files("csv")
    assert renamed and [file.relative for file in files] == ["0/b.csv", "a/a.csv"]

    def never_there(path):
        if str(path) != str(tmp_path):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", never_there)
    with pytest.raises(OSError, match="keep changing"):
        file_set_for(str(tmp_path), None).list_files("csv")


@pytest.mark.every_case
@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("keys", [[1], [1, 2]], ids=["one", "two"])
def test_a_partition_column_has_the_values_of_the_folders_in_every_statement(
    ws, tmp_path, keys, inside
):
    """DuckDB 1.5.5 takes its statistics from the file: of a column of that name, or of none. The
    files of polars have the keys inside, too."""

    for key in keys:
        (tmp_path / "parts" / f"Key={key}").mkdir(parents=True)
        held = {"Key": [key, key], "n": [2, 3]} if inside else {"n": [2, 3]}
        pq.write_table(pa.table(held), tmp_path / "parts" / f"Key={key}" / "x.parquet")
    ws.sources.add("parts", tmp_path / "parts")
    for read in ("parts", f"'{tmp_path}/parts/**/*.parquet'"):
        assert {*ws.sql(f"SELECT * FROM {read}").arrow().column_names} == {"Key", "n"}
        for statement, expected in (
            ("SELECT max(key), min(key) FROM {}", [(max(keys), 1)]),
            ("SELECT max(key) FROM {} WHERE key < 2", [(1,)]),
            ("SELECT DISTINCT key > 5 FROM {}", [(False,)]),
            ("SELECT count(*) FROM {} WHERE key = 1", [(2,)]),
            ("SELECT count(*) FROM {} WHERE key = 7", [(0,)]),
        ):
            found = ws.sql(statement.format(read)).fetchall()
            assert found == expected, statement
    plan = str(ws.sql("EXPLAIN SELECT n FROM parts WHERE key < 2").fetchall())
    assert len(keys) == 1 or "1/2" in plan  # of the files


def test_files_of_two_devices_differ_in_their_stats(tmp_path):
    (tmp_path / "a").write_text("x")
    values = list(os.stat(tmp_path / "a"))
    values[2] += 1
    times = {f"st_{name}_ns": 1 for name in ("atime", "mtime", "ctime")}
    stats = [
        to_stat(os.stat_result(each, times)) for each in (list(os.stat(tmp_path / "a")), values)
    ]
    assert stats[0] != stats[1]

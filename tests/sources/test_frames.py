import datetime
import itertools
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab
from jammi_lab.core.anchors import Snapshot, Unknown
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.verdicts import Stale, Undecidable
from jammi_lab.sources.base import same_state
from jammi_lab.sources.frames import (
    METHOD,
    FrameConnector,
    as_arrow,
    frame_snapshot,
    is_frame,
    table_of_values,
    unique_names,
)
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.scratch_duckdb import query
from tests.contracts.connector import Case, ConnectorSuite, look
from tests.contracts.journey import JourneySuite, written_journey
from tests.sizes import examples

COLUMNS = {"id": [1, 2, 3], "name": ["a", "b", "c"]}


class TestPandas(ConnectorSuite):
    """Changed in place, as people do."""

    @pytest.fixture
    def case(self):
        frame = pd.DataFrame(COLUMNS)

        def edit():
            frame.loc[1, "name"] = "X"

        def restore():
            frame.loc[1, "name"] = "b"

        def grow():
            frame.loc[3] = [4, "d"]

        return Case(FrameConnector("s", frame), edit, restore, grow)


class TestTable(ConnectorSuite):
    """A name that comes to mean another frame, by a connector that reads an attribute through the
    Arrow C stream."""

    @pytest.fixture
    def case(self):
        connector = FrameConnector("s", pa.table(COLUMNS))

        def give(columns):
            return lambda: setattr(connector, "_object", pa.table(columns))

        return Case(
            connector,
            edit=give({**COLUMNS, "name": ["a", "X", "c"]}),
            restore=give(COLUMNS),
            grow=give({"id": [1, 2, 3, 4], "name": ["a", "b", "c", "d"]}),
            touch=lambda: setattr(
                connector,
                "_object",
                pa.concat_tables([pa.table(COLUMNS).slice(0, 1), pa.table(COLUMNS).slice(1)]),
            ),
            vanish=lambda: setattr(connector, "_object", None),
        )


class TestFrameJourney(JourneySuite):
    """A pandas frame that is changed in place. It ends with its kernel, and its state is told by
    its rows alone."""

    @pytest.fixture
    def journey(self):
        frame = pd.DataFrame()

        def put(table):
            frame.__init__(table.to_pydict())  # the same object, with other rows

        return written_journey(
            frame, "frame", put, {}, method=METHOD, vanish=lambda: None, again=True
        )

    def test_what_is_gone_is_input_vanished(self, ws, journey, address, tmp_path):
        """What is gone is undecidable here: the next kernel may make it again."""
        ws.materialize("t", f"SELECT id FROM {address}")
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            verdict = again.staleness("t")
            assert isinstance(verdict, Undecidable) and "not in this kernel" in str(verdict)
            with pytest.raises(SourceUnavailable, match="is not in this kernel") as caught:
                again.sql(f"SELECT id FROM {address}")
            assert "ws.sources.add('s', frame, replace=True)" in caught.value.hint
            for shown in (
                repr(again.sources),
                repr(again.sources["s"]),
                again.sources._repr_html_(),
                again.sources["s"]._repr_html_(),
            ):
                assert "absent: not in this kernel" in shown
            assert "ws.sources.add(" in repr(again.sources["s"])

    test_what_is_gone_is_told_in_a_few_lines_and_comes_back_to_nothing_else = (
        None  # as above: nothing but the end of its kernel takes it away
    )
    test_without_an_anchor_it_is_undecidable_and_never_scanned = (
        None  # no frame is without one: see below
    )

    def test_a_removed_source_keeps_its_tables_which_say_so(self, ws, journey, address):
        """As above."""
        ws.materialize("t", f"SELECT id FROM {address}")
        ws.sources.remove("s")
        assert "s" not in ws.sources and ws.table("t").row_count == 3
        assert isinstance(ws.staleness("t"), Stale) and "s is gone" in str(ws.staleness("t"))

    def test_an_anchor_on_a_column_rests_on_its_owner_s_word(self, ws, journey):
        """No frame has one."""
        for anchor in ("column:id", "none"):
            with pytest.raises(InvalidArgument, match="its state is the digest of its rows"):
                ws.sources.add("other", journey.location, anchor=anchor)
        assert "other" not in ws.sources


def every_library():
    table = pa.table(COLUMNS)
    return {
        "pandas": pd.DataFrame(COLUMNS),
        "polars": pl.DataFrame(COLUMNS),
        "lazy": pl.DataFrame(COLUMNS).lazy(),
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(),
        "duckdb": duckdb.sql(
            "SELECT unnest([1, 2, 3])::BIGINT AS id, unnest(['a', 'b', 'c']) AS name"
        ),
    }


@pytest.mark.parametrize("library", every_library())
def test_every_library_s_frame_is_taken_and_has_one_digest(library):
    frame = every_library()[library]
    assert is_frame(frame)
    rows = as_arrow(frame)
    assert rows.to_pydict() == COLUMNS
    assert frame_snapshot(rows).by_column == frame_snapshot(pa.table(COLUMNS)).by_column


@pytest.mark.parametrize(
    "thing",
    [
        None,
        3,
        "text",
        [1],
        {"a": 1},
        pl.Series([1]),
        pd.Series([1]),
        pa.chunked_array([[1]]),
        pd.DataFrame,
    ],
)
def test_other_things_are_no_frames(thing):
    assert not is_frame(thing)
    with pytest.raises(InvalidArgument):
        as_arrow(thing)


def test_a_subclass_of_a_frame_is_one():
    class Geo(pd.DataFrame):
        pass

    assert is_frame(Geo({"a": [1]})) and as_arrow(Geo({"a": [1]})).to_pydict() == {"a": [1]}


def test_asking_whether_something_is_a_frame_imports_nothing(run_python):
    code = """
import sys
from jammi_lab.sources.frames import is_frame
is_frame(3), is_frame(object())
print([m for m in ("pandas", "polars") if m in sys.modules])
"""
    assert run_python(code, start=True).stdout.strip() == "[]"
    assert "pandas" in sys.modules


def test_an_index_is_kept_where_it_has_a_name():
    frame = pd.DataFrame({"v": [1, 2]})
    assert as_arrow(frame).column_names == ["v"]
    assert as_arrow(frame.set_index(pd.Index([7, 8]))).column_names == ["v"]
    assert as_arrow(frame.set_index(pd.Index([7, 8], name="k"))).to_pydict() == {
        "k": [7, 8],
        "v": [1, 2],
    }
    two = frame.set_index(pd.MultiIndex.from_tuples([(1, "x"), (2, "y")], names=["k", None]))
    assert as_arrow(two).to_pydict() == {"k": [1, 2], "v": [1, 2]}


def test_missing_values_of_pandas_are_null():
    frame = pd.DataFrame(
        {
            "x": [1.0, float("nan")],
            "t": pd.to_datetime(["2020-01-01", None]),
            "s": ["a", None],
            "i": pd.array([1, None], dtype="Int64"),
        }
    )
    assert as_arrow(frame).slice(1).to_pylist() == [{"x": None, "t": None, "s": None, "i": None}]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"good": [1, 2], "bad": [1, "x"]}),
        pd.DataFrame({"good": [1, 2], "bad": [object(), object()]}),
        pd.DataFrame({"good": [1, 2], "bad": pd.period_range("2020", periods=2, freq="D")}),
        pl.DataFrame({"good": [1, 2], "bad": pl.Series([object(), 3], dtype=pl.Object)}),
        pl.DataFrame({"good": [1, 2], "bad": pl.Series([1, 2], dtype=pl.Int128)}),
    ],
)
def test_a_column_without_an_sql_type_is_named(frame):
    with pytest.raises(SchemaMismatch) as error:
        as_arrow(frame)
    assert error.value.column == "bad" and error.value.hint and "\n" not in error.value.message
    assert isinstance(FrameConnector("s", frame).observe(None, look()), Unknown)
    with pytest.raises(SchemaMismatch):
        FrameConnector("s", frame).check()


@pytest.mark.parametrize(
    "frame",
    [
        pa.table({"bad": pa.array([1], pa.decimal256(40, 2))}),
        pa.table({"bad": pa.array([{}], pa.struct([]))}),
    ],
)
def test_an_arrow_type_that_sql_cannot_hold_is_named(frame):
    with pytest.raises(SchemaMismatch) as error:
        FrameConnector("s", frame).check()
    assert error.value.column == "bad"


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [1]}).set_index(pd.Index([1], name="a")),
        pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["a", "a"]),
        pa.table({"": [1]}),
        {"a\udcff": [1]},
        pd.DataFrame(),
        pa.table({}),
    ],
)
def test_names_that_sql_cannot_tell_apart_are_refused(frame):
    with pytest.raises(SchemaMismatch):
        table_of_values(frame) if isinstance(frame, dict) else as_arrow(frame)


def test_categories_become_their_values_and_their_order_of_appearance_does_not_matter():
    one = pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["x", "y"])})
    two = pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["y", "x", "unused"])})
    assert as_arrow(one).schema == as_arrow(two).schema
    assert same_state(
        FrameConnector("s", one).observe(None, look()),
        FrameConnector("s", two).observe(None, look()),
    )


def test_types_are_those_of_sql():
    frame = pl.DataFrame(
        {
            "d": [datetime.date(2020, 1, 1)],
            "v": pl.Series([[1.0, 2.0]], dtype=pl.Array(pl.Float32, 2)),
            "h": pl.Series([1.0], dtype=pl.Float32),
        }
    )
    half = as_arrow(pa.table({"h": pa.array([1.5], pa.float16())}))
    assert dict(FrameConnector("s", frame).relation(None).columns) == {
        "d": "DATE",
        "v": "FLOAT[2]",
        "h": "FLOAT",
    }
    assert half.schema.field("h").type == pa.float32()


def test_moments_with_a_zone_are_kept_to_the_microsecond_or_refused():
    moments = pa.array([1_000, None, -5_000], pa.timestamp("ns", "UTC"))
    assert as_arrow(pa.table({"at": moments})).column("at").to_pylist() == moments.to_pylist()
    with pytest.raises(
        SchemaMismatch,
        match="'at' contains times that are finer than SQL has them",
    ):
        as_arrow(pa.table({"at": pa.array([1_001], pa.timestamp("ns", "UTC"))}))
    assert as_arrow(pa.table({"at": pa.array([1_001], pa.timestamp("ns"))})).column(
        "at"
    ).type == pa.timestamp("ns")


def test_nothing_of_its_maker_s_metadata_is_left():
    assert as_arrow(pd.DataFrame({"a": [1]})).schema.metadata is None


def test_what_is_read_is_what_was_digested():
    frame = pd.DataFrame(COLUMNS)
    rows, seen = FrameConnector("s", frame).capture()
    frame.loc[0, "name"] = "X"
    assert (
        frame_snapshot(rows).by_column == seen.by_column
        and seen.method == METHOD
        and seen.row_count == 3
    )
    assert rows.to_pydict() == COLUMNS


def test_a_stream_that_was_read_once_can_be_read_again_also_by_another_connector():
    reader = pa.table(COLUMNS).to_reader()
    first, second = FrameConnector("s", reader), FrameConnector("s", reader)
    assert [query(c.relation(None), "SELECT count(*) FROM it") for c in (first, second, first)] == [
        [(3,)]
    ] * 3


def test_a_lazy_frame_is_collected_at_each_look(tmp_path):
    (tmp_path / "f.csv").write_text("a\n1\n")
    connector = FrameConnector("s", pl.scan_csv(tmp_path / "f.csv"))
    before = connector.observe(None, look())
    (tmp_path / "f.csv").write_text("a\n2\n")
    assert not same_state(before, connector.observe(None, look()))


def test_a_frame_is_an_input_of_its_own_kind():
    relation = FrameConnector("s", pa.table(COLUMNS)).relation(None)
    assert relation.input.has_origin and relation.input.name == "s"


def test_an_absent_frame_is_unknown_and_says_how_to_come_back():
    connector = connector_for(
        SourceRecord(name="scores", kind="frame", location="pandas frame"), None, None
    )
    assert isinstance(connector.observe(None, look()), Unknown)
    with pytest.raises(SourceUnavailable) as error:
        connector.relation(None)
    assert 'ws.sources.add("scores"' in error.value.hint
    with pytest.raises(SourceUnavailable):
        connector.check()


@settings(max_examples=examples(60), deadline=None)
@given(
    names=st.lists(
        st.sampled_from(["a", "A", "a_1", "A_1", "A_2", "a_1_1", "ss", "SS", "sS", "ß", "é", "É"]),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_columns_that_differ_by_case_have_the_names_that_the_engine_gives_them(names):
    rows = pa.table([pa.array([i]) for i in range(len(names))], names=names)
    with duckdb.connect() as engine:
        engine.register("it", rows)
        assert unique_names(rows).column_names == [
            row[0] for row in engine.execute("DESCRIBE it").fetchall()
        ]
    assert unique_names(rows).to_pydict() == {
        name: [i] for i, name in enumerate(unique_names(rows).column_names)
    }


@pytest.mark.parametrize("kind", ["frame", "arrow"])
def test_of_columns_that_differ_by_case_alone_an_edit_of_one_moves_what_reads_it_and_nothing_else(
    ws, tmp_path, kind
):
    def put(*values):
        rows = pa.table([[value] for value in values], names=["a", "A", "a_1"])
        feather.write_feather(rows, tmp_path / "f.arrow")
        if kind == "frame" or "f" not in ws.sources:
            ws.sources.add("f", rows if kind == "frame" else tmp_path / "f.arrow", replace=True)

    put(1, 2, 3)
    names = [column.name for column in ws.sources["f"].columns()]
    assert names == ["a", "A_1", "a_1_1"]
    for name in names:
        ws.materialize(f"of {name}", f"SELECT {name} AS v FROM f")
    for edited, values in zip(names, [(9, 2, 3), (1, 9, 3), (1, 2, 9)], strict=True):
        put(*values)
        assert [name for name in names if isinstance(ws.staleness(f"of {name}"), Stale)] == [edited]
        put(1, 2, 3)
        assert not [name for name in names if isinstance(ws.staleness(f"of {name}"), Stale)]


@pytest.mark.parametrize(
    "where",
    ["x > 1", "x >= 1", "x BETWEEN 1 AND 'nan'", "NOT x < 1", "x > 1 AND s > 'a'", "st.x > 1"],
)
def test_a_condition_over_a_frame_finds_the_rows_that_it_finds_in_a_file(ws, tmp_path, where):
    values = [1.5, float("nan"), float("inf"), -0.0, None]
    rows = pa.table(
        {"id": range(5), "x": values, "s": list("abcde"), "st": [{"x": value} for value in values]}
    )
    ws.sources.add("frame", rows)
    pq.write_table(rows, tmp_path / "file.parquet")
    ws.sources.add("file", tmp_path / "file.parquet")
    found, there = (
        ws.sql(f"SELECT id FROM {name} WHERE {where} ORDER BY id").arrow()["id"].to_pylist()
        for name in ("frame", "file")
    )
    assert found == there and 1 in found  # NaN is the greatest number


@settings(max_examples=examples(40))
@given(cuts=st.lists(st.integers(0, 12), max_size=5))
def test_chunks_do_not_matter(cuts):
    rows = pa.table(
        {
            "a": list(range(12)),
            "s": [None if i % 3 else str(i) for i in range(12)],
            "l": [[i] * (i % 4) for i in range(12)],
        }
    )
    bounds = [0, *sorted(cuts), 12]
    cut = pa.concat_tables([rows.slice(a, b - a) for a, b in itertools.pairwise(bounds)])
    one, two = (FrameConnector("s", frame).observe(None, look()) for frame in (rows, cut))
    assert isinstance(one, Snapshot) and one == two

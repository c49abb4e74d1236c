"""Mutable tables by method: what goes in comes out, every commit counts once, and what is wrong
changes nothing."""

import datetime
import decimal

import pyarrow as pa
import pytest

import jammi_lab as jl
from tests.inside import services_of

SCHEMA = {"id": "int64", "label": "string"}


@pytest.fixture
def labels(ws):
    made = ws.mutable.create("labels", SCHEMA, primary_key=["id"])
    made.insert([{"id": 1, "label": "a"}, {"id": 2, "label": "b"}])
    return made


def rows(table):
    return table.fetchall()


def test_a_table_is_there_under_its_name_until_it_is_dropped(ws):
    made = ws.mutable.create("labels", SCHEMA, primary_key=["id"])
    assert (made.name, made.version, len(made), made.primary_key, "labels" in ws.mutable) == (
        "labels",
        0,
        0,
        ["id"],
        True,
    )
    assert [m.name for m in ws.mutable.list()] == ["labels"] and made.read().schema == pa.schema(
        {"id": pa.int64(), "label": pa.string()}
    )
    ws.mutable.drop("labels")
    assert "labels" not in ws.mutable and ws.mutable.list() == []
    for gone in (
        lambda: ws.mutable["labels"],
        lambda: made.version,
        made.read,
        lambda: made.insert([{"id": 1}]),
        lambda: made.changes(0),
    ):
        with pytest.raises(jl.TableNotFound):
            gone()
    with pytest.raises(jl.TableNotFound):
        ws.sql("SELECT * FROM mutable.labels")
    with pytest.raises(jl.TableNotFound):
        ws.mutable.drop("labels")
    ws.mutable.drop("labels", if_exists=True)


def test_every_commit_counts_once_and_what_changes_nothing_does_not_count(labels):
    assert labels.version == 1
    assert labels.insert([{"id": 3}, {"id": 4, "label": "d"}]) == 2 and labels.version == 2
    assert (
        labels.upsert([{"id": 3, "label": "c"}, {"id": 5, "label": "e"}]) == 2
        and labels.version == 3
    )
    assert labels.update({"label": "x"}, "id >= 4") == 2 and labels.version == 4
    assert labels.delete("id = 5") == 1 and labels.version == 5
    for nothing in (
        lambda: labels.update({"label": "y"}, "id = 99"),
        lambda: labels.delete("false"),
        lambda: labels.insert([]),
        lambda: labels.update({"label": "x"}, "id = 4"),
        lambda: labels.upsert([{"id": 4, "label": "x"}]),
    ):
        nothing()
        assert labels.version == 5
    assert rows(labels.read()) == [(1, "a"), (2, "b"), (3, "c"), (4, "x")]


def test_a_key_that_is_there_or_comes_twice_refuses_the_whole_batch_and_is_named(labels):
    with pytest.raises(jl.DuplicateKey) as there:
        labels.insert([{"id": 7, "label": "new"}, {"id": 2, "label": "z"}])
    with pytest.raises(jl.DuplicateKey) as twice:
        labels.upsert([{"id": 7, "label": "new"}, {"id": 7, "label": "z"}])
    assert (there.value.keys, twice.value.keys) == ([2], [7])
    assert labels.version == 1 and rows(labels.read()) == [(1, "a"), (2, "b")]


def test_a_key_of_several_columns_is_a_tuple(ws):
    made = ws.mutable.create(
        "notes", {"page": "string", "line": "int32", "note": "string"}, primary_key=["page", "line"]
    )
    made.insert(
        [
            {"page": "a", "line": -1, "note": "x"},
            {"page": "a\0", "line": 0, "note": "y"},
            {"page": "a", "line": 3, "note": "z"},
        ]
    )
    assert [row[:2] for row in rows(made.read())] == [("a", -1), ("a", 3), ("a\0", 0)]
    with pytest.raises(jl.DuplicateKey) as there:
        made.insert([{"page": "a", "line": 3, "note": None}])
    assert there.value.keys == [("a", 3)]


def test_a_name_is_of_small_letters_digits_and_underscores(ws):
    for name in (
        "",
        "Labels",
        "_labels",
        "a-b",
        "a b",
        "a.b",
        'a"b',
        "é",
        "a\n",
        None,
        3,
    ):
        with pytest.raises(jl.NameInvalid):
            ws.mutable.create(name, SCHEMA, primary_key=["id"])
        assert ws.mutable.list() == []


def test_a_name_has_at_most_63_characters_and_is_given_once(ws):
    for name in ("a" * 63, "0", "order"):
        ws.mutable.create(name, SCHEMA, primary_key=["id"]).insert([{"id": 1, "label": "x"}])
        assert ws.sql(f'SELECT count(*) FROM mutable."{name}"').fetchall() == [(1,)]
        assert ws.sql(f"UPDATE mutable.\"{name}\" SET label = 'y'").fetchall() == [(1,)]
    with pytest.raises(jl.NameTooLong) as long:
        ws.mutable.create("a" * 64, SCHEMA, primary_key=["id"])
    assert long.value.max == 63
    with pytest.raises(jl.DuplicateTable):
        ws.mutable.create("order", SCHEMA, primary_key=["id"])


def test_a_schema_or_key_that_cannot_be_kept_is_refused_typed(ws):
    for schema, key, error in (
        (SCHEMA, [], jl.InvalidArgument),
        (SCHEMA, None, jl.InvalidArgument),
        (SCHEMA, 5, jl.InvalidArgument),
        (SCHEMA, [5], jl.SchemaMismatch),
        (SCHEMA, ["id", "id"], jl.InvalidArgument),
        (SCHEMA, ["nope"], jl.SchemaMismatch),
        ({"x": "float64"}, ["x"], jl.SchemaMismatch),
        ({"x": "list<int64>", "id": "int64"}, ["id"], jl.SchemaMismatch),
        ({"x": "struct<a: int64>", "id": "int64"}, ["id"], jl.SchemaMismatch),
        ({"x": "timestamp[ns, tz=UTC]", "id": "int64"}, ["id"], jl.SchemaMismatch),
        ({"x": "nonsense", "id": "int64"}, ["id"], jl.SchemaMismatch),
        ({"_change": "string", "id": "int64"}, ["id"], jl.NameInvalid),
        ({"id": "int64", "ID": "int64"}, ["id"], jl.NameInvalid),
        ({}, ["id"], jl.SchemaMismatch),
        ("id int64", ["id"], jl.InvalidArgument),
    ):
        with pytest.raises(error):
            ws.mutable.create("t", schema, primary_key=key)
        assert ws.mutable.list() == []


def test_what_is_no_name_is_refused(ws):
    for drop in (ws.mutable.drop, ws.topics.drop):
        with pytest.raises((jl.InvalidArgument, jl.TableNotFound)):
            drop(5)


@pytest.mark.parametrize(
    ("given", "column", "expected", "actual"),
    [
        ([{"id": "x", "label": "a"}], "id", "int64", "str"),
        ([{"id": 1, "lable": "a"}], "lable", "id, label", ""),
        (
            pa.table({"id": pa.array([1], pa.int64()), "label": pa.array([1], pa.int64())}),
            "label",
            "string",
            "int64",
        ),
        ([{"id": None, "label": "a"}], "id", "int64", "NULL"),
        (pa.table({"id": pa.array([1], pa.int64())}), "label", "string", ""),
    ],
)
def test_rows_of_another_shape_are_refused_with_table_column_and_types(
    labels, given, column, expected, actual
):
    with pytest.raises(jl.SchemaMismatch) as wrong:
        labels.insert(given)
    assert (wrong.value.table, wrong.value.column, wrong.value.expected, wrong.value.actual) == (
        "labels",
        column,
        expected,
        actual,
    )
    assert labels.version == 1


def test_every_type_comes_back_as_it_went_in(ws):
    zone = datetime.UTC
    values = {
        "id": (
            pa.decimal128(20, 4),
            [decimal.Decimal("-1.0001"), decimal.Decimal("9999999999999999.9999")],
        ),
        "moment": (
            pa.timestamp("us", tz="Europe/Berlin"),
            [datetime.datetime(2026, 11, 20, 9, 30, 0, 1, zone), None],
        ),
        "naive": (
            pa.timestamp("ns"),
            [pa.scalar(1_700_000_000_123_456_789, pa.timestamp("ns")).as_py(), None],
        ),
        "day": (pa.date32(), [datetime.date(1, 1, 1), None]),
        "time": (pa.time64("us"), [datetime.time(23, 59, 59, 999_999), None]),
        "raw": (pa.binary(), [b"\0\xff'\"", b""]),
        "big": (pa.uint64(), [2**64 - 1, 0]),
        "real": (pa.float64(), [float("-inf"), 5e-324]),
        "small": (pa.float32(), [0.1, None]),
        "yes": (pa.bool_(), [True, False]),
        "text": (pa.large_string(), ["\U0001f600 NULL \0", None]),
    }
    table = pa.table([pa.array(v, t) for t, v in values.values()], names=list(values))
    made = ws.mutable.create("all_types", table.schema, primary_key=["id"])
    made.insert(table)
    assert made.read().arrow().equals(table)
    ws.sql(
        "UPDATE mutable.all_types SET yes = yes"
    )  # through DuckDB and back, which changes nothing
    ws.sql(
        "INSERT INTO mutable.all_types SELECT id + 1 AS id, * EXCLUDE (id) FROM mutable.all_types WHERE id < 0"
    )
    assert made.version == 2
    assert made.read().arrow().slice(1, 1).drop(["id"]).equals(table.slice(0, 1).drop(["id"]))


def test_rows_and_changes_are_results_with_their_origin(ws, labels):
    assert isinstance(labels.read(), jl.Result) and isinstance(labels.changes(), jl.Result)
    ws.sources.add("read", labels.read().arrow())
    ws.materialize("from_frame", "SELECT label FROM read")
    labels.insert([{"id": 9, "label": "z"}])
    assert "labels changed" in str(ws.staleness("from_frame"))


def test_changes_are_the_net_effect_for_each_key(labels):
    labels.insert([{"id": 3, "label": "c"}, {"id": 4, "label": "d"}])  # 2
    labels.update({"label": "A"}, "id = 1")  # 3
    labels.delete("id IN (2, 4)")  # 4
    labels.update({"label": "a"}, "id = 1")  # 5
    assert rows(labels.changes(since=1)) == [(3, "c", "insert", 2), (2, None, "delete", 4)]
    assert rows(labels.changes(since=3)) == [
        (2, None, "delete", 4),
        (4, None, "delete", 4),
        (1, "a", "update", 5),
    ]
    assert rows(labels.changes(since=0)) == [(3, "c", "insert", 2), (1, "a", "insert", 5)]
    assert rows(labels.changes(since=5)) == [] and labels.changes(5).columns == [
        "id",
        "label",
        "_change",
        "_version",
    ]
    for wrong in (6, -1, "1", True):
        with pytest.raises(ValueError, match="version"):
            labels.changes(since=wrong)


def test_changes_are_known_as_far_back_as_the_setting_says_and_then_say_so(ws):
    ws.settings.set("mutable.versions_kept", 5)
    made = ws.mutable.create("t", SCHEMA, primary_key=["id"])
    for number in range(40):  # shortened to 5 versions whenever it has more than 10
        made.insert([{"id": number}])
        assert len(made.read()) == number + 1
    assert len(made.changes(since=30)) == 10 and len(made.changes(since=35)) == 5
    with pytest.raises(jl.InvalidArgument, match="begins at version 30"):
        made.changes(since=29)
    made.delete("id < 38")
    with jl.open(ws.path) as other:
        assert rows(other.mutable["t"].read()) == [(38, None), (39, None)]
        assert len(other.mutable["t"].changes(since=40)) == 38
        assert other.fsck(deep=True).damaged == []


@pytest.mark.parametrize(
    ("where", "kind", "line", "under"),
    [
        ("id = 1 AND nope", jl.SqlError, "id = 1 AND nope", "nope"),
        (
            "id IN (\n SELECT id FROM nowhere)",
            jl.TableNotFound,
            " SELECT id FROM nowhere)",
            "nowhere",
        ),
        ("label = 'é' AND id = $x", jl.ParameterMissing, "label = 'é' AND id = $x", "$x"),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        lambda held, where: held.update({"label": "x"}, where),
        lambda held, where: held.delete(where),
    ],
)
def test_what_is_wrong_in_a_condition_is_marked_in_the_condition_alone(
    labels, change, where, kind, line, under
):
    with pytest.raises(kind) as caught:
        change(labels, where)
    shown, caret = caught.value.excerpt.split("\n")
    assert (
        shown == line
        and caret.index("^") == line.index(under)
        and "jammi_" not in str(caught.value)
    )
    assert kind is not jl.ParameterMissing or "ws.sql('UPDATE mutable.labels" in caught.value.hint
    with pytest.raises(
        jl.StatementNotAllowed, match=r"^id is in the key of mutable\.labels and cannot be updated"
    ) as caught:
        labels.update({"id": 5}, "true")
    assert "jammi_" not in str(caught.value) and len(labels.read()) == 2


def test_what_was_changed_elsewhere_is_seen_by_the_next_read_in_the_order_of_the_keys(
    ws, tmp_path, labels
):
    assert len(labels.read()) == 2
    with jl.open(tmp_path / "lab") as other:
        there = other.mutable["labels"]
        there.insert([{"id": -5, "label": "first"}, {"id": 9, "label": "last"}])
        there.delete("id = 1")
        there.update({"label": "B"}, "id = 2")
    assert rows(labels.read()) == [(-5, "first"), (2, "B"), (9, "last")]
    assert ws.sql("SELECT label FROM mutable.labels").fetchall() == [("first",), ("B",), ("last",)]


def test_a_snapshot_is_let_go_of_when_memory_is_short_and_read_again(ws, labels):
    ws.settings.set("mutable.memory_bytes", 1)
    assert rows(labels.read()) == [(1, "a"), (2, "b")] and rows(labels.read()) == [
        (1, "a"),
        (2, "b"),
    ]
    assert services_of(ws).mutable._folds._cached == {}


def test_what_a_caller_rolled_back_is_in_no_later_read(ws, labels):
    with pytest.raises(LookupError), services_of(ws).catalog.transaction():
        labels.insert([{"id": 3, "label": "c"}])
        assert labels.upsert([{"id": 3, "label": "d"}]) == 1 and len(labels.read()) == 3
        raise LookupError
    assert rows(labels.read()) == [(1, "a"), (2, "b")] and labels.version == 1
    labels.insert([{"id": 3, "label": "e"}])
    assert rows(labels.read()) == [(1, "a"), (2, "b"), (3, "e")]


def test_who_is_always_too_late_is_told(ws, labels, monkeypatch):
    from jammi_lab.features.live import dml_commits as committing
    from jammi_lab.features.live.table_changes import VersionMoved

    monkeypatch.setattr(committing, "MAX_PAUSE_SECONDS", 0)
    monkeypatch.setattr(
        services_of(ws).catalog.mutable_tables,
        "append",
        lambda *_: (_ for _ in ()).throw(VersionMoved),
    )
    with pytest.raises(jl.VersionConflict, match="50 times"):
        labels.delete("true")


def test_a_workspace_that_is_only_read_refuses_every_change(ws, tmp_path, labels):
    with jl.open(tmp_path / "lab", read_only=True) as looking:
        there = looking.mutable["labels"]
        assert rows(there.read()) == [(1, "a"), (2, "b")]
        for change in (
            lambda: looking.mutable.create("x", SCHEMA, primary_key=["id"]),
            lambda: looking.mutable.drop("labels"),
            lambda: there.insert([{"id": 5}]),
            lambda: there.delete("true"),
            lambda: looking.sql("UPDATE mutable.labels SET label = 'x'"),
        ):
            with pytest.raises(jl.WorkspaceReadOnly):
                change()


def test_a_catalog_without_room_refuses_what_does_not_fit_typed_and_takes_what_does(ws, labels):
    database = services_of(ws).catalog.database
    with database.read() as tx:
        [[pages]] = tx.fetch("PRAGMA page_count")
        tx.execute(f"PRAGMA max_page_count = {pages + 4}")
    for change in (labels.insert, labels.upsert):
        with pytest.raises(jl.ResourceExhausted, match="nothing was changed"):
            change([{"id": 5, "label": "x" * 1_000_000}])
    assert (
        labels.version == 1
        and rows(labels.read()) == [(1, "a"), (2, "b")]
        and len(labels.changes(1)) == 0
    )
    assert labels.insert([{"id": 3, "label": "c"}]) == 1 and labels.version == 2


def test_tables_and_their_versions_are_in_the_catalog_and_shown(ws, labels):
    assert ws.sql("FROM jammi_catalog.mutable_tables").fetchall() == [("labels", 1, 2, None)]
    assert "labels" in repr(ws.mutable) and "version 1" in repr(labels) and "2 rows" in repr(labels)
    assert "mutable.labels" in [name for (name,) in ws.sql("SHOW TABLES").fetchall()]

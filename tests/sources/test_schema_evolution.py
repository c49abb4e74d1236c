"""Delta and Iceberg tables whose columns were added, widened, renamed or dropped between files: the
rows are those of the current schema, and a condition finds what it finds in them."""

import datetime as dt
import json
import os
from decimal import Decimal as D

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyiceberg.types import DecimalType, DoubleType, LongType, StringType

import jammi_lab
from tests.sources.test_iceberg import catalog, folder_of  # noqa: F401  a fixture

BIG = 2**40
FLOAT = pa.array([0.1], pa.float32()).cast(pa.float64())[0].as_py()


def check(path, kind, rows, conditions, tmp_path):
    """`conditions` are pairs of a condition and the number of rows for which it holds."""
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", str(path), kind=kind)
        found = ws.sql("FROM t").arrow().to_pylist()
        assert sorted(map(str, found)) == sorted(map(str, rows))
        for condition, count in conditions:
            statement = f"SELECT count(*) FROM t WHERE {condition}"
            assert ws.sql(statement).fetchall() == [(count,)], condition


def field(name, kind, was=None, number=None, physical=None):
    """A column of a Delta log, with the type that it had, or the name that its files have."""
    metadata = {}
    if was is not None:
        metadata["delta.typeChanges"] = [{"fromType": was, "toType": kind}]
    if number is not None:
        metadata["delta.columnMapping.id"] = number
        metadata["delta.columnMapping.physicalName"] = physical
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def struct(*fields):
    return {"type": "struct", "fields": list(fields)}


def write_log(folder, files, fields, features, mapping="none"):
    """A commit of a Delta table as Spark writes it: deltalake itself neither widens nor maps
    columns."""
    (folder / "_delta_log").mkdir(parents=True, exist_ok=True)
    features = {"readerFeatures": features, "writerFeatures": features}
    metadata = {
        "id": "5d2a9b8e-0000-4000-8000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(struct(*fields)),
        "partitionColumns": [],
        "configuration": {
            "delta.enableTypeWidening": "true",
            "delta.columnMapping.mode": mapping,
        },
        "createdTime": 1,
    }
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"metaData": metadata},
    ]
    for number, values in enumerate(files):
        name = f"part-{number}.parquet"
        pq.write_table(pa.table(values), folder / name)
        added = {"path": name, "partitionValues": {}, "modificationTime": 1, "dataChange": True}
        actions.append({"add": {**added, "size": os.path.getsize(folder / name)}})
    number = len(list(folder.glob("_delta_log/*")))
    log = folder / "_delta_log" / f"{number:020d}.json"
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


WIDENED = [
    ("integer", "long", pa.array([1, 2], pa.int32()), pa.array([BIG, -5]),
     [("v = 1", 1), ("v > 1", 2), ("v < 2", 2), (f"v IN (1, {BIG})", 2)]),
    ("integer", "double", pa.array([1, 2], pa.int32()), pa.array([2.5, 0.1]),
     [("v > 1.5", 2), ("v = 2.5", 1), ("v < 2.5", 3), ("v < 0.5", 1)]),
    ("float", "double", pa.array([1.5, 0.1], pa.float32()), pa.array([2.5, 0.1]),
     [("v = 0.1", 1), ("v > 0.1", 3), ("v = 1.5", 1)]),
    ("decimal(5,2)", "decimal(10,4)", pa.array([D("1.25")]), pa.array([D("1.2567")]),
     [("v = 1.25", 1), ("v = 1.2567", 1), ("v > 1.25", 1)]),
    ("integer", "decimal(12,2)", pa.array([1], pa.int32()), pa.array([D("1.25")]),
     [("v = 1", 1), ("v = 1.25", 1), ("v < 1.2", 1)]),
    ("date", "timestamp_ntz", pa.array([dt.date(2024, 1, 2)]),
     pa.array([dt.datetime(2024, 1, 2, 13)]),
     [("v = '2024-01-02'", 1), ("v > '2024-01-02'", 1), ("v < '2024-01-02 01:00:00'", 1)]),
]  # fmt: skip


def as_read(value, kind):
    if kind == "timestamp_ntz" and not isinstance(value, dt.datetime):
        return dt.datetime.combine(value, dt.time())
    if kind.startswith("decimal"):
        return round(D(value), int(kind[-2]))
    return float(value) if kind == "double" else value


@pytest.mark.parametrize("is_nested", [False, True], ids=["column", "field"])
@pytest.mark.parametrize("case", WIDENED, ids=lambda case: f"{case[0]} to {case[1]}")
def test_a_widened_column_of_a_delta_table(case, is_nested, tmp_path):
    was, kind, before, after, conditions = case
    column = field("v", kind, was)
    files = [{"v": before}, {"v": after}]
    rows = [{"v": as_read(v, kind)} for file in files for v in file["v"].to_pylist()]
    if is_nested:
        column = field("p", struct(column))
        files = [{"p": pa.StructArray.from_arrays([file["v"]], ["v"])} for file in files]
        rows = [{"p": row} for row in rows]
        conditions = [(f"p.{condition}", count) for condition, count in conditions]
    write_log(tmp_path / "t", files, [column], ["typeWidening", "timestampNtz"])
    check(tmp_path / "t", "delta", rows, conditions, tmp_path)


def test_renamed_and_dropped_columns_of_a_delta_table(tmp_path):
    columns = [
        field("b", "long", number=1, physical="a"),
        field("a", "long", number=2, physical="b"),
        field("dropped", "long", number=5, physical="again"),
        field("p", struct(field("y", "long", number=7, physical="x"),
                          field("x", "long", number=8, physical="y")), number=6, physical="p"),
    ]  # fmt: skip
    pair = pa.array([{"x": 1, "y": 2}])
    files = [
        {"a": [1], "b": [10], "dropped": [5], "p": pair},
        {"a": [2], "b": [20], "again": [6], "p": pair},
    ]
    write_log(tmp_path / "t", files, columns, ["columnMapping"], "name")
    rows = [
        {"b": 1, "a": 10, "dropped": None, "p": {"y": 1, "x": 2}},
        {"b": 2, "a": 20, "dropped": 6, "p": {"y": 1, "x": 2}},
    ]
    conditions = [("a = 10", 1), ("b = 1", 1), ("a < 5", 0), ("dropped = 5", 0),
                  ("dropped IS NULL", 1), ("p.x = 2", 2), ("p.x = 1", 0)]  # fmt: skip
    check(tmp_path / "t", "delta", rows, conditions, tmp_path)


def test_added_columns_of_a_delta_table(tmp_path):
    first = pa.struct([("x", pa.int64())])
    second = pa.struct([("x", pa.int64()), ("y", pa.string())])
    write_deltalake(tmp_path / "t", pa.table({"p": pa.array([{"x": 1}], first)}))
    more = pa.table({"p": pa.array([{"x": 2, "y": "q"}], second), "e": [7.5]})
    write_deltalake(tmp_path / "t", more, mode="append", schema_mode="merge")
    rows = [{"p": {"x": 1, "y": None}, "e": None}, {"p": {"x": 2, "y": "q"}, "e": 7.5}]
    conditions = [("e IS NULL", 1), ("e <> 7.5", 0), ("p.y = 'q'", 1), ("p.y IS NULL", 1)]
    check(tmp_path / "t", "delta", rows, conditions, tmp_path)


def iceberg_table(catalog, rows):
    table = catalog.create_table("shop.t", schema=rows.schema)
    table.append(rows)
    return table


def test_widened_columns_of_an_iceberg_table(catalog, tmp_path):
    before = pa.table({"i": pa.array([1, 2], pa.int32()), "f": pa.array([1.5, 0.1], pa.float32()),
                       "d": pa.array([D("1.25"), D("2.50")], pa.decimal128(5, 2))})  # fmt: skip
    table = iceberg_table(catalog, before)
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.update_column("f", DoubleType())
        update.update_column("d", DecimalType(20, 2))
    after = {"i": BIG, "f": 0.1, "d": D("123456789012.25")}
    table.append(pa.Table.from_pylist([after], table.schema().as_arrow()))
    rows = [
        {"i": 1, "f": 1.5, "d": D("1.25")}, {"i": 2, "f": FLOAT, "d": D("2.50")}, after,
    ]  # fmt: skip
    conditions = [("i > 1", 2), (f"i IN (1, {BIG})", 2), ("f = 0.1", 1), ("f > 0.1", 2),
                  ("f <= 0.1", 1), ("d = 1.25", 1), ("d > 2", 2)]  # fmt: skip
    check(folder_of(table), "iceberg", rows, conditions, tmp_path)


def test_a_narrower_file_that_was_added_to_an_iceberg_table(catalog, tmp_path):
    table = iceberg_table(catalog, pa.table({"f": [0.1]}))
    pq.write_table(pa.table({"f": pa.array([0.1], pa.float32())}), tmp_path / "narrow.parquet")
    table.add_files([str(tmp_path / "narrow.parquet")])
    conditions = [("f = 0.1", 1), ("f > 0.1", 1)]
    check(folder_of(table), "iceberg", [{"f": 0.1}, {"f": FLOAT}], conditions, tmp_path)


def test_a_date_of_an_iceberg_table_that_became_a_timestamp(catalog, tmp_path):
    table = iceberg_table(catalog, pa.table({"v": [dt.date(2024, 1, 2)]}))
    newest = max((tmp_path / "warehouse" / "shop" / "t" / "metadata").glob("*.metadata.json"))
    metadata = json.loads(newest.read_text())
    schema = json.loads(json.dumps(metadata["schemas"][-1]))
    schema["fields"][0]["type"], schema["schema-id"] = "timestamp", 1
    metadata |= {"format-version": 3, "next-row-id": 0, "current-schema-id": 1}
    newest.write_text(json.dumps(metadata | {"schemas": [*metadata["schemas"], schema]}))
    conditions = [("v = '2024-01-02'", 1), ("v < '2024-01-02 01:00:00'", 1)]
    rows = [{"v": dt.datetime(2024, 1, 2)}]
    check(folder_of(table), "iceberg", rows, conditions, tmp_path)


def test_renamed_dropped_and_added_columns_of_an_iceberg_table(catalog, tmp_path):
    part = pa.struct([("x", pa.int64()), ("y", pa.string())])
    before = pa.table({"a": [1], "b": [10], "s": ["old"], "p": pa.array([{"x": 1, "y": "q"}], part),
                       "l": pa.array([[{"x": 1, "y": "q"}]], pa.list_(part))})  # fmt: skip
    table = iceberg_table(catalog, before)
    for changes in (
        [("rename_column", "a", "z"), ("delete_column", "s"), ("delete_column", "p.x")],
        [("rename_column", "b", "a"), ("add_column", "s", StringType())],
        [("rename_column", "z", "b"), ("add_column", ("p", "x"), StringType()),
         ("rename_column", "l.element.x", "n")],
    ):  # fmt: skip
        with table.update_schema() as update:
            for verb, *arguments in changes:
                getattr(update, verb)(*arguments)
    new = {"b": 2, "a": 20, "p": {"y": "r", "x": "text"}, "l": [], "s": "new"}
    table.append(pa.Table.from_pylist([new], table.schema().as_arrow()))
    old = {"b": 1, "a": 10, "p": {"y": "q", "x": None}, "l": [{"n": 1, "y": "q"}], "s": None}
    conditions = [("a = 10", 1), ("a < 5", 0), ("b = 1", 1), ("s = 'old'", 0), ("s IS NULL", 1),
                  ("p.x IS NULL", 1), ("p.x = 'text'", 1), ("l[1].n = 1", 1)]  # fmt: skip
    check(folder_of(table), "iceberg", [old, new], conditions, tmp_path)


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
@pytest.mark.parametrize(
    ("values", "condition"),
    [
        (pa.array([1.0, float("nan")]), "v > 1"),
        (pa.array([1.0, float("nan")], pa.float32()), "v > 1"),
        (pa.array([{"a": 1.0}, {"a": float("nan")}]), "v.a = 'nan'"),
        (pa.array([D("9" * 30 + ".5")]), f"v = {'9' * 30}.5"),
        (pa.array([D("10000000000000001.5")]), "v = 10000000000000001.5"),
    ],
    ids=str,
)
def test_a_condition_finds_what_the_bounds_of_the_log_do_not_hold(
    catalog, tmp_path, kind, values, condition
):
    """Bounds of Delta have no NaN, and decimals as DOUBLE."""
    rows, path = pa.table({"v": values}), tmp_path / "t"
    if kind == "delta":
        write_deltalake(path, rows)
    else:
        path = folder_of(iceberg_table(catalog, rows))
    check(path, kind, rows.to_pylist(), [(condition, 1)], tmp_path)

"""The second opinion on files: a file that was written anew with the same rows leaves its tables
fresh, and they say why."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.inputs import row_comparison as equal_rows
from tests.cases import lines
from tests.freshness.lab import Lab, said
from tests.sizes import product
from tests.templates import Template

ROWS = {"id": [1, 2, 3, 4], "a": [5, 5, 7, 1], "t": ["x", "y", "x", None]}
CHILD = "SELECT a, count(*) AS n, max(id) AS m FROM rows GROUP BY a"


def build(root: Path) -> None:
    lab = Lab(root)
    lab.parquet("rows", **ROWS)
    lab.materialize("child", CHILD)
    lab.close()


TEMPLATES = {"lab": Template(build)}


def rewritten(lab: Lab, **how: Any) -> None:
    columns = {name: values[::-1] for name, values in ROWS.items()}
    pq.write_table(pa.table(columns), lab.path("rows.parquet"), **how)


@product
@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    "statement",
    lines("statements/by_position.sql"),
)
def test_columns_that_changed_places_are_no_equal_rows_for_what_goes_by_position(
    lab, statement, kind
):
    path, table = lab.path(f"r.{kind}"), pa.table({"a": [3, 1, 2, 5], "b": [1, 2, 9, 0]})
    write = {"parquet": pq.write_table, "csv": pa.csv.write_csv}[kind]
    write(table, path)
    lab.sources.add("r", path)
    lab.materialize("t", statement)
    write(table.take([3, 2, 1, 0]), path)
    assert lab.table("t").manifest.order_sensitive or lab.staleness("t") == jl.Fresh()
    for moved in (table.select(["b", "a"]), table.select(["b", "a"]).take([3, 2, 1, 0])):
        write(moved, path)
        assert lab.staleness("t") != jl.Fresh()


def test_a_table_made_by_a_python_step_never_rests_on_it(lab):
    lab.compute("step", lambda rows: rows, inputs=["rows"], version="1")
    rewritten(lab)
    assert said(lab.staleness("step")) == ["advanced rows"]


def test_a_folder_whose_rows_moved_between_its_files_is_fresh(lab):
    folder = lab.path("parts")
    folder.mkdir()
    table = pa.table(ROWS)
    pq.write_table(table.slice(0, 1), folder / "a.parquet")
    pq.write_table(table.slice(1), folder / "b.parquet")
    lab.sources.add("parts", folder)
    lab.materialize("grand", "SELECT sum(id) AS s FROM parts WHERE a > 1")
    pq.write_table(table.slice(0, 3), folder / "c.parquet")
    assert said(lab.staleness("grand")) == ["advanced parts"]
    (folder / "a.parquet").unlink()
    pq.write_table(table.slice(3), folder / "b.parquet")
    assert lab.staleness("grand") == jl.Fresh()


TEXTS = {
    "csv": lambda rows: "town,mm,by\n" + "".join(f"{town},{mm},{by}\n" for town, mm, by in rows),
    "tsv": lambda rows: (
        "town\tmm\tby\n" + "".join(f"{town}\t{mm}\t{by}\n" for town, mm, by in rows)
    ),
    "json": lambda rows: json.dumps([{"town": town, "mm": mm, "by": by} for town, mm, by in rows]),
    "ndjson": lambda rows: "".join(
        json.dumps({"town": town, "mm": mm, "by": by}) + "\n" for town, mm, by in rows
    ),
}
RAIN = [("Oslo", 1, "A"), ("Bonn", 2, "B"), ("Oslo", 3, "B")]


def rain(lab: Lab, kind: str, rows: list[tuple[Any, ...]], *statements: str) -> list[str]:
    """The verdicts on what was made of `rain`, after it was written."""
    path = lab.path(f"rain.{kind}")
    path.write_text(TEXTS[kind](rows))
    if "rain" not in lab.sources:
        lab.sources.add("rain", path)
    for n, statement in enumerate(statements):
        lab.materialize(f"wet{n}", statement)
    return [str(row.verdict) for row in lab.status() if row.name.startswith("wet")]


def test_a_csv_that_is_only_written_otherwise_leaves_its_tables_fresh(lab):
    rain(lab, "csv", RAIN, "SELECT sum(mm) AS mm FROM rain")
    for text in (
        "town,mm,by\r\nOslo,1,A\r\nBonn,2,B\r\nOslo,3,B\r\n",
        '"town","mm","by"\n"Oslo",1,"A"\n"Bonn",2,"B"\n"Oslo",3,"B"',
    ):
        lab.path("rain.csv").write_text(text, newline="")
        assert str(lab.staleness("wet0")) == "fresh, rain has other bytes and equal rows"
    for text in (
        "town,mm,by,at\nOslo,1,A,0\nBonn,2,B,0\nOslo,3,B,0\n",
        "town,mm,by\nOslo,1.0,A\nBonn,2,B\nOslo,3,B\n",
    ):
        lab.path("rain.csv").write_text(text)
        assert lab.verdict("wet0") == "stale"  # its columns or their types are other ones


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 0, 1)], ids=["same rows", "rows in another order"]
)
def test_a_csv_whose_columns_changed_places_leaves_fresh_what_reads_some_of_them_that_did_not(
    lab, order
):
    some = [
        "SELECT sum(mm) AS mm FROM rain",
        "SELECT count(*) AS n FROM rain",
        'SELECT "by", max(mm) AS mm FROM rain GROUP BY ALL',
    ]
    places = [
        "SELECT * FROM rain",
        "SELECT x, y, count(*) AS n FROM rain AS t(x, y) GROUP BY x, y",
        "SELECT town, mm FROM rain LIMIT 2",
    ]
    rain(lab, "csv", RAIN, *some, *places)
    lab.path("rain.csv").write_text(
        "mm,town,by\n" + "".join(f"{mm},{town},{by}\n" for town, mm, by in (RAIN[n] for n in order))
    )
    verdicts = [str(row.verdict) for row in lab.status() if row.name != "child"]
    assert verdicts[:3] == ["fresh, rain has other bytes and equal rows"] * 3 and not any(
        "fresh" in each for each in verdicts[3:]
    )
    lab.path("rain.csv").write_text(
        "by,mm,town\n" + "".join(f"{town},{mm},{by}\n" for town, mm, by in RAIN)
    )  # the names, and not the values
    assert not any("fresh" in str(row.verdict) for row in lab.status() if row.name != "child")


@pytest.mark.parametrize(
    "order", [(0, 1, 2, 3), (2, 3, 0, 1)], ids=["same rows", "rows in another order"]
)
@pytest.mark.parametrize("more", [True, False], ids=["a column more", "a column less"])
def test_columns_that_come_or_go_beside_rows_in_another_order_leave_fresh_what_does_not_read_them(
    lab, order, more
):
    turned = {
        name: [values[n] for n in order] for name, values in ROWS.items() if more or name != "t"
    }
    pq.write_table(
        pa.table({"new": [7, 8, 9, 10], **turned} if more else turned), lab.path("rows.parquet")
    )
    assert lab.verdict("child") == "fresh"


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_on_text_whose_values_a_digest_does_not_tell_apart_there_is_no_opinion(lab, kind):
    head, lines = {
        "csv": ("at\n", ["2024-01-01 00:00:00+00\n", "2024-01-02 00:00:00+00\n"]),
        "ndjson": ("", ['{"a": [1]}\n', '{"a": [2]}\n']),
    }[kind]
    path = lab.path(f"odd.{kind}")
    path.write_text("".join([head, *lines]))
    lab.sources.add("odd", path)
    lab.materialize("many", "SELECT count(*) AS n FROM odd")
    path.write_text("".join([head, *lines[::-1]]))
    assert lab.verdict("many") == "stale"


def test_a_large_text_file_is_not_read_for_an_opinion(lab, monkeypatch):
    monkeypatch.setattr(equal_rows, "MAX_WHOLE_BYTES", 10)
    monkeypatch.setattr(equal_rows, "digest_select", lambda _: pytest.fail("read"))
    rain(lab, "csv", RAIN, "SELECT sum(mm) AS mm FROM rain")
    assert rain(lab, "csv", RAIN[::-1]) == ["stale: rain changed"]


def test_a_file_that_changes_while_its_rows_are_digested_leaves_no_digest(lab, monkeypatch):
    """The digest of other rows under the name of a state would be a lie for as long as the memo
    lives."""
    lab.parquet("more", **ROWS)
    kept, path, as_before = lab.path("kept"), lab.path("more.parquet"), equal_rows.digest_select

    def meanwhile(hashed: Any) -> str:
        if not kept.exists():
            shutil.copy(path, kept)
            pq.write_table(pa.table({**ROWS, "a": [9, 9, 9, 9]}), path)
        return as_before(hashed)

    monkeypatch.setattr(equal_rows, "digest_select", meanwhile)
    lab.materialize("grand", "SELECT sum(a) AS s FROM more")  # 18, of the rows before
    assert said(lab.staleness("grand")) == ["advanced more"]
    monkeypatch.setattr(equal_rows, "digest_select", as_before)
    pq.write_table(pa.table({**ROWS, "a": [9, 9, 9, 9]}), path, compression="zstd")
    assert said(lab.staleness("grand")) == ["advanced more"]
    shutil.copy(kept, path)
    assert lab.staleness("grand") == jl.Fresh()


@pytest.fixture
def chance() -> Iterator[random.Random]:
    return random.Random(11)


def test_random_files_are_fresh_exactly_when_they_hold_the_same_bag(lab, chance):
    def rows() -> list[tuple[int | None, str | None]]:
        return [
            (chance.choice([0, 1, None]), chance.choice(["p", "q", None]))
            for _ in range(chance.randrange(1, 4))
        ]

    first, seen = rows(), set()
    for turn in range(40):
        then = (
            first
            if turn == 0
            else chance.sample(first, len(first))
            if chance.random() < 0.4
            else rows()
        )
        columns = {
            "a": pa.array([a for a, _ in then], pa.int64()),
            "t": pa.array([t for _, t in then], pa.string()),
        }
        lab.parquet("bag", **columns)
        if turn == 0:
            lab.materialize("counted", "SELECT a, t, count(*) AS n FROM bag GROUP BY ALL")
        same = sorted(first, key=repr) == sorted(then, key=repr)
        assert (lab.staleness("counted") == jl.Fresh()) is same, (first, then)
        seen.add(same)
    assert seen == {True, False}


def test_another_kernel_that_was_open_before_the_table_was_made_says_the_same(lab):
    with lab.open() as other:
        assert other.status()["child"].verdict == jl.Fresh()
        lab.materialize("later", "SELECT t, count(*) AS n FROM rows GROUP BY t")
        rewritten(lab)
        assert {row.name: row.verdict for row in other.status()} == {
            "child": jl.Fresh(),
            "later": jl.Fresh(),
        }
        assert other.staleness("later") == jl.Fresh()

"""Texts into vectors: what is bound, what is encoded, what is taken over, what an interruption
leaves."""

import datetime
import decimal
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.core.records import Progress, Reuse
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Stale
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.steps.previous_versions import PreviousVersion
from jammi_lab.steps.text_statement import recorded_from_text
from tests import processes
from tests.inside import services_of

ROOT = Path(__file__).resolve().parents[3]


class Counting:
    """Vectors out of a digest of the text; remembers what it was given."""

    def __init__(self, name: str = "counting", version: str = "1", dimensions: int = 8) -> None:
        self.name, self.version, self.dimensions = name, version, dimensions
        self.seen: list[str] = []
        self.fail_on: str | None = None

    def encode(self, texts: list[str]) -> Any:
        if self.fail_on is not None and self.fail_on in texts:
            raise RuntimeError("the device fell over")
        self.seen += texts
        seeds = [
            int.from_bytes(hashlib.sha256(f"{self.version}{t}".encode()).digest()[:8], "big")
            for t in texts
        ]
        return (
            np.stack(
                [
                    np.random.default_rng(s).normal(size=self.dimensions).astype(np.float32)
                    for s in seeds
                ]
            )
            if texts
            else np.empty((0, 8))
        )


def csv(path: Path, rows: dict[Any, str]) -> Path:
    path.write_text(
        "id,title,year\n"
        + "".join(f"{k},{t},{2000 + i}\n" for i, (k, t) in enumerate(rows.items()))
    )
    return path


@pytest.fixture
def texts(tmp_path: Path) -> dict[Any, str]:
    return {i: f"text {i}" for i in range(1, 301)}


@pytest.fixture
def lab(ws: Any, tmp_path: Path, texts: dict[Any, str]) -> Any:
    ws.sources.add("papers", csv(tmp_path / "papers.csv", texts))
    return ws


def checkpoints(ws: Any) -> list[Path]:
    return sorted((Path(services_of(ws).folder) / "checkpoints").glob("*"))


# -- what is bound ---------------------------------------------------------------------------------


def test_rows_come_in_key_order_whatever_the_order_of_the_source(ws: Any, tmp_path: Path) -> None:
    ws.sources.add("p", csv(tmp_path / "p.csv", {3: "c", 10: "x", 1: "a"}))
    table = ws.embed("v", "p", key="id", text="title", model=Counting())
    assert table.read().arrow()["key"].to_pylist() == [1, 3, 10]
    assert table.read().columns == ["key", "vector", "_text_digest"]
    assert (table.kind, table.key, table.dimensions, table.model_id, table.source_id) == (
        "embedding",
        ["key"],
        8,
        "counting",
        "p",
    )


def test_each_row_has_the_vector_of_its_own_text(lab: Any, texts: dict[Any, str]) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    for key in (1, 77, 300):
        assert np.array_equal(lab.vector("v", key), encoder.encode([texts[key]])[0])


def test_one_anchor_covers_key_and_texts_and_nothing_else(lab: Any) -> None:
    table = lab.embed("v", "papers", key="id", text="title", model=Counting())
    [anchor] = table.manifest.anchors
    assert (anchor.input.name, anchor.columns) == ("papers", ("id", "title"))


def test_a_source_that_is_read_twice_is_anchored_once_over_all_its_columns(lab: Any) -> None:
    both = "SELECT a.id, b.title FROM papers a JOIN papers b USING (id) WHERE a.year > 0"
    [anchor] = lab.embed("v", both, key="id", text="title", model=Counting()).manifest.anchors
    assert anchor.columns == ("id", "title", "year")


@pytest.mark.parametrize("through", ["source", "table"])
def test_a_column_that_is_not_read_moves_nothing(ws: Any, tmp_path: Path, through: str) -> None:
    rows = pa.table({"id": [1, 2], "title": ["a", "b"], "year": [1, 2]})
    pq.write_table(rows, tmp_path / "p.parquet")
    ws.sources.add("p", tmp_path / "p.parquet")
    if through == "table":
        ws.materialize("t", "SELECT * FROM p", key="id")
    ws.embed("v", "p" if through == "source" else "t", key="id", text="title", model=Counting())
    pq.write_table(rows.set_column(2, "year", pa.array([7, 8])), tmp_path / "p.parquet")
    if through == "table":
        ws.recompute("t")
    assert ws.staleness("v") == Fresh()


@pytest.mark.parametrize(
    "asked",
    ["papers", "copied", "SELECT id, title FROM papers", "  select *\nfrom papers ; -- done"],
)
def test_a_source_a_recipe_and_sql_can_be_embedded(lab: Any, asked: str) -> None:
    lab.materialize("copied", "SELECT * FROM papers")
    assert lab.embed("v", asked, key="id", text="title", model=Counting()).row_count == 300


def test_names_are_found_whatever_their_case(lab: Any) -> None:
    table = lab.embed("v", "PAPERS", key="ID", text=["Title", "title"], model=Counting())
    assert table.row_count == 300


def test_where_leaves_rows_out(lab: Any) -> None:
    assert (
        lab.embed(
            "v", "papers", key="id", text="title", where="id <= 5 -- few", model=Counting()
        ).row_count
        == 5
    )


@pytest.mark.parametrize(
    "where",
    [
        "true) UNION ALL SELECT 1, 'x' WHERE (true",
        "SELECT true",
        "true); SELECT (1",
        "(true",
        "",
        "  ",
    ],
)
def test_where_stays_within_its_brackets(lab: Any, where: str) -> None:
    with pytest.raises((errors.StatementNotAllowed, errors.InvalidArgument)):
        lab.embed("v", "papers", key="id", text="title", where=where, model=Counting())


def test_a_file_that_where_reads_by_its_path_is_an_input_and_no_other_way_leads_to_a_file(
    lab: Any, tmp_path: Path
) -> None:
    (tmp_path / "wanted.csv").write_text("id\n1\n2\n")
    table = lab.embed(
        "v",
        "papers",
        key="id",
        text="title",
        where=f"id IN (SELECT id FROM read_csv('{tmp_path}/wanted.csv'))",
        model=Counting(),
    )
    assert table.row_count == 2 and len(table.inputs) == 2
    with pytest.raises(errors.StatementNotAllowed):
        lab.embed(
            "w",
            "papers",
            key="id",
            text="title",
            where=f"title IN (SELECT content FROM read_text('{tmp_path}/wanted.csv'))",
            model=Counting(),
        )
    with lab.tenant("acme"), pytest.raises(errors.StatementNotAllowed):
        lab.embed(
            "w",
            "papers",
            key="id",
            text="title",
            where=f"id IN (SELECT id FROM read_csv('{tmp_path}/wanted.csv'))",
            model=Counting(),
        )


@pytest.mark.parametrize("text", ["year > 1 /* ) */", "name = ')'", 'f("a)") > 1', "a[1] = (2)"])
def test_brackets_in_texts_and_comments_are_no_brackets(text: str) -> None:
    assert check_expression(text) == text


@pytest.mark.parametrize(
    "asked", ["papers", "SELECT id, title FROM papers WHERE title <> ')'", "copied"]
)
def test_what_a_recorded_embedding_reads_can_be_told_from_its_statement(
    lab: Any, asked: str
) -> None:
    lab.materialize("copied", "SELECT * FROM papers")
    table = lab.embed("v", asked, key="id", text="title", where="id < 9", model=Counting())
    assert (
        len(lab.sql(f"SELECT id FROM {recorded_from_text(table.manifest.descriptor)}").arrow())
        == 300
    )


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        ({"source": "paper"}, errors.TableNotFound),
        ({"source": 7}, errors.InvalidArgument),
        ({"source": "papers.csv"}, errors.JammiError),
        ({"source": "SELECT 1; SELECT 2"}, errors.StatementNotAllowed),
        ({"source": "DROP TABLE papers"}, errors.StatementNotAllowed),
        ({"key": "idd"}, errors.SchemaMismatch),
        ({"key": ["id", "year"]}, errors.InvalidArgument),
        ({"text": "titel"}, errors.SchemaMismatch),
        ({"where": "titel = 'x'"}, errors.SqlError),
        ({"source": "SELECT idd AS id, title FROM papers"}, errors.SqlError),
        ({"text": []}, errors.InvalidArgument),
        ({"text": "year"}, errors.SchemaMismatch),
        ({"text": "id"}, errors.SchemaMismatch),
        ({"model": "minilmm"}, errors.ModelNotFound),
        ({"precision": "f64"}, errors.InvalidArgument),
        ({"cache": "maybe"}, errors.InvalidArgument),
    ],
)
def test_bad_arguments_are_told_and_make_nothing(
    lab: Any, change: dict[str, Any], raised: type[Exception]
) -> None:
    asked = {"source": "papers", "key": "id", "text": "title", "model": Counting()} | change
    with pytest.raises(raised) as error:
        lab.embed("v", asked.pop("source"), **asked)
    assert isinstance(error.value, errors.JammiError) and str(error.value)
    assert lab.tables(status=None) == []


@pytest.mark.parametrize(
    ("change", "missing", "near"),
    [({"key": "idd"}, "idd", "id"), ({"text": ["title", "titel"]}, "titel", "title")],
)
@pytest.mark.parametrize("source", ["papers", "SELECT * FROM papers"])
def test_a_misspelt_column_is_told_as_other_producers_tell_it(
    lab: Any, change: dict[str, Any], missing: str, near: str, source: str
) -> None:
    with pytest.raises(errors.SchemaMismatch) as error:
        lab.embed("v", source, **({"key": "id", "text": "title", "model": Counting()} | change))
    assert (error.value.table, error.value.column, error.value.message) == (
        source,
        missing,
        f"{source!r} has no column {missing!r}.",
    )
    assert error.value.hint == f"Did you mean {near}?" and error.value.statement is None


def test_a_misspelt_source_is_told_the_near_name(lab: Any) -> None:
    with pytest.raises(errors.TableNotFound) as error:
        lab.embed("v", "paperz", key="id", text="title", model=Counting())
    assert "papers" in error.value.near


def test_a_key_that_is_missing_is_refused_before_anything_is_encoded(
    ws: Any, tmp_path: Path
) -> None:
    encoder = Counting()
    with pytest.raises(errors.SchemaMismatch, match="1 of 2 rows have no key in 'k'"):
        ws.embed(
            "v",
            "SELECT * FROM (VALUES (1, 'a'), (NULL, 'b')) t(k, title)",
            key="k",
            text="title",
            model=encoder,
        )
    assert encoder.seen == []


def test_a_key_that_stands_twice_is_refused_before_anything_is_encoded(ws: Any) -> None:
    encoder = Counting()
    with pytest.raises(errors.DuplicateKey) as error:
        ws.embed(
            "v",
            "SELECT * FROM (VALUES (2, 'a'), (1, 'b'), (2, 'c')) t(k, title)",
            key="k",
            text="title",
            model=encoder,
        )
    assert error.value.keys == (2,) or list(error.value.keys) == [2]
    assert encoder.seen == []


@pytest.mark.parametrize("key", ["{'a': 1}", "[1]", "MAP {1: 2}", "INTERVAL 1 DAY"])
def test_a_key_without_an_order_is_refused(ws: Any, key: str) -> None:
    with pytest.raises(errors.SchemaMismatch, match="cannot be a key"):
        ws.embed("v", f"SELECT {key} AS k, 'a' AS title", key="k", text="title", model=Counting())


def test_a_key_of_more_digits_than_can_be_looked_up_is_refused(ws: Any) -> None:
    most = 10**38 - 1
    ws.embed(
        "v", f"SELECT {most}::HUGEINT AS k, 'a' AS title", key="k", text="title", model=Counting()
    )
    assert ws.search("v", row=most, k=1).arrow().num_rows == 0 and ws.vector("v", most) is not None
    with pytest.raises(errors.SchemaMismatch, match="more digits"):
        ws.embed(
            "v",
            f"SELECT {most + 1}::HUGEINT AS k, 'a' AS title",
            key="k",
            text="title",
            model=Counting(),
        )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda n: np.ones((n - 1, 8), np.float32), "shape"),
        (lambda n: np.ones((n, 7), np.float32), "width 7"),
        (lambda n: np.full((n, 8), np.nan, np.float32), "not finite"),
        (lambda n: np.full((n, 8), np.inf, np.float32), "not finite"),
        (lambda n: np.zeros((n, 8), np.float32), "zeros"),
        (lambda n: ["x"] * n, "did not return an array of numbers"),
        (lambda n: None, "did not return an array of numbers"),
    ],
)
def test_an_encoder_that_gives_something_else_is_told_with_model_and_key(
    lab: Any, made: Any, said: str
) -> None:
    encoder = Counting()
    encoder.encode = lambda texts: made(len(texts))  # type: ignore[method-assign]
    with pytest.raises(errors.SchemaMismatch, match=said) as error:
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert (
        "'counting'" in str(error.value)
        and "first for key 1." in str(error.value)
        and error.value.key == 1
    )
    assert "v" not in lab and [t.status for t in lab.tables(status=None)] == ["failed"]


def test_the_first_key_whose_vector_is_unusable_is_named_and_the_good_vectors_are_kept(
    lab: Any, texts: dict[Any, str]
) -> None:
    encoder, bad = Counting(), {"text 7", "text 70", "text 200"}
    good = encoder.encode
    # the shortest is encoded first, and 200 comes before 70 in no order but that of the texts'
    # lengths
    encoder.encode = lambda some: np.where([[t in bad] for t in some], np.nan, good(some))  # type: ignore[method-assign]
    bad.remove("text 7")
    with pytest.raises(errors.SchemaMismatch, match="not finite, first for key 70") as error:
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert error.value.key == 70
    before, encoder.seen = len(encoder.seen), []
    bad.clear()
    table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert (
        table.reuse.encoded_before >= 69
        and len(encoder.seen) == 300 - table.reuse.encoded_before < before + 231
    )


# -- keys and texts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        ("i", [0, 1, 2]),
        ("i::UBIGINT", [0, 1, 2]),
        ("chr((99 - i)::INT)", ["a", "b", "c"]),
        ("DATE '2020-01-01' + i::INT", [datetime.date(2020, 1, d) for d in (1, 2, 3)]),
        (
            "TIMESTAMP '2020-01-01' + to_days(i::INT)",
            [datetime.datetime(2020, 1, d) for d in (1, 2, 3)],
        ),
        (
            "(i / 10)::DECIMAL(10, 2)",
            [decimal.Decimal("0.00"), decimal.Decimal("0.10"), decimal.Decimal("0.20")],
        ),
        ("('a' || i)::BLOB", [b"a0", b"a1", b"a2"]),
        (
            "('00000000-0000-0000-0000-00000000000' || i)::UUID",
            [f"00000000-0000-0000-0000-00000000000{i}" for i in range(3)],
        ),
    ],
)
def test_a_key_keeps_its_type_and_finds_its_row_again(ws: Any, sql: str, keys: list[Any]) -> None:
    ws.embed(
        "v",
        f"SELECT {sql} AS k, 'text ' || i AS title FROM range(3) t(i)",
        key="k",
        text="title",
        model="hashing",
    )
    assert ws.table("v").read().arrow()["key"].to_pylist() == keys
    hits = ws.search("v", row=keys[1], k=5, select="title").arrow()
    assert sorted(hits["key"].to_pylist()) == sorted([keys[0], keys[2]]) and not any(
        hits["source_missing"].to_pylist()
    )
    assert ws.vector("v", keys[2]).shape == (256,)


def test_null_and_empty_texts_are_the_empty_text_and_equal_texts_are_encoded_once(ws: Any) -> None:
    encoder = Counting()
    rows = "(VALUES (1, NULL), (2, ''), (3, 'a'), (4, 'a'), (5, 'b')) t(k, title)"
    ws.embed("v", f"SELECT * FROM {rows}", key="k", text="title", model=encoder)
    assert sorted(encoder.seen) == ["", "a", "b"]
    vectors = [ws.vector("v", k) for k in range(1, 6)]
    assert (
        np.array_equal(vectors[0], vectors[1])
        and np.array_equal(vectors[2], vectors[3])
        and not np.array_equal(vectors[3], vectors[4])
    )


def test_several_text_columns_are_joined_in_the_order_given_and_empty_ones_left_out(
    ws: Any,
) -> None:
    encoder = Counting()
    rows = "SELECT * FROM (VALUES (1, 'a', 'b'), (2, NULL, 'c'), (3, NULL, '')) t(k, x, y)"
    ws.embed("v", rows, key="k", text=["y", "x"], model=encoder)
    assert sorted(encoder.seen) == ["", "b\na", "c"]


def test_a_key_can_be_a_text_too(ws: Any) -> None:
    encoder = Counting()
    ws.embed("v", "SELECT 'graph' AS word", key="word", text="word", model=encoder)
    assert encoder.seen == ["graph"]


def test_no_rows_are_a_table_without_rows(lab: Any) -> None:
    table = lab.embed("v", "papers", key="id", text="title", where="id < 0", model=Counting())
    assert (table.row_count, table.reuse) == (0, Reuse(new=0, changed=0, removed=0, unchanged=0))
    assert len(lab.search("v", "x").arrow()) == 0


def test_an_enum_is_a_text(ws: Any) -> None:
    encoder = Counting()
    ws.embed(
        "v", "SELECT 1 AS k, 'a'::ENUM('a', 'b') AS title", key="k", text="title", model=encoder
    )
    assert encoder.seen == ["a"]


# -- what is taken over ----------------------------------------------------------------------------


def test_one_percent_changed_is_one_percent_encoded_and_equals_a_full_rebuild(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    encoder.seen.clear()
    texts = {k: t for k, t in texts.items() if k != 9} | {7: "another", 8: "third", 999: "new"}
    csv(tmp_path / "papers.csv", texts)
    again = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert sorted(encoder.seen) == ["another", "new", "third"]
    assert again.reuse == Reuse(new=1, changed=2, removed=1, unchanged=297)
    encoder.seen.clear()
    whole = lab.embed("w", "papers", key="id", text="title", model=encoder, cache="bypass")
    assert len(encoder.seen) == 300
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_recompute_takes_rows_over_too(lab: Any, tmp_path: Path, texts: dict[Any, str]) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    encoder.seen.clear()
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    report = lab.recompute("v")
    assert encoder.seen == ["another"] and lab.table("v").version == 2
    assert [step.reuse for step in report.steps] == [
        Reuse(new=0, changed=1, removed=0, unchanged=len(texts) - 1)
    ]
    assert f"0 new, 1 changed, 0 removed, {len(texts) - 1} unchanged" in repr(report)


def test_what_a_version_took_over_is_told_of_every_embedding_and_after_a_restart(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    lab.embed("v", "papers", key="id", text="title", model="hashing")
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    lab.recompute("v")
    lab.materialize("m", "SELECT 1 AS a")
    first, second = (
        Reuse(new=len(texts), changed=0, removed=0, unchanged=0),
        Reuse(new=0, changed=1, removed=0, unchanged=len(texts) - 1),
    )
    assert [lab.table("v", version=n).reuse for n in (1, 2)] == [first, second]
    assert lab.embed("v", "papers", key="id", text="title", model="hashing").reuse == Reuse(
        new=0, changed=0, removed=0, unchanged=len(texts)
    )
    lab.close()
    with jl.open(lab.path) as again:
        assert [(t.name, t.reuse) for t in again.tables()] == [
            ("m", None),
            ("v", second),
            ("v", first),
        ]
        assert "unchanged" not in repr(again.table("v"))  # it is no news there


def test_bypass_takes_nothing_over_from_an_interrupted_run(lab: Any) -> None:
    encoder = Counting()
    encoder.fail_on = "text 200"
    with pytest.raises(errors.JammiError):
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert encoder.seen
    encoder.fail_on, encoder.seen = None, []
    table = lab.embed("v", "papers", key="id", text="title", model=encoder, cache="bypass")
    assert table.reuse.encoded_before == 0 and len(encoder.seen) == 300


def test_bypass_takes_nothing_over(lab: Any) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    table = lab.embed("v", "papers", key="id", text="title", model=encoder, cache="bypass")
    assert len(encoder.seen) == 600 and table.outcome == "computed" and table.reuse.new == 300


def test_asking_again_reuses_the_table_and_says_that_all_is_unchanged(lab: Any) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    again = lab.embed("v", "papers", key="id", text="title", model=encoder, precision="f16")
    assert (again.outcome, again.version) == ("reused", 1)
    assert (
        again.reuse == Reuse(new=0, changed=0, removed=0, unchanged=300)
        and len(encoder.seen) == 300
    )
    assert lab.materialize("m", "SELECT 1 AS a").reuse is None


def test_a_text_that_moved_to_another_row_is_not_encoded_again(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    encoder.seen.clear()
    csv(tmp_path / "papers.csv", texts | {1: texts[2], 2: texts[1]})
    table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert encoder.seen == [] and table.reuse.changed == 2
    assert np.array_equal(lab.vector("v", 1), encoder.encode([texts[2]])[0])


def test_another_where_keeps_what_is_known(lab: Any) -> None:
    encoder = Counting()
    lab.embed("v", "papers", key="id", text="title", where="id <= 200", model=encoder)
    encoder.seen.clear()
    table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert len(encoder.seen) == 100 and table.reuse == Reuse(
        new=100, changed=0, removed=0, unchanged=200
    )


def test_vectors_of_another_encoder_are_never_taken_over(lab: Any) -> None:
    lab.embed("v", "papers", key="id", text="title", model=Counting())
    other = Counting(version="2")
    lab.embed("v", "papers", key="id", text="title", model=other)
    assert len(other.seen) == 300


def test_an_encoder_that_was_used_before_finds_its_version_again(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    one, two = Counting(), Counting(version="2")
    lab.embed("v", "papers", key="id", text="title", model=one)
    lab.embed("v", "papers", key="id", text="title", model=two)
    one.seen.clear()
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    lab.embed("v", "papers", key="id", text="title", model=one)
    assert one.seen == ["another"]


def test_a_damaged_version_is_not_taken_over(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    encoder = Counting()
    path = lab.embed("v", "papers", key="id", text="title", model=encoder).path
    body = bytearray(path.read_bytes())
    body[100] ^= 1
    path.write_bytes(body)
    encoder.seen.clear()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert len(encoder.seen) == 300


@pytest.mark.parametrize("moment", ["columns", "batches"])
def test_a_version_that_goes_away_while_its_table_is_embedded_anew_is_not_taken_over(
    lab: Any, tmp_path: Path, texts: Any, moment: str
) -> None:
    encoder = Counting()
    first = lab.embed("v", "papers", key="id", text="title", model=encoder)
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    encoder.seen.clear()
    asked = getattr(PreviousVersion, moment)

    def gone(earlier: PreviousVersion, *names: Any) -> Any:
        first.path.unlink(missing_ok=True)  # as another kernel's drop or expire
        return asked(earlier, *names)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PreviousVersion, moment, gone)
        table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert len(encoder.seen) == 300 and table.row_count == 300
    assert np.array_equal(lab.vector("v", 7), encoder.encode(["another"])[0])


# -- encoders --------------------------------------------------------------------------------------


def test_another_version_or_width_or_name_is_another_definition(lab: Any) -> None:
    hashes = {
        lab.embed("v", "papers", key="id", text="title", model=model).definition_hash
        for model in (
            Counting(),
            Counting(version="2"),
            Counting(name="other"),
            Counting(name="wide", dimensions=16),
        )
    }
    assert len(hashes) == 4


def test_other_weights_under_a_name_in_use_are_refused(lab: Any) -> None:
    from jammi_lab.features.vectors.encoders.base import EncoderIdentity

    def weighed(weights: str) -> Counting:
        encoder = Counting()
        encoder.identity = EncoderIdentity(
            name="counting", version="1", dimensions=8, weights=weights
        )  # type: ignore[attr-defined]
        return encoder

    lab.embed("v", "papers", key="id", text="title", model=weighed("a" * 64))
    with pytest.raises(errors.InvalidArgument, match="other weights"):
        lab.embed("v", "papers", key="id", text="title", model=weighed("b" * 64))


def test_other_weights_under_the_same_name_after_a_restart_change_the_definition(
    tmp_path: Path,
) -> None:
    from jammi_lab.features.vectors.encoders.base import EncoderIdentity

    def weighed(weights: str) -> Counting:
        encoder = Counting()
        encoder.identity = EncoderIdentity(
            name="counting", version="1", dimensions=8, weights=weights
        )  # type: ignore[attr-defined]
        return encoder

    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", csv(tmp_path / "papers.csv", {1: "a"}))
        ws.embed("v", "papers", key="id", text="title", model=weighed("a" * 64))
    with jl.open(tmp_path / "lab") as ws:
        ws.embed("w", "papers", key="id", text="title", model=weighed("b" * 64))
        verdict = ws.staleness("v")
        assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], DefinitionChanged)
        with pytest.raises(errors.ModelNotFound, match="other weights"):
            ws.search("v", "a")


def test_after_a_restart_without_its_encoder_a_table_can_be_read_but_not_made_again(
    tmp_path: Path,
) -> None:
    path = csv(tmp_path / "papers.csv", {1: "a", 2: "b"})
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", path)
        ws.embed("v", "papers", key="id", text="title", model=Counting())
    with jl.open(tmp_path / "lab") as ws:
        assert ws.staleness("v") == Fresh()
        assert len(ws.search("v", row=1).arrow()) == 1
        with pytest.raises(errors.ModelNotFound, match="vector"):
            ws.search("v", "a")
        csv(path, {1: "a", 2: "c"})
        plan = ws.plan("v")
        assert [s.name for s in plan.blocked] == ["v"]
        [step] = plan.apply().steps
        assert step.outcome == "blocked" and "'counting'" in step.error
        ws.embed(
            "w", "papers", key="id", text="title", model=Counting()
        )  # the encoder is here again
        ws.recompute("v")
        assert ws.staleness("v") == Fresh()


class SentenceTransformer:
    """What a sentence-transformers model shows."""

    max_seq_length = 128

    def get_sentence_embedding_dimension(self) -> int:
        return 4

    def state_dict(self) -> dict[str, Any]:
        return {"weight": np.arange(4, dtype=np.float32)}

    def encode(
        self, texts: list[str], convert_to_numpy: bool = False, show_progress_bar: bool = True
    ) -> Any:
        assert convert_to_numpy and not show_progress_bar
        return np.array([[len(t), 1, 2, 3] for t in texts], np.float32)


def test_a_table_is_stale_after_its_model_was_trained_on_and_no_row_is_taken_over(lab: Any) -> None:
    weights = np.arange(4, dtype=np.float32)

    class Trained(SentenceTransformer):
        def state_dict(self) -> dict[str, Any]:
            return {"weight": weights}

        def encode(self, texts: list[str], **how: Any) -> Any:
            return super().encode(texts, **how) + weights

    before = lab.embed("v", "papers", key="id", text="title", model=Trained())
    assert lab.staleness("v") == Fresh()
    weights += 1
    assert isinstance(lab.staleness("v"), Stale)
    assert lab.recompute("v").executed == ["v"] and lab.staleness("v") == Fresh()
    made = lab.table("v")
    assert made.read().arrow()["vector"][0].as_py() != before.read().arrow()["vector"][0].as_py()
    assert (
        made.manifest.descriptor["encoder"]["weights"]
        != before.manifest.descriptor["encoder"]["weights"]
    )


def test_a_sentence_transformers_model_works_as_it_is(lab: Any) -> None:
    table = lab.embed("v", "papers", key="id", text="title", model=SentenceTransformer())
    assert table.dimensions == 4 and len(lab.search("v", "text 7", k=3).arrow()) == 3
    assert table.manifest.descriptor["encoder"]["weights"]


def test_a_registered_model_is_used_by_its_name_and_cannot_be_deleted_then(lab: Any) -> None:
    lab.models.register("mine", Counting(name="mine"))
    lab.embed("v", "papers", key="id", text="title", model="mine")
    with pytest.raises(errors.ModelReferenced):
        lab.models.delete("mine")


# -- progress, interrupts, checkpoints -------------------------------------------------------------


def test_progress_comes_after_the_building_row_and_before_the_first_batch(lab: Any) -> None:
    told: list[tuple[Progress, list[str]]] = []
    lab.embed(
        "v",
        "papers",
        key="id",
        text="title",
        model=Counting(),
        progress=lambda p: told.append((p, [t.status for t in lab.tables(status=None)])),
    )
    assert all(
        status == (["ready"] if p.stage.startswith("index") else ["building"]) for p, status in told
    ), told  # the index follows
    last = [p for p, _ in told if p.unit == "texts"][-1]
    assert (last.stage, last.done, last.total) == ("embed v", 300, 300)


def test_an_encoder_that_raises_midway_is_told_and_the_next_call_goes_on_from_there(
    lab: Any, texts: dict[Any, str]
) -> None:
    encoder = Counting()
    encoder.fail_on = texts[300]
    with pytest.raises(errors.SchemaMismatch) as error:
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert isinstance(error.value.__cause__, RuntimeError) and "the device fell over" in str(
        error.value
    )
    assert len(checkpoints(lab)) == 1 and 0 < len(encoder.seen) < 300
    before, encoder.fail_on = set(encoder.seen), None
    encoder.seen.clear()
    table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert before.isdisjoint(encoder.seen) and before | set(encoder.seen) == set(texts.values())
    assert checkpoints(lab) == [] and table.reuse.new == 300
    whole = lab.embed("w", "papers", key="id", text="title", model=encoder, cache="bypass")
    assert table.path.read_bytes() == whole.path.read_bytes()


def test_two_interruptions_lose_nothing_of_the_first(lab: Any, texts: dict[Any, str]) -> None:
    encoder = Counting()
    for stop_at in (1, 1):
        calls = []

        def stop(p: Progress, stop_at: int = stop_at, calls: list[int] = calls) -> None:
            if p.unit == "texts":
                calls.append(p.done)
                if len(calls) == stop_at:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as stopped:
            lab.embed("v", "papers", key="id", text="title", model=encoder, progress=stop)
        assert stopped.value.__notes__ == [
            f"'v' was not computed; {len(encoder.seen)} of 300 texts are encoded and saved for the next run."
        ]
        assert len(checkpoints(lab)) == 1
    kept = len(encoder.seen)
    table = lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert len(encoder.seen) == 300 and checkpoints(lab) == []
    assert table.reuse.encoded_before == kept > 0 and str(table.reuse).endswith(
        f"0 unchanged; {kept} taken over from an unfinished run"
    )


def test_what_an_interrupted_run_left_is_taken_over_by_its_own_tenant_alone(
    lab: Any, texts: dict[Any, str]
) -> None:
    encoder = Counting()
    encoder.fail_on = texts[300]
    with lab.tenant("acme"), pytest.raises(errors.SchemaMismatch):
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    encoder.fail_on, left = None, checkpoints(lab)
    for tenant in ("bolt", None):
        encoder.seen.clear()
        with lab.tenant(tenant):
            assert (
                lab.embed("v", "papers", key="id", text="title", model=encoder).reuse.encoded_before
                == 0
            )
        assert (len(encoder.seen), checkpoints(lab)) == (300, left)
    with lab.tenant("acme"):
        assert (
            lab.embed("v", "papers", key="id", text="title", model=encoder).reuse.encoded_before > 0
        )
    assert checkpoints(lab) == []


@pytest.mark.parametrize("sql", [False, True], ids=["table", "sql"])
def test_an_interrupted_run_over_a_table_of_a_session_leaves_nothing_and_runs_again(
    lab: Any, sql: bool
) -> None:
    encoder, rows = Counting(), [{"id": n, "title": f"text {n}"} for n in range(300)]

    def stop(p: Progress) -> None:
        if p.unit == "texts" and p.done:
            raise KeyboardInterrupt

    with lab.tenant("acme"), lab.ephemeral() as session:
        session.create("secret", {"id": "int64", "title": "string"}, primary_key="id")
        session.insert("secret", rows)
        lab.mutable.create("plain", {"id": "int64", "title": "string"}, primary_key=["id"]).insert(
            rows
        )
        reference = session.table_ref("secret")
        for source, left in (
            (
                f"(SELECT s.id, s.title FROM {reference} s, papers p WHERE p.id = 1)"
                if sql
                else reference,
                0,
            ),
            ("mutable.plain", 1),
        ):
            with pytest.raises(KeyboardInterrupt):
                lab.embed("v", source, key="id", text="title", model=encoder, progress=stop)
            assert len(checkpoints(lab)) == left
        assert lab.embed("w", reference, key="id", text="title", model=encoder).row_count == 300


def test_what_an_interrupted_run_had_made_goes_with_the_table_that_it_read(lab: Any) -> None:
    def stop(p: Progress) -> None:
        if p.unit == "texts" and p.done:
            raise KeyboardInterrupt

    for name in ("one", "two"):
        lab.mutable.create(name, {"id": "int64", "title": "string"}, primary_key=["id"]).insert(
            [{"id": n, "title": f"{n}"} for n in range(300)]
        )
        with pytest.raises(KeyboardInterrupt):
            lab.embed(
                f"v {name}",
                f"mutable.{name}",
                key="id",
                text="title",
                model=Counting(),
                progress=stop,
            )
    assert len(checkpoints(lab)) == 2
    checkpoints(lab)[0].with_name("damaged.parquet").write_bytes(b"PAR1")
    lab.mutable.drop("one")
    [left] = [path for path in checkpoints(lab) if path.stem != "damaged"]
    assert (
        lab.embed(
            "v two", "mutable.two", key="id", text="title", model=Counting()
        ).reuse.encoded_before
        and not left.exists()
    )

    def drop_and_stop(p: Progress) -> None:
        if p.unit == "texts" and p.done:
            lab.mutable.drop("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        lab.embed(
            "v",
            "mutable.two",
            key="id",
            text="title",
            model=Counting("other"),
            progress=drop_and_stop,
        )
    assert [path.stem for path in checkpoints(lab)] == [
        "damaged"
    ] and "saved for the next run" not in str(stopped.value.__notes__)


def test_texts_are_found_under_names_as_sql_writes_them(lab: Any) -> None:
    encoder = Counting()
    lab.materialize('my "own" papers', "SELECT * FROM papers WHERE id < 4")
    for n, asked in enumerate(
        ['jammi."my ""own"" papers"', '"papers"', ' "jammi"."my ""own"" papers" ']
    ):
        assert lab.embed(f"v{n}", asked, key="id", text="title", model=encoder).row_count == (
            300 if n == 1 else 3
        )
    with pytest.raises(errors.TableNotFound):
        lab.embed("v", 'jammi."no such"', key="id", text="title", model=encoder)


def test_an_interrupt_while_the_rows_are_written_keeps_what_was_encoded(lab: Any) -> None:
    encoder = Counting()

    def stop(p: Progress) -> None:
        if p.unit == "rows" and p.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.embed("v", "papers", key="id", text="title", model=encoder, progress=stop)
    assert "v" not in lab and len(checkpoints(lab)) == 1
    encoder.seen.clear()
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert encoder.seen == [] and checkpoints(lab) == []


def test_an_input_that_moves_meanwhile_is_read_again_and_only_the_difference_encoded(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    encoder, moved = Counting(), []

    def move(p: Progress) -> None:
        if p.unit == "texts" and not moved:
            moved.append(csv(tmp_path / "papers.csv", texts | {5: "edited meanwhile"}))

    lab.embed("v", "papers", key="id", text="title", model=encoder, progress=move)
    assert len(encoder.seen) == 301 and lab.staleness("v") == Fresh()
    assert (
        np.array_equal(lab.vector("v", 5), encoder.encode(["edited meanwhile"])[0])
        and checkpoints(lab) == []
    )


def test_an_interrupt_before_the_first_text_and_one_whose_texts_cannot_be_kept_say_that_nothing_is_left(
    lab: Any, monkeypatch: Any
) -> None:
    encoder = Counting()

    def stop(at: str) -> Any:
        def told(p: Progress) -> None:
            if p.unit == at:
                raise KeyboardInterrupt

        return told

    with pytest.raises(KeyboardInterrupt) as stopped:
        lab.embed("v", "papers", key="id", text="title", model=encoder, progress=stop("rows"))
    assert stopped.value.__notes__ == ["'v' was not computed; nothing was left behind."]
    monkeypatch.setattr("jammi_lab.steps.checkpoint.Checkpoint.append", lambda *_: False)
    with pytest.raises(KeyboardInterrupt) as stopped:
        lab.embed("v", "papers", key="id", text="title", model=encoder, progress=stop("texts"))
    assert (
        stopped.value.__notes__ == ["'v' was not computed; nothing was left behind."]
        and checkpoints(lab) == []
    )


def test_what_an_interrupted_run_left_goes_after_a_week(lab: Any) -> None:
    folder = Path(services_of(lab).folder) / "checkpoints"
    folder.mkdir(exist_ok=True)
    for name, days in (("old", 7.1), ("young", 6.9)):
        (folder / f"{name}.parquet").write_bytes(b"what was encoded")
        os.utime(folder / f"{name}.parquet", (time.time() - days * 86_400,) * 2)
    lab.embed("v", "papers", key="id", text="title", model=Counting())
    assert [path.name for path in checkpoints(lab)] == ["young.parquet"]


def test_a_damaged_checkpoint_counts_as_none(lab: Any, texts: dict[Any, str]) -> None:
    encoder = Counting()
    encoder.fail_on = texts[300]
    with pytest.raises(errors.SchemaMismatch):
        lab.embed("v", "papers", key="id", text="title", model=encoder)
    [path] = checkpoints(lab)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    encoder.seen.clear()
    encoder.fail_on = None
    lab.embed("v", "papers", key="id", text="title", model=encoder)
    assert len(encoder.seen) == 300


CHILD = """
import sys, time
sys.path.insert(0, {here!r})
import numpy as np, jammi_lab as jl
class Slow:
    name, version, dimensions = "slow", "1", 8
    def encode(self, texts):
        time.sleep(0.6); print("batch", flush=True)
        return np.array([[len(t), *t.encode()[-2:], 1, 2, 3, 4, 5] for t in texts], np.float32)
with jl.open("lab") as ws:
    ws.sources.add("papers", "papers.csv", replace=True)
    try:
        t = ws.embed("v", "papers", key="id", text="title", model=Slow())
        print("done", t.row_count, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise SystemExit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_midway_leaves_one_checkpoint_for_the_next(
    tmp_path: Path, how: signal.Signals
) -> None:
    csv(tmp_path / "papers.csv", {i: f"text {i}" for i in range(1000)})
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[str]:
        return processes.Popen(
            [sys.executable, "-c", CHILD.format(here=str(ROOT))],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start() as child:
        assert child.stdout is not None
        for _ in range(5):
            assert child.stdout.readline() == "batch\n"
        child.send_signal(how)
        rest = child.stdout.read()
    assert "done" not in rest
    assert (
        len(list((tmp_path / "lab" / "checkpoints").glob("[!.]*"))) == 1
    )  # a kill may also leave a half-written one, which the next run removes
    with start() as child:
        assert child.stdout is not None
        said = child.stdout.read().splitlines()
    assert said[-1] == "done 1000" and said.count("batch") < 8
    assert list((tmp_path / "lab" / "checkpoints").glob("*")) == []


def test_four_threads_that_ask_for_one_embedding_encode_it_once(lab: Any) -> None:
    encoder, outcomes = Counting(), []
    encode = encoder.encode

    def slowly(texts: list[str]) -> Any:
        time.sleep(0.05)
        return encode(texts)

    encoder.encode = slowly  # type: ignore[method-assign]
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        outcomes.append(lab.embed("v", "papers", key="id", text="title", model=encoder).outcome)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        sorted(outcomes) == ["computed", "reused", "reused", "reused"] and len(encoder.seen) == 300
    )


def test_refresh_makes_stale_inputs_true_first(
    lab: Any, tmp_path: Path, texts: dict[Any, str]
) -> None:
    lab.materialize("copied", "SELECT id, title FROM papers")
    encoder = Counting()
    lab.embed("v", "copied", key="id", text="title", model=encoder)
    csv(tmp_path / "papers.csv", texts | {7: "another"})
    encoder.seen.clear()
    lab.embed("v", "copied", key="id", text="title", model=encoder, refresh="inputs")
    assert encoder.seen == ["another"] and lab.staleness("v") == Fresh()


def test_a_table_cannot_be_embedded_into_itself(lab: Any) -> None:
    lab.embed("v", "papers", key="id", text="title", model=Counting())
    with pytest.raises(errors.DependencyCycle):
        lab.embed(
            "v", "SELECT key, 'a' AS title FROM jammi.v", key="key", text="title", model=Counting()
        )


MEMORY = """
import resource, sys
import numpy as np, jammi_lab as jl
class Fast:
    name, version, dimensions = "fast", "1", 384
    def encode(self, texts):
        out = np.ones((len(texts), 384), np.float32)
        out[:, 0] = [int(t.split()[-1]) for t in texts]
        return out
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with jl.open("lab") as ws:
    many = "SELECT i AS id, 'text ' || i AS title FROM range({}) t(i)"
    ws.embed("warm", many.format(5000), key="id", text="title", model=Fast(), index="later")
    before = peak()
    ws.embed("v", many.format(100_000), key="id", text="title", model=Fast(), index="later")
    print((peak() - before) / (100_000 * 384 * 4))
"""


@pytest.mark.only_soak
@pytest.mark.slow
def test_embedding_holds_little_more_than_the_vectors(run_python: Any) -> None:
    assert float(run_python(MEMORY, start=True).stdout) < 1.75


def test_define_gives_an_embedding_its_definition_and_encodes_nothing(lab: Any) -> None:
    encoder = Counting()
    recipe = lab.define("v", jl.Embedding("papers", key="id", text="title", model=encoder))
    assert (recipe.name, recipe.kind, recipe.newest_version) == ("v", "embedding", None)
    assert "v" not in lab and encoder.seen == [] and [s.name for s in lab.plan().certain] == ["v"]
    assert lab.recompute("v").executed == ["v"] and lab.staleness("v") == jl.Fresh()


def test_a_database_of_several_tables_is_told_to_be_one(ws: Any, tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "crm.duckdb") as made:
        made.execute("CREATE TABLE a AS SELECT 1 AS id, 'x' AS t; CREATE TABLE b AS SELECT 1 AS id")
    ws.sources.add("crm", tmp_path / "crm.duckdb")
    with pytest.raises(errors.TableNotFound, match="crm is a database, not a table") as caught:
        ws.embed("v", "crm", key="id", text="t", model="hashing")
    assert "crm.a" in caught.value.hint
    assert ws.embed("v", "crm.a", key="id", text="t", model="hashing").row_count == 1


PANDAS = """
import sys, traceback
from pathlib import Path
import jammi_lab as jl

class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == "pandas":
            print(*{Path(frame.filename).parent.name for frame in traceback.extract_stack()} & {"producers"})

sys.meta_path.insert(0, Finder)
papers = Path("papers.csv")
with jl.open("lab") as ws:
    for titles in ("1,a\\n2,b\\n", "1,a\\n2,c\\n"):
        papers.write_text("id,title\\n" + titles)
        ws.sources.add("papers", "papers.csv", replace=True)
        print(ws.embed("vectors", "papers", key="id", text="title", model="hashing", index="later").outcome)
        print(ws.lexical("words", "papers", key="id", text="title").outcome)
"""


def test_embedding_imports_no_pandas_in_which_an_interrupt_would_be_lost(run_python: Any) -> None:
    """Arrow imports it where it gives numpy for the first time, and takes an interrupt that comes
    meanwhile for a pandas that is not there."""
    assert run_python(PANDAS, start=True).stdout.split() == 4 * ["computed"]

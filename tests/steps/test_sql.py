"""The producer `sql`: what survives, what is the same definition, what makes equal bytes, which
names are safe."""

import unicodedata
import zoneinfo

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    DependencyCycle,
    DuplicateKey,
    NameTooLong,
    SchemaMismatch,
    StatementNotAllowed,
    TableNotFound,
)
from jammi_lab.core.verdicts import Match
from jammi_lab.engine.sql import releases
from tests.cases import cases, plain
from tests.steps.conftest import VENUES
from tests.store.lab import files, statuses

UTC = zoneinfo.ZoneInfo("UTC")


@pytest.mark.parametrize(("statement", "expected"), cases("results/stored_values", "sql", "values"))
def test_a_value_that_is_materialised_is_read_back_as_it_was(lab, statement, expected):
    table = lab.materialize("x", statement)
    assert sorted(map(repr, table.read().arrow()["x"].to_pylist())) == sorted(expected)
    asked = lab.sql(statement).arrow()
    again = lab.sql("FROM jammi.x").arrow()
    assert again.num_rows == table.row_count == len(expected)
    assert sorted(map(repr, asked["x"].to_pylist())) == sorted(map(repr, again["x"].to_pylist()))
    assert table.verify() == Match()


def test_types_as_recorded_are_the_types_that_reading_gives(lab):
    statement = "SELECT 1::TINYINT AS a, 'x' AS b, [1] AS c, {'k': 1.5} AS d, TIMESTAMPTZ '2020-01-01' AS e, 1.50 AS f, true AS g, DATE '2020-01-01' AS h"
    table = lab.materialize("typed", statement)
    described = {name: kind for name, kind, *_ in lab.sql("DESCRIBE FROM jammi.typed").fetchall()}
    assert {c.name: c.type for c in table.manifest.columns} == described


def test_column_names_of_all_kinds_survive(lab):
    names = ['a"b', "a.b", "ä", "select", "x y", "🦆", "e\u0301", "%_\\"]
    columns = ", ".join(f'{i} AS "{n.replace(chr(34), chr(34) * 2)}"' for i, n in enumerate(names))
    table = lab.materialize("named", f"SELECT {columns}")
    assert (
        table.read().arrow().schema.names == names
        and [c.name for c in table.manifest.columns] == names
    )
    assert {leaf.column for leaf in table.manifest.leaves} == set(
        names
    ) and table.verify() == Match()


@pytest.mark.parametrize(
    "changed",
    [
        "select   venue,count(*)  AS n\nFROM papers -- a word\nGROUP  BY venue",
        "/* a word */ SELECT venue, COUNT(*) AS n FROM papers GROUP BY venue;",
        "SELECT venue, count(*) AS n FROM papers AS p GROUP BY venue",
        "SELECT venue, count(*) AS n FROM Papers GROUP BY venue",
    ],
)
def test_what_cannot_change_rows_is_the_same_definition_and_reuses(lab, changed):
    one = lab.materialize("venues", VENUES)
    other = lab.materialize("venues", changed)
    assert other.definition_hash == one.definition_hash
    assert (other.outcome, other.table_name) == ("reused", one.table_name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT id FROM papers WHERE year > 2020", "SELECT id FROM papers WHERE year > 2021"),
        ("SELECT id AS a FROM papers", "SELECT id AS A FROM papers"),
    ],
)
def test_what_could_change_rows_is_another_definition(lab, one, other):
    first = lab.materialize("one", one)
    second = lab.materialize("two", other)
    assert first.definition_hash != second.definition_hash and second.outcome == "computed"


@pytest.mark.parametrize(
    "values", [(1, 1.0), (1, True), (1, "1"), (0, None), (0.0, -0.0), ("a", b"a")]
)
def test_values_that_differ_in_sql_are_different_definitions(lab, values):
    one, other = (
        lab.materialize("p", "SELECT id, $v AS v FROM papers", params={"v": v}) for v in values
    )
    assert one.definition_hash != other.definition_hash and other.outcome == "computed"


def test_equal_rows_make_equal_bytes_whatever_the_number_of_threads(tmp_path):
    rows = "SELECT (i * 7919) % 5003 AS k, i % 13 AS g, 'text ' || (i % 97) AS t FROM range(200000) s(i)"
    statements = {
        "grouped": "SELECT k, count(*) AS n, sum(g) AS s, max(t) AS t FROM base GROUP BY k",
        "joined": "SELECT a.k, a.t, b.g FROM base a JOIN (SELECT k, min(g) AS g FROM base GROUP BY k) b USING (k)",
        "distinct": "SELECT DISTINCT g, t FROM base",
        "union": "SELECT k FROM base UNION SELECT g FROM base",
        "plain": "SELECT k, t FROM base WHERE g = 3",
    }
    digests = []
    for threads in (1, 2, 8):
        folder = tmp_path / f"lab{threads}"
        with jl.open(folder, settings={"engine.threads": threads}) as ws:
            ws.materialize("base0", rows)
            ws.sources.add("base", ws.table("base0").export(tmp_path / f"base{threads}.parquet"))
            digests.append(
                {
                    name: ws.materialize(name, s, cache="bypass").manifest.artifact.digest
                    for name, s in statements.items()
                }
            )
    assert digests[0] == digests[1] == digests[2]


def test_equal_rows_make_equal_bytes_however_the_input_is_ordered_when_the_plan_promises_no_order(
    ws, tmp_path
):
    lines = [f"{i % 50},{i}" for i in range(2000)]
    digests = set()
    for n, order in enumerate((lines, lines[::-1])):
        (tmp_path / f"in{n}.csv").write_text("k,v\n" + "\n".join(order) + "\n")
        ws.sources.add(f"in{n}", tmp_path / f"in{n}.csv")
        digests.add(
            ws.materialize(
                f"out{n}", f"SELECT k, sum(v) AS s FROM in{n} GROUP BY k"
            ).manifest.artifact.digest
        )
    assert len(digests) == 1


def test_with_a_key_one_changed_value_moves_one_columns_digest(ws, tmp_path):
    path = tmp_path / "in.csv"
    lines = [f"{i},{(i * 31) % 1000},n{i % 7}" for i in range(5000)]

    def make():
        path.write_text("id,v,name\n" + "\n".join(lines) + "\n")
        ws.sources.add("readings", path, replace=True)
        table = ws.materialize(
            "out", "SELECT r.id, r.v, r.name FROM readings r JOIN readings s USING (id)", key="id"
        )
        return {c.name: c.digest for c in table.manifest.columns}, table

    before, _ = make()
    lines[2500] = f"2500,999999,n{2500 % 7}"
    after, table = make()
    assert table.version == 2 and [c for c in before if before[c] != after[c]] == ["v"]


def test_rows_come_in_the_statements_own_order_first_and_then_by_key(ws):
    table = ws.materialize("t", "SELECT i, i % 3 AS g FROM range(30) s(i) ORDER BY g DESC", key="i")
    read = [tuple(r.values()) for r in table.read().arrow().to_pylist()]
    assert read == sorted(read, key=lambda r: (-r[1], r[0]))


@pytest.mark.parametrize(
    ("statement", "key", "keys"),
    cases("statements/keys_refused", "statement", "key", "keys"),
)
def test_a_key_that_is_not_unique_or_has_a_null_is_refused_with_the_keys(
    ws, folder, statement, key, keys
):
    with pytest.raises(DuplicateKey) as caught:
        ws.materialize("t", statement, key=key)
    assert plain(caught.value.keys) == keys and isinstance(caught.value, ValueError)
    assert list(statuses(folder).values()) == ["failed"] and files(folder) == []


def test_a_unique_key_of_several_columns_is_taken_and_recorded(ws):
    table = ws.materialize(
        "t", "SELECT i % 2 AS a, i // 2 AS b FROM range(10) s(i)", key=["A", "b"]
    )
    assert table.key == ["a", "b"] == table.manifest.key


def test_a_key_that_is_no_column_is_refused_with_the_near_name(lab, folder):
    with pytest.raises(SchemaMismatch) as caught:
        lab.materialize("venues", VENUES, key="venu")
    assert caught.value.near == ("venue",) and statuses(folder) == {}
    with pytest.raises(SchemaMismatch) as caught:
        lab.materialize("venues", VENUES, key="author")
    assert "venue" in caught.value.hint and statuses(folder) == {}


def test_an_output_that_cannot_be_a_table_is_a_schema_error(ws, folder):
    for statement in (
        "SELECT 1 AS a, 2 AS a",
        "SELECT 1 AS a, 2 AS A",
        'SELECT 1 AS "é", 2 AS "é"',
        "SELECT INTERVAL 1 DAY AS d",
        *(() if releases.IS_2 else ("SELECT row(1, 2) AS r", "SELECT list_zip([1], [2]) AS r")),
    ):
        with pytest.raises(SchemaMismatch):
            ws.materialize("t", statement)
        assert files(folder) == [] and "ready" not in statuses(folder).values()


def test_a_recipe_is_one_statement(ws):
    with pytest.raises(StatementNotAllowed):
        ws.materialize("t", "SELECT 1 AS a; SELECT 2 AS a")


HOSTILE = [
    "it's",
    'say "hi"',
    "';DROP TABLE result_tables;--",
    "../../x",
    "..",
    ".",
    "/abs/olute",
    "C:\\x",
    "a/b\\c",
    "~",
    "$HOME",
    "`id`",
    "*?[a-z]",
    "CON",
    "-rf",
    " leading",
    "trailing ",
    "\u202egnirts",
    "🦆" * 50,
    "ﷺ",
    "e\u0301",
    "%41",
    "a%_\\",
    "x" * 200,
    "ß",
    "SELECT",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_works_and_never_leaves_results(lab, folder, name, tmp_path):
    before = {p for p in tmp_path.rglob("*") if "lab" not in p.parts}
    table = lab.materialize(name, VENUES)
    assert table.name == name and lab.table(name).read().arrow().num_rows == 2
    quoted = '"' + name.replace('"', '""') + '"'
    assert lab.sql(f"SELECT count(*) FROM jammi.{quoted}").fetchall() == [(2,)]
    assert (
        table.path.parent == (folder / "results" / "_global").resolve()
        and len(table.path.name.encode()) <= 255
    )
    assert set(table.path.name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
    )
    assert {p for p in tmp_path.rglob("*") if "lab" not in p.parts} == before
    assert (
        lab.verify(name) == Match()
        and str(lab.staleness(name)) == "fresh"
        and str(lab.status()[name].verdict) == "fresh"
    )
    lab.drop(name)
    assert files(folder) == []


@pytest.mark.parametrize("name", HOSTILE[:12])
def test_a_hostile_name_without_any_source_is_safe_in_the_file_name(ws, folder, name):
    table = ws.materialize(name, "SELECT 1 AS x")
    assert table.path.parent == (folder / "results" / "_global").resolve()


@pytest.mark.parametrize("length", [201, 300, 100_000])
def test_a_name_that_is_too_long_is_refused(lab, folder, length):
    with pytest.raises(NameTooLong):
        lab.materialize("x" * length, VENUES)
    assert statuses(folder) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [("Venues", "vENUES"), ("é", "e\u0301"), ("É", "e\u0301"), ("STRASSE", "straße"), ("ﬁ", "FI")],
)
def test_names_that_differ_only_in_case_or_form_are_the_same_recipe(lab, one, other):
    assert one != other
    first = lab.materialize(one, VENUES)
    second = lab.materialize(other, "SELECT id FROM papers")
    assert (first.name, second.name, second.version) == (one, one, 2)
    assert lab.table(other).table_name == lab.table(one).table_name == second.table_name
    assert unicodedata.normalize("NFC", lab.recipes()[0].name) == unicodedata.normalize("NFC", one)


@pytest.mark.parametrize("model", ["org/model:7b v1.0", "..", "a" * 500])
def test_model_ids_cannot_cut_or_lengthen_a_file_name(model):
    from jammi_lab.core.clock import SystemClock
    from jammi_lab.core.identifiers import physical_name

    name = physical_name("s" * 500, "embedding", model, SystemClock())
    assert (
        "/" not in name
        and "." not in name
        and len((name + ".materialization.json").encode()) <= 255
    )


def test_a_table_that_would_derive_from_itself_is_refused_and_nothing_changes(lab, folder):
    lab.materialize("a", VENUES)
    lab.materialize("b", "SELECT * FROM jammi.a")
    before = statuses(folder)
    for statement in ("SELECT * FROM jammi.b", "SELECT * FROM jammi.a", "SELECT * FROM jammi.A"):
        with pytest.raises(DependencyCycle) as caught:
            lab.materialize("a", statement)
        assert caught.value.path
    assert statuses(folder) == before and str(lab.staleness("a")) == "fresh"


def test_tables_are_found_by_recipe_source_kind_definition_and_status(lab):
    one = lab.materialize("one", VENUES)
    two = lab.materialize("two", "SELECT n FROM jammi.one")
    three = lab.materialize("three", "SELECT 1 AS x")
    assert [t.table_name for t in lab.tables()] == [
        three.table_name,
        two.table_name,
        one.table_name,
    ]
    lab.embed("four", "papers", key="id", text="venue", model="hashing")
    assert [t.name for t in lab.tables(model="hashing")] == ["four"]
    assert "one" in [t.name for t in lab.tables(source="PAPERS")]
    assert [t.name for t in lab.tables(source="one")] == ["two"]
    assert [t.name for t in lab.tables(definition=two.definition_hash)] == ["two"]
    assert len(lab.tables(kind="sql")) == 3 and lab.tables(kind="row_map") == []
    assert lab.tables(status="failed") == [] and len(lab.tables(status=None)) == 4


def test_an_explicit_version_is_honoured_and_a_missing_one_is_typed(lab):
    lab.materialize("venues", VENUES)
    lab.materialize("venues", "SELECT id FROM papers")
    assert (
        lab.table("venues", 1).read().columns == ["venue", "n"] and lab.table("venues").version == 2
    )
    with pytest.raises(TableNotFound):
        lab.table("venues", 3)


def test_a_row_with_nan_is_found_in_a_table_as_in_its_statement(ws):
    for condition in (
        "x > 100",
        "x >= 100",
        "x = 'nan'",
        "NOT x < 100",
        "x <> 0 AND x <> 1 AND x < 3 IS NOT TRUE",
        "s.x > 100",
        "l[1] > 100",
    ):
        rows = "SELECT i AS id, x, {'x': x} AS s, [x] AS l FROM (SELECT i, CASE WHEN i = 2 THEN 'nan'::DOUBLE ELSE i END AS x FROM range(6) r(i))"
        ws.materialize("t", rows)
        wanted = (
            ws.sql(f"SELECT id FROM ({rows}) WHERE {condition} ORDER BY id")
            .arrow()["id"]
            .to_pylist()
        )
        assert (
            ws.sql(f"SELECT id FROM jammi.t WHERE {condition} ORDER BY id")
            .arrow()["id"]
            .to_pylist()
            == wanted
            and 2 in wanted
        )

"""What a person reads when a statement cannot be run: one sentence, the place, near names, what to
do."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.errors import (
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
    SqlError,
    TableDamaged,
)
from jammi_lab.engine import Engine
from jammi_lab.engine.duckdb_messages import parse_error
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.sql import syntax_tree, tokens
from jammi_lab.engine.sql.allowlist import JAMMI_FUNCTIONS
from jammi_lab.engine.sql.table_functions import USAGE
from jammi_lab.sources.base import Relation
from tests.cases import cases
from tests.engine.shelf import Shelf, engine_of
from tests.releases import ONLY_ON_1_5

pytestmark = [pytest.mark.one_engine, ONLY_ON_1_5]


def raised(engine: Engine, sql: str, **params: Any) -> JammiError:
    with pytest.raises(JammiError) as error:
        for prepared in engine.prepare(sql, params):
            prepared.run().table()
    assert "Traceback" not in str(error.value)
    assert "__jammi" not in str(error.value)
    assert "\n" not in error.value.message
    return error.value


@pytest.mark.parametrize(
    ("sql", "kind", "message", "at", "near"),
    cases("statements/errors", "sql", "error", "message", "at", "near"),
)
def test_an_error_says_what_is_wrong_and_where(
    engine,
    sql,
    kind,
    message,
    at,
    near,
):
    error = raised(engine, sql)
    assert (type(error).__name__, error.message) == (kind, message)
    assert near in (None, [*error.near])
    if at is not None:
        assert error.statement == sql
        assert error.position == sql.index(at)


def test_near_names_never_come_from_the_system_catalog(engine):
    for name in ("pg_enm", "duckdb_table", "sqlite_maste", "pragma_versio"):
        assert raised(engine, f"SELECT * FROM {name}").near == ()


def test_a_conversion_error_under_an_order_is_placed_in_what_was_written(engine):
    sql = "SELECT venue::INT AS x FROM papers GROUP BY venue LIMIT 3"
    [prepared] = engine.prepare(sql)
    with pytest.raises(SqlError) as error:
        prepared.run_ordered([]).table()
    assert error.value.statement == sql
    assert error.value.position in (None, sql.index("::INT"))


@pytest.mark.parametrize(
    ("sql", "at", "hint"),
    cases("statements/slips", "sql", "at", "hint"),
)  # fmt: skip
def test_a_usual_slip_in_a_statement_is_told_with_what_to_write(engine, sql, at, hint):
    error = raised(engine, sql)
    assert type(error) is SqlError and error.position == sql.index(at)
    assert error.hint == hint if not hint or hint.endswith(".") else hint in error.hint


def test_a_table_function_with_a_slip_in_its_name_is_told_with_the_near_one(engine):
    assert raised(engine, "FROM serch('vectors', 'text')").near == ("search",)
    assert raised(engine, "FROM generate_serie(1, 3)").near == ("generate_series",)
    assert set(JAMMI_FUNCTIONS) == set(USAGE)


def test_a_path_says_how_files_are_added(engine):
    for sql in (
        "FROM 'a.csv'",
        "FROM read_parquet('a.parquet')",
        "FROM 's3://b/x.parquet'",
        "ATTACH 'x.db'",
    ):
        assert "ws.sources.add" in raised(engine, sql).hint


# -- sources that cannot be read -------------------------------------------------------------------


@pytest.fixture
def files(shelf: Shelf, tmp_path: Path) -> Path:
    pq.write_table(
        pa.table({"x": list(range(50_000)), "s": [f"v{i}" for i in range(50_000)]}),
        tmp_path / "whole.parquet",
        row_group_size=1000,
    )
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "burnt.parquet").write_bytes(whole[:1000] + bytes(199_000) + whole[200_000:])
    (tmp_path / "late.csv").write_text("a,b\n" + "1,2\n" * 60_000 + "x,5\n")
    (tmp_path / "ragged.csv").write_text("a,b\n" + "1,2\n" * 60_000 + "4,5,6\n")
    (tmp_path / "latin.csv").write_bytes(b"a,b\n1,caf\xe9\n")
    (tmp_path / "broken.json").write_text('{"a":1}\n{"a":')
    for file in tmp_path.iterdir():
        if file.is_file():
            shelf.body(file.stem, body=f"SELECT * FROM read_{file.suffix[1:]}('{file}')")
    shelf.body("gone", body=f"SELECT * FROM read_parquet('{tmp_path}/gone.parquet')")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["torn", "empty", "burnt", "gone", "late", "ragged", "latin", "broken"]
)
def test_a_source_that_cannot_be_read_is_named_without_its_folder(engine, files, name):
    error = raised(engine, f"SELECT * FROM {name}")
    assert type(error) is SourceUnavailable
    assert error.message.startswith(f"The source {name} cannot be read: ")
    assert str(files) not in str(error)
    assert "{" not in str(error)


def test_a_column_that_goes_between_binding_and_running_is_told_as_such(engine, files):
    [prepared] = engine.prepare("SELECT x, s FROM whole")
    pq.write_table(pa.table({"x": [1]}), files / "whole.parquet")
    with pytest.raises(SqlError) as caught:
        prepared.run().table()
    assert (
        caught.value.message
        == "The column s is no longer in whole: it changed while the statement was being prepared."
    )
    assert caught.value.near == () and caught.value.hint == "Run the statement again."


@pytest.mark.parametrize("value", ["n/a", "31/12/2024", "km/h", "a/b.csv", "/"])
def test_a_value_with_a_slash_is_told_as_it_is(engine, files, value):
    error = raised(
        engine, f"SELECT CAST(x AS DOUBLE) FROM (SELECT '{value}' || s[:0] AS x FROM whole)"
    )
    assert error.message.startswith(f"Could not convert string '{value}' to DOUBLE")


def test_of_two_sources_the_broken_one_is_named(engine, files):
    assert (
        "burnt"
        in raised(engine, "SELECT * FROM whole JOIN burnt USING (x)").message.split(" cannot ")[0]
    )


def test_a_result_table_that_cannot_be_read_is_damaged(engine, shelf, files):
    shelf.body(
        "jammi",
        "bad",
        body=f"SELECT * FROM read_parquet('{files}/torn.parquet')",
        kind="result",
    )
    error = raised(engine, "FROM jammi.bad")
    assert type(error) is TableDamaged
    assert error.table == "bad"


def test_describing_a_body_that_cannot_be_read_says_so(engine, files):
    with pytest.raises(SourceUnavailable) as error:
        engine.describe(f"SELECT * FROM read_parquet('{files}/torn.parquet')")
    assert str(files) not in str(error.value)


def test_running_out_of_memory_is_typed_and_the_next_statement_works(shelf, tmp_path):
    engine = engine_of(
        shelf, tmp_path, engine__memory_limit="60MB", engine__temp_quota="1MB", engine__threads=1
    )
    with pytest.raises(ResourceExhausted, match="memory") as error:
        engine.prepare("SELECT list(hash(range)) FROM range(50000000)")[0].run().table()
    assert "engine.memory_limit" in error.value.hint
    with pytest.raises(ResourceExhausted):
        engine.prepare("SELECT hash(range) AS h, range FROM range(20000000) ORDER BY h")[
            0
        ].run().table()
    assert engine.prepare("SELECT 1 AS x")[0].run().table().to_pylist() == [{"x": 1}]
    engine.close()


def test_a_fault_in_the_middle_of_a_stream_is_taken_apart():
    wrapped = OSError(
        'Invalid Input Error: Attempting to execute\nError: {"exception_type":"Conversion","exception_message":"a\\nb","position":"3"}'
    )
    fault = parse_error(wrapped)
    assert (fault.kind, fault.message, fault.position) == ("Conversion", "a\nb", 3)


def test_a_text_that_is_not_sql_text_is_refused(engine):
    for sql in (" ;", "-- only words", "SELECT '\ud800'", "SELECT 1\0", "x" * 1_000_000):
        assert isinstance(raised(engine, sql), SqlError)


def test_an_error_of_a_provider_comes_through(shelf, engine):
    class Bad(NameResolver):
        def resolve(self, parts: tuple[str, ...]) -> Relation | None:
            raise SourceUnavailable(f"{parts[0]} is away.")

    with pytest.raises(SourceUnavailable, match="away"):
        engine.prepare("FROM nowhere", extra_resolvers=[Bad()])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Could not allocate tuple object!")])
def test_tokens_that_do_not_fit_into_memory_are_a_typed_error(monkeypatch, error):
    def no_memory(_):
        raise error

    monkeypatch.setattr(tokens, "duckdb", SimpleNamespace(tokenize=no_memory, Error=duckdb.Error))
    with pytest.raises(ResourceExhausted, match="no memory"):
        tokens.tokenize("SELECT 1")


def test_a_tree_that_does_not_fit_into_memory_is_a_typed_error(engine, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(syntax_tree.json, "loads", no_memory)
    error = raised(engine, "SELECT 1 AS nobody_asked_this_before")
    assert isinstance(error, ResourceExhausted) and "needed more memory" in error.message

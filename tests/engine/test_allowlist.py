"""The gate: what a statement may hold, and that nothing else passes."""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from jammi_lab.core.errors import SqlError, StatementNotAllowed, TableNotFound
from jammi_lab.engine import duckdb_instances as duck
from jammi_lab.engine.sql import allowlist as gate
from jammi_lab.engine.sql import function_list as functions
from jammi_lab.engine.sql import releases
from jammi_lab.engine.sql.syntax_tree import tree_of
from tests import listed_functions
from tests.cases import cases, lines
from tests.releases import ONLY_ON_PINNED

pytestmark = pytest.mark.one_engine


@pytest.mark.every_case
@pytest.mark.parametrize("sql", lines("gate/refused.sql"))
def test_a_statement_that_could_leave_the_workspace_is_refused(engine, sql):
    with pytest.raises((StatementNotAllowed, TableNotFound, SqlError)):
        engine.prepare(sql)


@pytest.mark.parametrize("sql", lines("gate/passes.sql"))
def test_a_statement_that_only_reads_runs(engine, sql):
    if sql == "SHOW papers" and releases.IS_2:
        pytest.skip("DuckDB 2 takes it for a setting, too")
    tables = [prepared.run().table() for prepared in engine.prepare(sql)]
    assert tables
    assert all(table.num_columns > 0 for table in tables)


def trees() -> list[tuple[str, dict[str, Any]]]:
    parser = duck.open_parser()
    corpus = (
        lines("gate/passes.sql")
        + lines("canonical/same.sql")
        + lines("canonical/different.sql")
        + lines("readset/readset.sql")[::2]
    )
    found = [(sql, tree_of(parser, sql.rstrip(";"))) for sql in corpus]
    parser.close()
    return [(sql, tree) for sql, tree in found if isinstance(tree, dict)]


def places(
    node: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from places(child, (*path, key))
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from places(child, (*path, i))


def poisoned(tree: dict[str, Any], path: tuple[Any, ...], poison: dict[str, Any]) -> dict[str, Any]:
    changed: Any = copy.deepcopy(tree)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = poison
    return changed  # type: ignore[no-any-return]


def expression(sql: str) -> dict[str, Any]:
    return json.loads(duckdb.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()[0])[
        "statements"
    ][0]["node"]  # type: ignore[index,no-any-return]


def test_no_poisoned_tree_passes():
    calls = [
        expression(f"SELECT {call}")["select_list"][0]
        for call in ("current_setting('x')", "getvariable('x')", "nextval('s')")
    ]
    reads = [
        expression(f"FROM {call}")["from_table"]
        for call in ("read_csv('/etc/passwd')", "duckdb_secrets()", "query('SELECT 1')")
    ]
    tried = passed = 0
    escaped = []
    for sql, tree in trees():
        for path, node in places(tree):
            is_expression = "class" in node and isinstance(node.get("type"), str)
            is_table = (
                not is_expression
                and "alias" in node
                and "sample" in node
                and isinstance(node.get("type"), str)
            )
            for poison in calls if is_expression else reads if is_table else ():
                tried += 1
                try:
                    gate.check(poisoned(tree, path, poison), sql)
                except StatementNotAllowed:
                    continue
                passed += 1
                escaped.append((sql, path, poison.get("function_name")))
    assert tried > 4000
    assert not escaped[:3], (passed, tried)


def test_an_unknown_kind_of_node_is_refused():
    tree = expression("SELECT 1")
    tree["select_list"][0]["type"] = "SOMETHING_NEW"
    with pytest.raises(StatementNotAllowed, match="Something new"):
        gate.check(tree, "SELECT 1")


@ONLY_ON_PINNED
def test_the_committed_functions_are_those_of_the_pinned_duckdb():
    assert listed_functions.FILE.read_text(encoding="utf-8").splitlines() == (
        listed_functions.listed_functions()
    )


def test_every_allowed_macro_calls_only_allowed_functions():
    parser = duck.open_parser()
    rows = duckdb.execute(
        "SELECT function_name, macro_definition FROM duckdb_functions() WHERE function_type = 'macro'"
    ).fetchall()
    bodies = {name: body for name, body in rows if name in functions.allowed_functions() and body}
    assert bodies
    for name, body in bodies.items():
        tree = tree_of(parser, f"SELECT {body}")
        assert isinstance(tree, dict), name
        gate.check(tree, body)
    parser.close()


@pytest.mark.every_case
@pytest.mark.parametrize(
    "call",
    "now() random() uuid() gen_random_uuid() current_timestamp current_time localtime localtimestamp get_current_timestamp() "
    "transaction_timestamp() uuidv7() ago(INTERVAL_1_DAY) age(DATE_X) version() "
    "current_localtimestamp() list_aggr([1],'reservoir_quantile',0.5)".split(),
)
def test_what_differs_from_run_to_run_is_volatile(prepare, call):
    call = call.replace("INTERVAL_1_DAY", "INTERVAL 1 DAY").replace(
        "DATE_X", "TIMESTAMP '2020-01-01'"
    )
    prepared = prepare(f"SELECT {call} AS x")
    assert prepared.volatile
    assert not prepared.reads_clock


@pytest.mark.parametrize(
    "sample", ["USING SAMPLE 10%", "USING SAMPLE 2 ROWS", "TABLESAMPLE reservoir(50%)"]
)
def test_a_sample_is_volatile(prepare, sample):
    assert prepare(f"SELECT * FROM papers {sample}").volatile == ("sample",)


@pytest.mark.parametrize("call", ["current_date", "today()", "current_date()", "Current_Date"])
def test_today_is_a_clock(prepare, call):
    prepared = prepare(f"SELECT {call} AS d FROM papers")
    assert prepared.reads_clock
    assert not prepared.volatile


def test_a_nested_volatile_function_is_seen(prepare):
    assert prepare(
        "SELECT id FROM papers WHERE id IN (SELECT list_transform([1], lambda x: x + random())[1])"
    ).volatile == ("random",)


@pytest.mark.parametrize(
    ("sql", "volatile"),
    cases("statements/offsets_of_today", "sql", "volatile"),
)
def test_the_offset_of_a_time_without_a_date_is_that_of_today(shelf, prepare, sql, volatile):
    shelf.body("hours", body="SELECT 1 AS id, 'a' AS venue, TIMETZ '12:00:00+00' AS opens")
    assert bool(prepare(sql).volatile) is volatile


def test_age_of_two_moments_is_not_volatile(prepare):
    assert not prepare("SELECT age(TIMESTAMP '2020-01-02', TIMESTAMP '2020-01-01') AS x").volatile


def test_a_column_called_like_a_function_word_is_a_column(
    prepare,
):
    prepared = prepare(
        'SELECT user, current_date FROM (SELECT venue AS "user", year AS "current_date" FROM papers)'
    )
    assert not prepared.volatile
    assert not prepared.reads_clock


def test_the_same_word_as_column_and_function_counts_as_the_function(
    prepare,
):
    assert prepare(
        'SELECT (SELECT current_date) AS a, current_date FROM (SELECT year AS "current_date" FROM papers)'
    ).reads_clock


@pytest.mark.every_case
@pytest.mark.parametrize("depth", [150, 300, 2000, 20_000])
def test_deep_nesting_runs_or_is_refused_and_never_crashes(engine, depth):
    for sql in (
        "SELECT " + "+".join(["1"] * depth) + " AS x",
        "SELECT " + "[" * depth + "1" + "]" * depth + " AS x",
        "(" * depth + "SELECT 1" + ")" * depth,
    ):
        with contextlib.suppress(SqlError):
            engine.prepare(sql)[0].canonical()
    assert engine.prepare("SELECT 1 AS one")[0].run().table().to_pylist() == [{"one": 1}]

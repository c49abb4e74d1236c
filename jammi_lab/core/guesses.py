"""Answers to plausible guesses: an attribute that does not exist is answered with the one that
does.

People arrive from pandas, DuckDB, dbt and sqlite-utils and type the verbs that they know. Python
answers `ws.query` with "no attribute 'query'", which is true and no help.
"""

from typing import Any

from jammi_lab.core.identifiers import near_names


def _by_guess(guesses: dict[str, str]) -> dict[str, str]:
    """The answers by guess, of the guesses by answer."""
    return {guess: answer for answer, words in guesses.items() for guess in words.split()}


def _answers(
    variable: str, guesses: dict[str, str], base: dict[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    return variable, {**(base or {}), **_by_guess(guesses)}


_ROWS = _by_guess(
    {
        ".pandas() or .polars()": "df to_df",
        ".pandas()": "fetchdf fetch_df to_pandas toPandas pd",
        ".polars()": "to_polars pl",
        ".arrow()": "to_arrow to_arrow_table fetch_arrow_table to_table",
        ".arrow().to_pylist()": "to_dict to_dicts to_list",
        ".pandas().to_numpy()": "to_numpy",
        ".arrow().schema": "dtypes",
    }
)
_RESULT = _ROWS | _by_guess(
    {
        ".preview()": "show",
        ".preview(5).to_pandas()": "head",
        ".fetchall()[0]": "fetchone",
        ".batches()": "fetchmany fetch_record_batch",
        ".fetchall()": "rows all",
        ".arrow().num_rows": "count",
        ".arrow().shape": "shape",
        ".chart()": "plot",
        ".columns": "names",
        ".schema": "types",
        ".pandas().to_csv('rows.csv')": "to_csv",
        ".pandas().to_parquet('rows.parquet')": "to_parquet",
    }
)
_TABLE = _ROWS | _by_guess(
    {
        ".read().preview()": "show preview",
        ".read().preview(5)": "head",
        ".read()": "sql",
        ".read().fetchall()": "fetchall",
        ".read().batches()": "batches",
        ".read().chart()": "chart plot",
        ".read().columns": "columns",
        ".read().schema": "schema",
        ".row_count": "count rows",
        ".arrow().shape": "shape",
        ".bytes": "size",
        ".history()": "versions",
        ".staleness()": "verdict is_stale is_fresh",
        "ws.why(table)": "why",
        "ws.recompute(table.name)": "refresh recompute update rebuild",
        ".drop()": "delete remove",
        "ws.rename(table.name, 'new_name')": "rename",
        ".export('rows.parquet')": "save to_parquet write",
        ".export('rows.csv')": "to_csv",
        ".inputs": "sources parents",
        ".lineage()": "upstream downstream",
        "ws.recipes()": "definition sql_text",
        "ws.search(table, 'a text')": "search",
        ".created_at": "created",
        ".table_name": "id",
        ".path": "uri location",
        ".definition_hash": "hash",
        ".restore()": "rollback",
        ".diff()": "compare",
        "ws.hold('name')": "hold",
        ".pin('why')": "lock",
    }
)
_COLLECTION = _by_guess(
    {
        ".list()": "all names keys items values",
        "[name]": "find",
    }
)
GUESSES: dict[str, tuple[str, dict[str, str]]] = {
    "module 'jammi_lab'": _answers(
        "jl",
        {
            ".open('lab')": "connect workspace create load init Lab",
            "ws.sql('SELECT …'), where ws = jl.open('lab')": "sql query",
            "ws.sources.add('name', 'file.csv'), where ws = jl.open('lab')": "read_csv",
            "ws.sources.add('name', 'file.parquet'), where ws = jl.open('lab')": "read_parquet",
            "ws.materialize('name', 'SELECT …'), where ws = jl.open('lab')": "materialize",
        },
    ),
    "Workspace": _answers(
        "ws",
        {
            ".sql('SELECT …')": "query execute select q",
            ".sql('SELECT …') or .recompute()": "run",
            ".table('name').read()": "read read_table load",
            ".table('name')": "get get_table",
            ".table('name').pandas()": "df to_pandas",
            ".sql('SELECT …').fetchall()": "fetch",
            ".table('name').read().preview(5)": "head",
            ".status()": "show list catalog info describe stale",
            ".tables()": "list_tables ls show_tables",
            ".recompute('name')": "refresh update rebuild build",
            ".recompute()": "sync",
            ".plan().apply()": "apply",
            ".plan()": "dry_run",
            ".table('name').diff()": "diff",
            ".table('name').history()": "history versions",
            ".table('name', version=1).restore()": "restore rollback",
            ".table('name').export('rows.parquet')": "export to_parquet",
            ".table('name').export('rows.csv')": "to_csv",
            ".table('name').pin('why')": "pin",
            ".materialize('name', 'SELECT …')": "create_table create commit",
            ".define('name', 'SELECT …')": "create_view view",
            ".materialize('name', 'SELECT …') or .register('name', frame, producer='me')": "save",
            ".register('name', frame, producer='me')": "store write put",
            ".mutable['name'].insert(rows)": "insert",
            ".sources.add('name', 'file.csv')": "add add_source read_csv",
            ".sources['name']": "source",
            ".sources.add('name', 'database.duckdb')": "attach",
            ".sources.add('name', 'file.parquet')": "read_parquet",
            ".sources.add('name', frame)": "from_pandas",
            ".drop('name')": "remove delete drop_table",
            ".staleness('name')": "is_stale is_fresh verdict",
            ".lineage()": "graph dag",
            ".lineage('name', direction='up')": "upstream",
            ".lineage('name', direction='down')": "downstream",
            ".lineage('name')": "deps",
            ".check()": "test",
            ".search('vectors', 'a text')": "similar nearest",
            ".embed('name', 'source', key='id', text='column')": "embeddings",
            ".expire('name', keep=1)": "vacuum clean",
            ".fsck(repair=True)": "gc",
            ".settings": "config",
            ".path": "root name",
            ".close()": "exit",
            ".compute('name', function, inputs=['source'])": "python step",
        },
    ),
    "Result": ("result", _RESULT),
    "InMemoryResult": ("result", _RESULT),
    "ChangeResult": ("result", _RESULT),
    "ResultTable": ("table", _TABLE),
    "Status": _answers(
        "status",
        {
            ".pandas()": "show",
            "ws.plan()": "stale",
        },
        base=_ROWS,
    ),
    "Plan": _answers(
        "plan",
        {
            ".apply()": "run execute",
            ".certain and .possible": "steps",
        },
    ),
    "RunReport": _answers(
        "report",
        {
            ".failed": "errors",
            ".steps": "results",
        },
    ),
    "Lineage": _answers(
        "lineage",
        {
            ".to_mermaid()": "show",
            ".to_networkx()": "graph",
            ".nodes and .edges": "to_dict",
        },
    ),
    "Source": _answers(
        "source",
        {
            ".preview(5)": "head",
            ".preview()": "read show",
            ".columns()": "schema dtypes",
            ".location": "path url",
            ".kind": "type",
            "ws.sql('SELECT * FROM ' + source.name)": "sql",
            "ws.sql('SELECT * FROM ' + source.name).pandas()": "df pandas",
            "ws.sql('SELECT * FROM ' + source.name).polars()": "polars",
            "ws.sql('SELECT * FROM ' + source.name).arrow()": "arrow",
            "ws.sources.remove(source.name)": "remove",
            "ws.status()": "refresh",
        },
    ),
    "Sources": _answers(
        "ws.sources",
        {
            ".add('name', 'file.csv')": "register create",
            "['name']": "get",
            ".remove('name')": "delete drop",
        },
        base=_COLLECTION,
    ),
    "MutableTables": _answers(
        "ws.mutable",
        {
            ".create('name', schema, primary_key=['id'])": "add",
            "['name']": "get",
            ".drop('name')": "remove delete",
        },
        base=_COLLECTION,
    ),
    "MutableTable": _answers(
        "table",
        {
            ".insert(rows)": "append add",
            ".upsert(rows)": "merge",
            ".delete(where)": "remove",
            ".changes(since=0)": "history",
            ".read()": "show",
            ".read().arrow()": "arrow",
            ".read().pandas()": "pandas",
            ".read().polars()": "polars",
            ".read().fetchall()": "fetchall",
            "ws.mutable.drop(table.name)": "drop",
        },
        base={g: f".read(){a.replace(' or .', ' or .read().')}" for g, a in _ROWS.items()},
    ),
    "Models": _answers(
        "ws.models",
        {
            ".register('name', encoder, weights='1')": "add",
            ".get('name')": "load",
            ".delete('name')": "remove drop unregister",
        },
        base=_COLLECTION,
    ),
    "Topics": _answers(
        "ws.topics",
        {
            ".register('name', schema)": "create add",
            ".publish('name', batch)": "send",
            ".replay('name')": "read",
            ".subscribe('name')": "consume",
            ".drop('name')": "remove delete",
        },
    ),
    "Checks": _answers(
        "ws.checks",
        {
            "ws.check()": "run",
            ".add('name', 'SELECT …', on='table')": "create register",
            "['name']": "get",
            ".remove('name')": "delete drop",
        },
    ),
    "Recipe": _answers(
        "recipe",
        {
            ".definition": "sql text",
            ".newest_version": "version",
            "ws.recompute(recipe.name)": "run recompute",
            "ws.table(recipe.name).read()": "read",
            "ws.table(recipe.name).history()": "history",
        },
    ),
}
"""Class: the name that examples give its object, and the answers by guess. An answer that begins
with a dot or bracket is about that object. A test resolves every attribute named here."""


def missing_attribute_message(class_name: str, guess: str, known: list[str]) -> str:
    """The text of the AttributeError for a name that a class does not have."""
    variable, answers = GUESSES.get(class_name, (class_name, {}))
    message = f"{class_name} has no attribute {guess!r}."
    if (answer := answers.get(guess)) is not None:
        return f"{message} Use {_with_variable(variable, answer)}."
    near = near_names(guess, known)
    return f"{message} Did you mean {', '.join(near)}?" if near else message


def _with_variable(variable: str, answer: str) -> str:
    """The answer with the object's name before each part that begins with a dot or bracket."""
    return " or ".join(
        f"{variable}{verb}" if verb.startswith((".", "[")) else verb
        for verb in answer.split(" or ")
    )


def answer_guess(self: object, name: str) -> Any:
    """The `__getattr__` of a public class: answers a name that does not exist with the one that
    does."""
    cls = type(self)
    if name.startswith("_") or hasattr(cls, name):  # a property that raised this itself
        return object.__getattribute__(self, name)
    known = [each for each in dir(cls) if not each.startswith("_")]
    raise AttributeError(missing_attribute_message(cls.__name__, name, known))

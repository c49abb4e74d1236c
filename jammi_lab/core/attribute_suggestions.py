"""Answers to plausible guesses: an attribute or item that does not exist is answered with the one
that does. Arguments: `argument_suggestions`.

People arrive from pandas, DuckDB, dbt and sqlite-utils and type the verbs that they know. Python
answers `ws.query` with "no attribute 'query'", which is true and no help.
"""

import contextlib
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
        ".polars()": "to_polars pl collect",
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
        ".fetchall()[0]": "fetchone one scalar_one value scalar item fetch_one",
        ".batches()": "fetchmany fetch_record_batch",
        ".fetchall()": "rows all fetch",
        ".arrow().num_rows": "count num_rows row_count",
        ".arrow().shape": "shape",
        ".chart()": "plot",
        ".columns": "names column_names keys",
        ".schema": "types",
        ".export('rows.csv')": "to_csv write_csv",
        ".export('rows.parquet')": "to_parquet write save write_parquet",
        ".polars() or .pandas()": "filter select sort sort_values order_by group_by groupby join "
        "merge agg aggregate assign drop_duplicates value_counts query pivot",
        ".pandas().describe()": "describe",
        ".pandas().mean(numeric_only=True)": "mean sum",
        ".pandas()": "values iloc loc index astype T",
        ".preview(5)": "sample take tail",
        "ws.materialize('name', 'SELECT …')": "materialize persist create",
    }
)
_TABLE = _ROWS | _by_guess(
    {
        ".read().preview()": "show preview",
        ".read().preview(5)": "head sample",
        ".read()": "sql open",
        ".read().fetchall()": "fetchall",
        ".read().batches()": "batches",
        ".read().chart()": "chart plot",
        ".columns": "names column_names keys",
        ".read().schema": "schema",
        ".row_count": "count rows num_rows",
        ".arrow().shape": "shape",
        ".bytes": "size",
        ".history()": "versions previous",
        ".staleness()": "verdict is_stale is_fresh stale fresh",
        "ws.why(table)": "why",
        "ws.recompute(table.name)": "refresh recompute update rebuild",
        ".drop()": "delete remove",
        "ws.rename(table.name, 'new_name')": "rename",
        ".export('rows.parquet')": "save to_parquet write write_parquet",
        ".export('rows.csv')": "to_csv write_csv",
        ".inputs": "sources parents",
        ".lineage()": "upstream downstream children source",
        "ws.recipe(table.name).definition": "definition sql_text text query",
        "ws.recipe(table.name)": "recipe",
        "ws.vector(table, 'key')": "vector",
        ".polars() or .pandas()": "filter select sort sort_values order_by group_by groupby join "
        "merge describe where vectors embedding",
        "ws.search(table, 'a text')": "search similar nearest",
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
            ".get_workspace()": "current current_workspace ws",
            "ws.close(), where ws = jl.open('lab')": "close",
            "ws.tables(), where ws = jl.open('lab')": "list tables",
            "ws.sql('SELECT …'), where ws = jl.open('lab')": "sql query",
            "ws.sources.add('name', 'file.csv'), where ws = jl.open('lab')": "read_csv",
            "ws.sources.add('name', 'file.parquet'), where ws = jl.open('lab')": "read_parquet",
            "ws.materialize('name', 'SELECT …'), where ws = jl.open('lab')": "materialize",
            "ws.embed('name', 'source', key='id', text='a'), where ws = jl.open('lab')": "embed",
            "ws.search('vectors', 'a text'), where ws = jl.open('lab')": "search",
            "ws.status(), where ws = jl.open('lab')": "status",
            "ws.recompute(), where ws = jl.open('lab')": "recompute",
        },
    ),
    "Workspace": _answers(
        "ws",
        {
            ".sql('SELECT …')": "query execute select q cursor con connection duckdb engine",
            ".sql('SELECT …') or .recompute()": "run",
            ".table('name').read()": "read read_table load",
            ".table('name')": "get get_table describe_table",
            ".table('name').pandas()": "df to_pandas",
            ".sql('SELECT …').fetchall()": "fetch fetchone fetchall",
            ".table('name').read().preview(5)": "head preview peek sample",
            ".status()": "show list catalog info describe stale",
            ".tables()": "list_tables ls show_tables table_names",
            ".recompute('name')": "refresh update rebuild build invalidate touch",
            ".recompute()": "sync",
            ".plan().apply()": "apply",
            ".plan()": "dry_run",
            ".table('name').diff()": "diff",
            ".table('name').history()": "history versions log",
            ".table('name', version=1).restore()": "restore rollback checkout undo",
            ".table('name').export('rows.parquet')": "export to_parquet",
            ".table('name').export('rows.csv')": "to_csv",
            ".table('name').pin('why')": "pin tag snapshot",
            ".materialize('name', 'SELECT …')": "create_table create commit begin",
            ".define('name', 'SELECT …')": "create_view view",
            ".materialize('name', 'SELECT …') or .register('name', frame, producer='me')": "save",
            ".register('name', frame, producer='me')": "store write put write_table",
            ".mutable['name'].insert(rows)": "insert",
            ".sources.add('name', 'file.csv')": "add add_source read_csv load_csv "
            "upload import_csv add_file from_csv load_file",
            ".sources['name']": "source",
            ".sources.add('name', 'database.duckdb')": "attach",
            ".sources.add('name', 'file.parquet')": "read_parquet",
            ".sources.add('name', frame)": "from_pandas",
            ".drop('name')": "remove delete drop_table",
            ".staleness('name')": "is_stale is_fresh verdict fresh",
            ".lineage()": "graph dag",
            ".lineage('name', direction='up')": "upstream",
            ".lineage('name', direction='down')": "downstream",
            ".lineage('name')": "deps dependencies parents",
            ".check()": "test",
            ".search('vectors', 'a text')": "similar nearest",
            ".embed('name', 'source', key='id', text='column')": "embeddings",
            ".expire('name', keep=1)": "vacuum clean",
            ".fsck(repair=True)": "gc",
            ".settings": "config",
            ".path": "root name",
            ".close()": "exit",
            ".compute('name', function, inputs=['source'])": "python step udf register_function "
            "create_function",
            ".sql('SELECT …').pandas()": "read_sql",
            ".backup('catalog.sqlite3')": "copy dump",
            "jl.widgets.Workbench(ws)": "panel ui",
            "help(ws)": "help",
            ".table('name').version": "version",
            "'name' in ws": "has exists contains",
            ".table('name').row_count": "count",
            ".table('name').diff(1)": "changes",
            ".materialize('name', 'SELECT …', cache='use')": "cache",
        },
    ),
    "Result": ("result", _RESULT),
    "InMemoryResult": ("result", _RESULT),
    "ChangeResult": ("result", _RESULT),
    "ResultTable": ("table", _TABLE),
    "Status": _answers(
        "status",
        {
            "ws.plan()": "stale",
            "ws.staleness('name')": "verdict why",
            ".pandas()": "show filter fresh rows",
        },
        base=_ROWS,
    ),
    "Plan": _answers(
        "plan",
        {
            ".apply()": "run execute",
            ".certain and .possible": "steps tables total recipes",
            ".seconds_at_least and .seconds_at_most": "seconds duration estimate",
            "print(plan)": "show",
        },
    ),
    "RunReport": _answers(
        "report",
        {
            ".failed": "errors ok success",
            ".steps": "results show",
        },
    ),
    "Comparison": _answers(
        "comparison",
        {
            "[0].per_query()": "per_query queries",
            "[0].cohorts()": "cohorts",
            ".polars()": "df to_df show rows",
        },
    ),
    "Lineage": _answers(
        "lineage",
        {
            ".to_mermaid()": "show to_dot",
            "jl.widgets.LineageGraph(ws)": "plot draw view",
            "ws.lineage('name', direction='up')": "parents upstream ancestors",
            "ws.lineage('name', direction='down')": "children downstream descendants",
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
            "['name']": "get describe",
            "ws.status()": "refresh update",
            ".remove('name')": "delete drop",
        },
        base=_COLLECTION,
    ),
    "MutableTables": _answers(
        "ws.mutable",
        {
            ".create('name', schema, primary_key=['id'])": "add create_table",
            "['name']": "get",
            ".drop('name')": "remove delete",
        },
        base=_COLLECTION,
    ),
    "MutableTable": _answers(
        "table",
        {
            ".insert(rows)": "append add",
            ".upsert(rows)": "merge set",
            ".delete(where)": "remove",
            ".changes(since=0)": "history",
            ".read()": "show arrow to_arrow rows",
            ".read().to_pandas()": "pandas to_pandas df to_df",
            ".read().to_pylist()": "fetchall to_dicts to_list to_dict",
            ".read().slice(0, 5)": "head preview",
            ".schema": "columns dtypes types",
            "pl.from_arrow(table.read())": "polars to_polars",
            "ws.sql('SELECT … FROM mutable.' + table.name)": "sql query",
            "ws.mutable.drop(table.name)": "drop",
        },
    ),
    "SourceList": _answers("ws.sources", {"['name']": "get"}),
    "ResultTables": _answers("ws", {".status().pandas()": "pandas df to_pandas"}),
    "Diff": _answers("diff", {".changed.to_pandas()": "pandas df to_pandas"}),
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
            ".add('name', jl.checks.unique('id'), on='table')": "unique not_null between accepted",
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
            "ws.table(recipe.name).history()": "history versions tables",
            "ws.table(recipe.name)": "table",
            "ws.table(recipe.name).inputs": "inputs sources",
            "ws.table(recipe.name).manifest": "params",
            "ws.drop(recipe.name)": "drop delete remove",
        },
    ),
}
"""Class: the name that examples give its object, and the answers by guess. An answer that begins
with a dot or bracket is about that object. A test resolves every attribute named here."""


_ITEMS: dict[str, tuple[str, str]] = {
    "Workspace": (".table({key})", ".tables() or .sources"),
    "Result": (".pandas()[{key}] or .polars()[{key}]", ".fetchall() or .pandas()"),
    "ResultTable": (".pandas()[{key}] or .polars()[{key}]", ".read().fetchall() or .pandas()"),
    "Source": (".preview()[{key}]", ".preview().to_pylist()"),
    "SourceList": ("[{key}]", ""),
    "ResultTables": (".table({key})", ""),
    "Models": (".get({key})", ".list()[{key}]"),
    "MutableTable": (".read()[{key}]", ".read().to_pylist()"),
    "Plan": (".certain and .possible", ".certain and .possible"),
    "RunReport": (".steps", ".steps"),
    "Lineage": ("ws.lineage({key})", ".nodes"),
    "Diff": (".added, .removed and .changed", ".added, .removed and .changed"),
    "Recipe": ("ws.table(recipe.name)", "ws.table(recipe.name)"),
}
"""Class: what gives the item of a text, and of a position (or of an iteration)."""
_ASSIGNMENTS = {
    "Workspace": ".sources.add({key}, value)",
    "Sources": ".add({key}, value)",
    "MutableTable": ".upsert(rows)",
}
_DELETIONS = {
    "Workspace": ".drop({key})",
    "Sources": ".remove({key})",
    "MutableTables": ".drop({key})",
    "Models": ".delete({key})",
    "Checks": ".remove({key})",
}


def missing_attribute_message(
    class_name: str, guess: str, known: list[str], item: str | None = None
) -> str:
    """The text of the AttributeError for a name that a class does not have. `item`: the answer when
    the object has an item of that name."""
    variable, answers = GUESSES.get(class_name, (class_name, {}))
    message = f"{_public_name(class_name)} has no attribute {guess!r}."
    if (answer := item or answers.get(guess)) is not None:
        return f"{message} Use {_with_variable(variable, answer)}."
    near = [name for name in near_names(guess, known) if name[0] == guess[0] or name in guess]
    advice = f"Did you mean {', '.join(near)}?" if near else f"help({variable}) lists what it has."
    return f"{message} {advice}"


def _public_name(class_name: str) -> str:
    """The name that people know: a kind of Result is a Result."""
    return "Result" if class_name.endswith("Result") else class_name


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
    answered = name in GUESSES.get(cls.__name__, ("", {}))[1]
    item = None if answered else _answer_of_item(self, name)
    raise AttributeError(missing_attribute_message(cls.__name__, name, known, item))


def answer_item(self: object, key: object) -> Any:
    """The `__getitem__` of a public class that has no items. Iterating comes here, too."""
    cls = type(self).__name__
    message = f"{_public_name(cls)} has no item" + (f" {key!r}." if isinstance(key, str) else "s.")
    if isinstance(key, str) and (found := _answer_of_item(self, key)):
        raise TypeError(f"{message} Use {_with_variable(variable_of(cls), found)}.")
    raise TypeError(_with_example(message, cls, _ITEMS.get(_public_name(cls)), key))


def answer_name_in_list(self: list[Any], key: Any) -> Any:
    """The `__getitem__` of a list of named things, which has items by position."""
    return answer_item(self, key) if isinstance(key, str) else list.__getitem__(self, key)


def answer_assignment(self: object, key: object, _: object) -> None:
    """The `__setitem__` of a public class whose items cannot be assigned."""
    cls = type(self).__name__
    answer = _ASSIGNMENTS.get(cls)
    message = f"Items of {_public_name(cls)} cannot be assigned."
    raise TypeError(_with_example(message, cls, (answer or "", answer or ""), key))


def answer_deletion(self: object, key: object) -> None:
    """What `del` calls on a public class whose items cannot be deleted."""
    cls = type(self).__name__
    answer = _DELETIONS.get(cls)
    message = f"Items of {_public_name(cls)} cannot be deleted."
    raise TypeError(_with_example(message, cls, (answer or "", answer or ""), key))


def variable_of(class_name: str) -> str:
    """The name that examples give to an object of a class: `ws`, `result`, `table`."""
    return GUESSES.get(class_name, (class_name, {}))[0]


def _with_example(message: str, cls: str, answers: tuple[str, str] | None, key: object) -> str:
    answer = answers and answers[0 if isinstance(key, str | list | tuple) else 1]
    if not answer:
        return message
    shown = answer.replace("{key}", repr([*key] if isinstance(key, tuple) else key))
    return f"{message} Use {_with_variable(variable_of(cls), shown)}."


def _answer_of_item(self: Any, name: str) -> str | None:
    """What gives the table, source or column of that name, if the object has one."""
    with contextlib.suppress(Exception):  # a closed workspace, a damaged table
        cls = _public_name(type(self).__name__)
        if cls == "Workspace":
            places = ((self, ".table({})"), (self.sources, ".sources[{}]"),
                      (self.mutable, ".mutable[{}]"), (self.topics, ".topics[{}]"))  # fmt: skip
            return next((a.format(repr(name)) for held, a in places if name in held), None)
        if cls in ("Result", "ResultTable"):
            rows = self if cls == "Result" else self.read()
            found = name in rows.columns
            return _ITEMS[cls][0].replace("{key}", repr(name)) if found else None
        if cls in ("Sources", "MutableTables", "Topics", "Checks") and name in self:
            return f"[{name!r}]"
    return None

"""Answers to plausible guesses: an attribute that does not exist is answered with the one that
does.

People arrive from pandas, DuckDB, dbt and sqlite-utils and type the verbs that they know. Python
answers `ws.query` with "no attribute 'query'", which is true and no help.
"""

from typing import Any

from jammi_lab.core.identifiers import near_names

_ROWS = {
    "df": ".pandas() or .polars()",
    "to_df": ".pandas() or .polars()",
    "fetchdf": ".pandas()",
    "fetch_df": ".pandas()",
    "to_pandas": ".pandas()",
    "toPandas": ".pandas()",
    "pd": ".pandas()",
    "to_polars": ".polars()",
    "pl": ".polars()",
    "to_arrow": ".arrow()",
    "to_arrow_table": ".arrow()",
    "fetch_arrow_table": ".arrow()",
    "to_table": ".arrow()",
    "to_dict": ".arrow().to_pylist()",
    "to_dicts": ".arrow().to_pylist()",
    "to_list": ".arrow().to_pylist()",
    "to_numpy": ".pandas().to_numpy()",
    "dtypes": ".arrow().schema",
}
_RESULT = _ROWS | {
    "show": ".preview()",
    "head": ".preview(5).to_pandas()",
    "fetchone": ".fetchall()[0]",
    "fetchmany": ".batches()",
    "fetch_record_batch": ".batches()",
    "rows": ".fetchall()",
    "all": ".fetchall()",
    "count": ".arrow().num_rows",
    "shape": ".arrow().shape",
    "plot": ".chart()",
    "names": ".columns",
    "types": ".schema",
    "to_csv": ".pandas().to_csv('rows.csv')",
    "to_parquet": ".pandas().to_parquet('rows.parquet')",
}
_TABLE = _ROWS | {
    "show": ".read().preview()",
    "head": ".read().preview(5)",
    "preview": ".read().preview()",
    "sql": ".read()",
    "fetchall": ".read().fetchall()",
    "batches": ".read().batches()",
    "chart": ".read().chart()",
    "plot": ".read().chart()",
    "columns": ".read().columns",
    "schema": ".read().schema",
    "count": ".row_count",
    "rows": ".row_count",
    "shape": ".arrow().shape",
    "size": ".bytes",
    "versions": ".history()",
    "verdict": ".staleness()",
    "is_stale": ".staleness()",
    "is_fresh": ".staleness()",
    "why": "ws.why(table)",
    "refresh": "ws.recompute(table.name)",
    "recompute": "ws.recompute(table.name)",
    "update": "ws.recompute(table.name)",
    "rebuild": "ws.recompute(table.name)",
    "delete": ".drop()",
    "remove": ".drop()",
    "rename": "ws.rename(table.name, 'new_name')",
    "save": ".export('rows.parquet')",
    "to_csv": ".export('rows.csv')",
    "to_parquet": ".export('rows.parquet')",
    "write": ".export('rows.parquet')",
    "sources": ".inputs",
    "parents": ".inputs",
    "upstream": ".lineage()",
    "downstream": ".lineage()",
    "definition": "ws.recipes()",
    "sql_text": "ws.recipes()",
    "search": "ws.search(table, 'a text')",
    "created": ".created_at",
    "id": ".table_name",
    "uri": ".path",
    "location": ".path",
    "hash": ".definition_hash",
    "rollback": ".restore()",
    "compare": ".diff()",
    "hold": "ws.hold('name')",
    "lock": ".pin('why')",
}
_COLLECTION = {"all": ".list()", "names": ".list()", "keys": ".list()", "items": ".list()",
               "values": ".list()", "find": "[name]"}  # fmt: skip
GUESSES: dict[str, tuple[str, dict[str, str]]] = {
    "module 'jammi_lab'": (
        "jl",
        {
            "connect": ".open('lab')",
            "workspace": ".open('lab')",
            "create": ".open('lab')",
            "load": ".open('lab')",
            "init": ".open('lab')",
            "sql": "ws.sql('SELECT …'), where ws = jl.open('lab')",
            "query": "ws.sql('SELECT …'), where ws = jl.open('lab')",
            "read_csv": "ws.sources.add('name', 'file.csv'), where ws = jl.open('lab')",
            "read_parquet": "ws.sources.add('name', 'file.parquet'), where ws = jl.open('lab')",
            "materialize": "ws.materialize('name', 'SELECT …'), where ws = jl.open('lab')",
            "Lab": ".open('lab')",
        },
    ),
    "Workspace": (
        "ws",
        {
            "query": ".sql('SELECT …')",
            "execute": ".sql('SELECT …')",
            "run": ".sql('SELECT …') or .recompute()",
            "select": ".sql('SELECT …')",
            "q": ".sql('SELECT …')",
            "read": ".table('name').read()",
            "read_table": ".table('name').read()",
            "load": ".table('name').read()",
            "get": ".table('name')",
            "get_table": ".table('name')",
            "df": ".table('name').pandas()",
            "to_pandas": ".table('name').pandas()",
            "fetch": ".sql('SELECT …').fetchall()",
            "head": ".table('name').read().preview(5)",
            "show": ".status()",
            "list": ".status()",
            "list_tables": ".tables()",
            "ls": ".tables()",
            "show_tables": ".tables()",
            "catalog": ".status()",
            "info": ".status()",
            "describe": ".status()",
            "refresh": ".recompute('name')",
            "update": ".recompute('name')",
            "rebuild": ".recompute('name')",
            "build": ".recompute('name')",
            "sync": ".recompute()",
            "apply": ".plan().apply()",
            "dry_run": ".plan()",
            "diff": ".table('name').diff()",
            "history": ".table('name').history()",
            "versions": ".table('name').history()",
            "restore": ".table('name', version=1).restore()",
            "rollback": ".table('name', version=1).restore()",
            "export": ".table('name').export('rows.parquet')",
            "to_csv": ".table('name').export('rows.csv')",
            "to_parquet": ".table('name').export('rows.parquet')",
            "pin": ".table('name').pin('why')",
            "create_table": ".materialize('name', 'SELECT …')",
            "create": ".materialize('name', 'SELECT …')",
            "create_view": ".define('name', 'SELECT …')",
            "view": ".define('name', 'SELECT …')",
            "save": ".materialize('name', 'SELECT …') or .register('name', frame, producer='me')",
            "store": ".register('name', frame, producer='me')",
            "write": ".register('name', frame, producer='me')",
            "put": ".register('name', frame, producer='me')",
            "insert": ".mutable['name'].insert(rows)",
            "add": ".sources.add('name', 'file.csv')",
            "add_source": ".sources.add('name', 'file.csv')",
            "source": ".sources['name']",
            "attach": ".sources.add('name', 'database.duckdb')",
            "read_csv": ".sources.add('name', 'file.csv')",
            "read_parquet": ".sources.add('name', 'file.parquet')",
            "from_pandas": ".sources.add('name', frame)",
            "remove": ".drop('name')",
            "delete": ".drop('name')",
            "drop_table": ".drop('name')",
            "recipe": ".recipes()['name']",
            "is_stale": ".staleness('name')",
            "is_fresh": ".staleness('name')",
            "stale": ".status()",
            "verdict": ".staleness('name')",
            "graph": ".lineage()",
            "dag": ".lineage()",
            "upstream": ".lineage('name', direction='up')",
            "downstream": ".lineage('name', direction='down')",
            "deps": ".lineage('name')",
            "test": ".check()",
            "similar": ".search('vectors', 'a text')",
            "embeddings": ".embed('name', 'source', key='id', text='column')",
            "nearest": ".search('vectors', 'a text')",
            "vacuum": ".expire('name', keep=1)",
            "gc": ".fsck(repair=True)",
            "clean": ".expire('name', keep=1)",
            "commit": ".materialize('name', 'SELECT …')",
            "config": ".settings",
            "root": ".path",
            "name": ".path",
            "exit": ".close()",
            "python": ".compute('name', function, inputs=['source'])",
            "step": ".compute('name', function, inputs=['source'])",
        },
    ),
    "Result": ("result", _RESULT),
    "InMemoryResult": ("result", _RESULT),
    "ChangeResult": ("result", _RESULT),
    "ResultTable": ("table", _TABLE),
    "Status": ("status", {**_ROWS, "show": ".pandas()", "stale": "ws.plan()"}),
    "Plan": ("plan", {"run": ".apply()", "execute": ".apply()", "steps": ".certain and .possible"}),
    "RunReport": ("report", {"errors": ".failed", "results": ".steps"}),
    "Lineage": (
        "lineage",
        {"show": ".to_mermaid()", "graph": ".to_networkx()", "to_dict": ".nodes and .edges"},
    ),
    "Source": (
        "source",
        {
            "head": ".preview(5)",
            "read": ".preview()",
            "show": ".preview()",
            "schema": ".columns()",
            "dtypes": ".columns()",
            "path": ".location",
            "url": ".location",
            "type": ".kind",
            "sql": "ws.sql('SELECT * FROM ' + source.name)",
            "df": "ws.sql('SELECT * FROM ' + source.name).pandas()",
            "pandas": "ws.sql('SELECT * FROM ' + source.name).pandas()",
            "polars": "ws.sql('SELECT * FROM ' + source.name).polars()",
            "arrow": "ws.sql('SELECT * FROM ' + source.name).arrow()",
            "remove": "ws.sources.remove(source.name)",
            "refresh": "ws.status()",
        },
    ),
    "Sources": (
        "ws.sources",
        {
            **_COLLECTION,
            "register": ".add('name', 'file.csv')",
            "create": ".add('name', 'file.csv')",
            "get": "['name']",
            "delete": ".remove('name')",
            "drop": ".remove('name')",
        },
    ),
    "MutableTables": (
        "ws.mutable",
        {
            **_COLLECTION,
            "add": ".create('name', schema, primary_key=['id'])",
            "get": "['name']",
            "remove": ".drop('name')",
            "delete": ".drop('name')",
        },
    ),
    "MutableTable": (
        "table",
        {
            **{g: f".read(){a.replace(' or .', ' or .read().')}" for g, a in _ROWS.items()},
            "append": ".insert(rows)",
            "add": ".insert(rows)",
            "merge": ".upsert(rows)",
            "remove": ".delete(where)",
            "history": ".changes(since=0)",
            "show": ".read()",
            "arrow": ".read().arrow()",
            "pandas": ".read().pandas()",
            "polars": ".read().polars()",
            "fetchall": ".read().fetchall()",
            "drop": "ws.mutable.drop(table.name)",
        },
    ),
    "Models": (
        "ws.models",
        {
            **_COLLECTION,
            "add": ".register('name', encoder, weights='1')",
            "load": ".get('name')",
            "remove": ".delete('name')",
            "drop": ".delete('name')",
            "unregister": ".delete('name')",
        },
    ),
    "Topics": (
        "ws.topics",
        {
            "create": ".register('name', schema)",
            "add": ".register('name', schema)",
            "send": ".publish('name', batch)",
            "read": ".replay('name')",
            "consume": ".subscribe('name')",
            "remove": ".drop('name')",
            "delete": ".drop('name')",
        },
    ),
    "Checks": (
        "ws.checks",
        {
            "run": "ws.check()",
            "create": ".add('name', 'SELECT …', on='table')",
            "register": ".add('name', 'SELECT …', on='table')",
            "get": "['name']",
            "delete": ".remove('name')",
            "drop": ".remove('name')",
        },
    ),
    "Recipe": (
        "recipe",
        {
            "sql": ".definition",
            "text": ".definition",
            "version": ".newest_version",
            "run": "ws.recompute(recipe.name)",
            "recompute": "ws.recompute(recipe.name)",
            "read": "ws.table(recipe.name).read()",
            "history": "ws.table(recipe.name).history()",
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

"""Run as a program of its own, with the standard library alone: reads database files for `outside_process.py`.

For each JSON object, a line of its input, it writes one to its output: the answer, or `failed` (notadb, busy, unfinished, gone, denied, other) and
`said`. It ends when its input does, and has no file open between two requests.
"""

import contextlib
import hashlib
import json
import re
import signal
import sqlite3
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

_BLOCK = 1 << 20
_ROWS = 4096
_WAIT_SECONDS = 5.0
_PURE = frozenset(
    "abs avg cast ceil ceiling char coalesce concat concat_ws count exp floor format group_concat hex ifnull iif instr length like ln log log10 "
    "log2 lower ltrim max min mod nullif pi pow power printf quote replace round rtrim sign sqrt string_agg substr substring sum total trim trunc "
    "typeof unhex unicode upper zeroblob row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value".split()
)
"""Functions whose value depends on their arguments alone. A view that calls another one is not read: it could change while the file does not."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, getattr(sqlite3, "SQLITE_RECURSIVE", 33)}


def main() -> None:
    """Answer one request after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts a kernel means the kernel, which ends this process when it waits for it
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _DO[request["do"]](request)
    except sqlite3.Error as error:
        return {"failed": _kind(error), "said": str(error)}
    except OSError as error:
        kind = "gone" if isinstance(error, FileNotFoundError) else "denied" if isinstance(error, PermissionError) else "other"
        return {"failed": kind, "said": error.strerror or str(error)}
    except Exception as error:  # noqa: BLE001  whatever it is, the next request is another
        return {"failed": "other", "said": str(error) or type(error).__name__}


def _kind(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return "notadb"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "busy"
    if name == "SQLITE_READONLY_ROLLBACK":
        return "unfinished"
    return "denied" if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")) else "other"


def _digest(request: dict[str, Any]) -> dict[str, Any]:
    """Over the bytes of each file; one that is empty counts as one that is not there."""
    whole = hashlib.sha256()
    for path in request["paths"]:
        part = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    part.update(block)
        except FileNotFoundError:
            pass
        whole.update(part.digest())
    return {"digest": whole.hexdigest()}


def _head(request: dict[str, Any]) -> dict[str, Any]:
    with open(request["paths"][0], "rb") as file:
        return {"head": file.read(32).hex()}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    with open(path, "rb"):  # says better than SQLite what is wrong
        pass
    connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master")
        yield connection


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(request: dict[str, Any]) -> dict[str, Any]:
    """Every table and view: name, whether it is a view, [name, declared type] of its columns, and why it cannot be read, if so."""
    with _opened(request["path"]) as connection:
        named = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name").fetchall()
        virtual = _virtual(connection, named)
        return {"tables": [_table(connection, kind, name, virtual) for kind, name, _ in named if not name.lower().startswith("sqlite_")]}


def _table(connection: sqlite3.Connection, kind: str, name: str, virtual: set[str]) -> dict[str, Any]:
    why = "it is a virtual table, or belongs to one" if name in virtual else ""
    if kind == "view":
        why = _wrong_with_view(connection, name)
    columns = [] if why else [[row[1], row[2]] for row in connection.execute(f"PRAGMA table_info({_quote(name)})")]
    return {"name": name, "view": kind == "view", "columns": columns, "why": why}


def _virtual(connection: sqlite3.Connection, named: list[tuple[str, str, str]]) -> set[str]:
    """Virtual tables, and the tables in which they keep what they hold."""
    try:
        listed = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('virtual', 'shadow')").fetchall()
        return {name for (name,) in listed}
    except sqlite3.OperationalError:  # an older SQLite
        heads = [name for kind, name, sql in named if kind == "table" and re.match(r"\s*CREATE\s+VIRTUAL", sql, re.I)]
        return {name for _, name, _ in named if name in heads or any(name.startswith(f"{head}_") for head in heads)}


def _wrong_with_view(connection: sqlite3.Connection, name: str) -> str:
    calls: set[str] = set()

    def authorize(action: int, one: str | None, other: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            if (other or "").lower() not in _PURE:
                calls.add((other or "").lower())
        elif action not in _ALLOWED:
            calls.add(f"action {action} {one or ''}".strip())
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    try:
        connection.execute(f"SELECT * FROM {_quote(name)} LIMIT 0")
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.set_authorizer(None)
    return f"its rows may change while the file does not: it calls {', '.join(sorted(calls))}()" if calls else ""


def _content(request: dict[str, Any]) -> dict[str, Any]:
    """A digest for each column over its values in the order of the rows, and the number of rows, in one read transaction."""
    source = _quote(request["table"]) + ("" if request["view"] else " NOT INDEXED")
    select = f"SELECT {', '.join(map(_quote, request['columns']))} FROM {source}"
    with _opened(request["path"]) as connection:
        try:
            return _hashed(connection.execute(select), len(request["columns"]))
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            return _hashed(connection.execute(select), len(request["columns"]))


def _hashed(cursor: sqlite3.Cursor, width: int) -> dict[str, Any]:
    hashes = [hashlib.sha256() for _ in range(width)]
    rows = 0
    for chunk in _chunks(cursor):
        rows += len(chunk)
        for running, values in zip(hashes, zip(*chunk, strict=True), strict=True):
            running.update(json.dumps(values, default=_bytes).encode())  # tells 1, 1.0, "1", NULL and bytes apart
    return {"digests": [running.hexdigest() for running in hashes], "rows": rows}


def _chunks(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    """Always cut at the same rows."""
    while chunk := cursor.fetchmany(_ROWS):
        yield chunk


def _bytes(value: bytes) -> dict[str, str]:
    return {"b": value.hex()}


def _largest(request: dict[str, Any]) -> dict[str, Any]:
    column, table = _quote(request["column"]), _quote(request["table"])
    with _opened(request["path"]) as connection:
        largest, rows = connection.execute(f"SELECT CAST(max({column}) AS TEXT), count(*) FROM {table}").fetchone()
    return {"largest": largest, "rows": rows}


def _catalog(request: dict[str, Any]) -> dict[str, Any]:
    """Where the metadata of an Iceberg table is, for each catalog in the file that knows it."""
    select = "SELECT catalog_name, metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ? ORDER BY 1"
    with _opened(request["path"]) as connection:
        return {"found": connection.execute(select, [request["namespace"], request["table"]]).fetchall()}


def _copy(request: dict[str, Any]) -> dict[str, Any]:
    """A copy of the file as it is now, its log included."""
    with _opened(request["path"]) as connection:
        connection.execute("COMMIT")
        with contextlib.closing(sqlite3.connect(request["to"])) as target:
            connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
    return {}


_DO: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "digest": _digest,
    "head": _head,
    "tables": _tables,
    "content": _content,
    "largest": _largest,
    "catalog": _catalog,
    "copy": _copy,
}

if __name__ == "__main__":
    main()

"""Child process that reads database files and workbooks for `reader_process.py`. Only the reader of
workbooks needs more than the standard library.

Input and output are JSON objects, one per line. The answer to a request is its result, or `failed`
(notadb, busy, unfinished, gone, denied, other) with `message`. The process exits when its input is
closed, also during a request, and keeps no file open between requests.
"""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import re
import select
import signal
import sqlite3
import stat
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 10_000
_CHUNK_ROWS = 4096
GENERATED = "GENERATED "
"""Stands before the type of a computed column."""
_LOCK_TIMEOUT_SECONDS = 5.0
_DETERMINISTIC_FUNCTIONS = frozenset(
    "abs avg cast ceil ceiling char coalesce concat concat_ws count exp floor format "
    "group_concat hex ifnull iif instr length like ln log log10 "
    "log2 lower ltrim max min mod nullif pi pow power printf quote replace round rtrim sign "
    "sqrt string_agg substr substring sum total trim trunc "
    "typeof unhex unicode upper zeroblob row_number rank dense_rank percent_rank cume_dist "
    "ntile lag lead first_value last_value nth_value".split()
)
"""Deterministic functions. A view that calls any other is not readable, because its rows could
change while the file does not."""
_LIMIT = re.compile(r"\blimit\b", re.IGNORECASE)
"""Which rows it leaves depends on the index that SQLite takes, and so on the columns that a
statement reads."""
_ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    getattr(sqlite3, "SQLITE_RECURSIVE", 33),
}


def main() -> None:
    """Handle requests until the input ends."""
    # An interrupt is meant for the kernel, which kills this process if it is waiting for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_input, daemon=True).start()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


def _end_with_input() -> None:
    """Exit when the other end is closed, also while a request runs."""
    poller = select.poll()
    poller.register(sys.stdin.fileno(), 0)
    poller.poll()
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _HANDLERS[request["do"]](request)
    except sqlite3.Error as error:
        return {"failed": _error_kind(error), "message": str(error)}
    except OSError as error:
        kinds = {errno.ENOENT: "gone", errno.EACCES: "denied", errno.EPERM: "denied"}
        kind = kinds.get(error.errno or 0, "other")
        return {"failed": kind, "message": error.strerror or str(error)}
    except Exception as error:  # noqa: BLE001  one failed request must not end the process
        return {"failed": "other", "message": str(error) or type(error).__name__}


_ERROR_KINDS = {
    "SQLITE_NOTADB": "notadb",
    "SQLITE_CORRUPT": "notadb",
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_READONLY_ROLLBACK": "unfinished",
    "SQLITE_CANTOPEN": "denied",
    "SQLITE_READONLY": "denied",
    "SQLITE_PERM": "denied",
}
"""By the beginnings of SQLite's names."""


def _error_kind(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    return next((kind for start, kind in _ERROR_KINDS.items() if name.startswith(start)), "other")


@contextlib.contextmanager
def _open_regular(path: str) -> Iterator[BinaryIO]:
    """An open regular file. Raises OSError, also for a pipe or device, whose reading could block
    for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield file


def _head(request: dict[str, Any]) -> dict[str, Any]:
    with _open_regular(request["paths"][0]) as file:
        return {"head": file.read(_HEAD_BYTES).hex()}


@contextlib.contextmanager
def _open_database(path: str) -> Iterator[sqlite3.Connection]:
    with _open_regular(path):  # raises a more precise error than SQLite does
        pass
    connection = sqlite3.connect(
        f"file:{urllib.parse.quote(path)}?mode=ro",
        uri=True,
        timeout=_LOCK_TIMEOUT_SECONDS,
        isolation_level=None,
    )
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master")
        yield connection


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(request: dict[str, Any]) -> dict[str, Any]:
    """Every table and view: its name, whether it is a view, [name, declared type] per column, and
    why it cannot be read (empty when it can)."""
    with _open_database(request["path"]) as connection:
        objects = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
        ).fetchall()
        virtual = _virtual_tables(connection)
        return {
            "tables": [
                _table(connection, kind, name, virtual)
                for kind, name in objects
                if not name.lower().startswith("sqlite_")
            ]
        }


def _table(
    connection: sqlite3.Connection, kind: str, name: str, virtual: set[str]
) -> dict[str, Any]:
    why = "it is a virtual table or part of one" if name in virtual else ""
    if kind == "view":
        why = _view_problem(connection, name)
    columns = (
        []
        if why
        else [
            [row[1], f"{GENERATED}{row[2]}" if row[6] in (2, 3) else row[2]]
            for row in connection.execute(f"PRAGMA table_xinfo({_quote(name)})")
        ]
    )
    return {"name": name, "view": kind == "view", "columns": columns, "why": why}


def _virtual_tables(connection: sqlite3.Connection) -> set[str]:
    """Virtual tables and their shadow tables."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('virtual', 'shadow')"
    ).fetchall()
    return {name for (name,) in rows}


def _view_problem(connection: sqlite3.Connection, name: str) -> str:
    calls: set[str] = set()
    views = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'"))

    def authorize(action: int, first: str | None, second: str | None, _: Any, view: Any) -> int:
        if _LIMIT.search(views.get(view, views[name])):  # of a WITH it is the name there
            calls.add("LIMIT")
        if action == sqlite3.SQLITE_FUNCTION:
            if (second or "").lower() not in _DETERMINISTIC_FUNCTIONS:
                calls.add((second or "").lower())
        elif action not in _ALLOWED_ACTIONS:
            calls.add(f"action {action} {first or ''}".strip())
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    try:
        connection.execute(f"SELECT * FROM {_quote(name)} LIMIT 0")
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.set_authorizer(None)
    return (
        f"its rows may change while the file does not: it uses {', '.join(sorted(calls))}"
        if calls
        else ""
    )


def _query(request: dict[str, Any]) -> dict[str, Any]:
    """The rows of a SELECT of numbers and texts."""
    with _open_database(request["path"]) as connection:
        return {"rows": connection.execute(request["select"]).fetchall()}


def _content(request: dict[str, Any]) -> dict[str, Any]:
    """Column digests over the values in row order, and the row count, in one read transaction."""
    source = _quote(request["table"]) + ("" if request["view"] else " NOT INDEXED")
    select = f"SELECT {', '.join(map(_quote, request['columns']))} FROM {source}"
    with _open_database(request["path"]) as connection:
        try:
            return _digest_columns(connection.execute(select), len(request["columns"]))
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            return _digest_columns(connection.execute(select), len(request["columns"]))


def _digest_columns(cursor: sqlite3.Cursor, width: int) -> dict[str, Any]:
    hashes = [hashlib.sha256() for _ in range(width)]
    rows = 0
    for chunk in _chunks(cursor):
        rows += len(chunk)
        for column_hash, values in zip(hashes, zip(*chunk, strict=True), strict=True):
            # JSON keeps 1, 1.0, "1", NULL and bytes distinct.
            column_hash.update(json.dumps(values, default=_json_bytes).encode())
    return {"digests": [column_hash.hexdigest() for column_hash in hashes], "rows": rows}


def _chunks(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    """Chunks of a fixed row count, since their borders affect the digest."""
    while chunk := cursor.fetchmany(_CHUNK_ROWS):
        yield chunk


def _json_bytes(value: bytes) -> dict[str, str]:
    return {"b": value.hex()}


def _copy(request: dict[str, Any]) -> dict[str, Any]:
    """Copy the file, including the content of its log."""
    with _open_database(request["path"]) as connection:
        connection.execute("COMMIT")
        with contextlib.closing(sqlite3.connect(request["to"])) as target:
            connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
    return {}


def _workbook(request: dict[str, Any]) -> dict[str, Any]:
    """Read a sheet of a workbook, by the module `module`, found on `paths`."""
    sys.path[:] = request["paths"]
    return dict(importlib.import_module(request["module"]).read_workbook(request))


_HANDLERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "head": _head,
    "tables": _tables,
    "query": _query,
    "content": _content,
    "copy": _copy,
    "workbook": _workbook,
}

if __name__ == "__main__":
    main()

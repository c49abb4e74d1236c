"""The nesting limit of JSON functions that recurse. Deeper texts would exhaust the stack and end
the process (seen with DuckDB 1.5.5: json_structure and json_contains at 300 000 levels)."""

import re

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import PythonUDFType

MAX_JSON_DEPTH = 5_000
_DEPTH_FUNCTION = "__jammi_json_depth"
_RECURSIVE_FUNCTIONS = {
    "json_structure": ("a",),
    "json_contains": ("a", "b"),
    "json_pretty": ("a",),
}
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def add_json_guards(connection: duckdb.DuckDBPyConnection) -> None:
    """Shadow the recursive functions by macros of the same names that refuse deep texts."""
    connection.create_function(
        _DEPTH_FUNCTION, _depths, ["VARCHAR"], "INTEGER", type=PythonUDFType.ARROW
    )
    for name, parameters in _RECURSIVE_FUNCTIONS.items():
        arguments = ", ".join(_with_depth_check(parameter) for parameter in parameters)
        connection.execute(
            f"CREATE MACRO {name}({', '.join(parameters)}) AS system.main.{name}({arguments})"
        )


def _with_depth_check(parameter: str) -> str:
    # short texts cannot be deep, and never reach Python
    return (
        f"CASE WHEN strlen({parameter}::VARCHAR) > {MAX_JSON_DEPTH} AND "
        f"{_DEPTH_FUNCTION}({parameter}::VARCHAR) > {MAX_JSON_DEPTH} THEN "
        f"error('JSON is nested deeper than {MAX_JSON_DEPTH:,} levels') ELSE {parameter} END"
    )


def _depths(texts: pa.ChunkedArray | pa.Array) -> pa.Array:
    return pa.array([_depth(text) for text in texts.to_pylist()], pa.int32())


def _depth(text: str | None) -> int:
    """The number of arrays and objects around the innermost value."""
    body = (text or "").encode()
    if body.count(b"[") + body.count(b"{") <= MAX_JSON_DEPTH:
        return 0  # within the limit, whatever it is
    letters = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    opened = np.isin(letters, (ord("["), ord("{"))).astype(np.int32)
    closed = np.isin(letters, (ord("]"), ord("}"))).astype(np.int32)
    return int(np.cumsum(opened - closed).max(initial=0))

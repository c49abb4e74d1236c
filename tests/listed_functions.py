"""Writes the functions that a statement may call, `jammi_lab/engine/sql/functions.txt`, for the running DuckDB: `python -m tests.listed_functions`."""

from pathlib import Path

import duckdb

from jammi_lab.engine.sql import function_list

FILE = Path(function_list.__file__).with_name("functions.txt")
ALLOWED = {
    "current_date",
    "current_timestamp",
    "current_localtime",
    "current_localtimestamp",
    "pg_typeof",
    "pg_size_pretty",
}
"""Functions whose names begin as those of refused ones do."""
CLOCK = {"current_date", "today"}
# `age` is volatile only with one argument; the allowlist handles it.
UNMARKED_VOLATILE = {
    "current_localtime",
    "current_localtimestamp",
    "current_timestamp",
    "ago",
    "version",
    "reservoir_quantile",
}
"""Volatile functions that DuckDB marks as consistent, or does not mark because they are macros."""
STABLE = {"error"}
WINDOWS = (
    "row_number rank dense_rank rank_dense ntile percent_rank cume_dist first_value "
    "last_value nth_value lead lag fill".split()
)
SYNTAX = (
    "coalesce nullif if unnest struct_extract list_value grouping grouping_id count_star "
    "unpivot_list".split()
)


def listed_functions() -> list[str]:
    """The lines of the file for the running DuckDB."""
    rows = duckdb.execute(
        "SELECT lower(function_name), function_type, list(DISTINCT stability) FROM "
        "duckdb_functions()"
        " WHERE function_type IN ('scalar', 'aggregate', 'macro') GROUP BY ALL"
    ).fetchall()
    kinds: dict[str, set[str]] = {}
    volatile = set(UNMARKED_VOLATILE)
    for name, kind, stability in rows:
        kinds.setdefault(name, set()).add(kind[0])
        if set(stability) - {"CONSISTENT", None} and name not in STABLE:
            volatile.add(name)
    for letter, names in (("w", WINDOWS), ("g", SYNTAX)):
        for name in names:
            kinds.setdefault(name, set()).add(letter)
    marks = dict.fromkeys(volatile, "volatile") | dict.fromkeys(CLOCK, "clock")
    return [
        f"# DuckDB {duckdb.__version__}: name, kinds, mark. Written by `python -m tests.listed_functions`.",
        *(
            f"{name}\t{''.join(sorted(kinds[name]))}\t{marks.get(name, '-')}"
            for name in sorted(kinds)
            if name in ALLOWED or not function_list.is_denied(name)
        ),
    ]


if __name__ == "__main__":
    FILE.write_text("\n".join(listed_functions()) + "\n", encoding="utf-8")

"""Which functions a statement may call: the committed list of the pinned DuckDB, with what makes a result differ from run to run marked.

`functions.txt` holds one function a line: name, kinds (s scalar, a aggregate, m macro, w window, g sugar of the parser) and a mark:
`-`, `volatile` or `clock`. `python -m jammi_lab.engine.functions` writes it anew; a test compares, so that a new DuckDB shows what it brings.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb

_FILE = Path(__file__).with_name("functions.txt")

# What reads settings, files, sequences, statistics, the catalog, the session or the log, or takes a query as text, or only makes sense inside DuckDB.
_DENIED = re.compile(
    r"""(current|has|pg|inet|__internal|duckdb|pragma|shobj|obj|col)_.* | in_search_path | getvariable | getenv | query | query_table
    | nextval | currval | txid_current | setseed | sleep_ms | write_log | parse_duckdb_log_message | json_(de)?serialize_(sql|plan)
    | json_execute_serialized_sql | user | session_user | get_block_size | stats | vector_type | create_sort_key | finalize | combine
    | format_pg_type | format_type | map_to_pg_oid | variant_bytes_to_variant | variant_to_parquet_variant | variant_normalize | remap_struct
    | icu_sort_key | timetz_byte_comparable | cast_to_type""",
    re.X,
)
_ALLOWED = {"current_date", "current_timestamp", "current_localtime", "current_localtimestamp", "pg_typeof", "pg_size_pretty"}
_CLOCK = {"current_date", "today"}
# DuckDB calls these consistent, or says nothing because they are macros. `age` is volatile with one argument only, which the gate counts.
_MISLABELLED = {"current_localtime", "current_localtimestamp", "current_timestamp", "ago", "version", "reservoir_quantile"}
_STABLE_ALTHOUGH_MARKED = {"error"}
_WINDOWS = "row_number rank dense_rank rank_dense ntile percent_rank cume_dist first_value last_value nth_value lead lag fill".split()
_SUGAR = "coalesce nullif unnest struct_extract list_value grouping grouping_id count_star unpivot_list".split()

# What the binder makes of these words when no column has the name. They arrive as column references.
VALUE_WORDS = {
    "current_date": "clock",
    "current_timestamp": "volatile",
    "current_time": "volatile",
    "localtime": "volatile",
    "localtimestamp": "volatile",
    "current_catalog": "refused",
    "current_role": "refused",
    "current_schema": "refused",
    "current_user": "refused",
    "session_user": "refused",
    "user": "refused",
}

# Aggregates whose value does not depend on the order of the rows (floating-point rounding apart).
ORDER_FREE = frozenset(
    """approx_count_distinct avg bit_and bit_or bit_xor bitstring_agg bool_and bool_or corr count count_if count_star countif covar_pop
    covar_samp entropy favg fsum grouping grouping_id histogram histogram_exact kahan_sum kurtosis kurtosis_pop mad max mean median min
    product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    sem skewness stddev stddev_pop stddev_samp sum sum_no_overflow sumkahan var_pop var_samp variance geomean geometric_mean weighted_avg
    wavg""".split()
)


@dataclass(frozen=True, slots=True)
class Function:
    """One line of the list."""

    name: str
    kinds: str
    mark: str


@functools.cache
def allowed() -> dict[str, Function]:
    """The functions that a statement may call, by lower-case name."""
    lines = (line.split("\t") for line in _FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return {name: Function(name, kinds, mark) for name, kinds, mark in lines}


@functools.cache
def aggregates() -> frozenset[str]:
    """Names of the aggregates, macros over aggregates included."""
    folding = {"json_group_array", "json_group_object", "json_group_structure", "geomean", "geometric_mean", "weighted_avg", "wavg"}
    return frozenset(f.name for f in allowed().values() if "a" in f.kinds or f.name in folding)


def is_window(name: str) -> bool:
    """Whether a function is nothing without OVER."""
    return name.lower() in _WINDOWS


def exists(name: str) -> bool:
    """Whether DuckDB itself has a function of that name, which the list then leaves out on purpose."""
    return bool(_DENIED.fullmatch(name))


def named() -> list[str]:
    """The functions whose names are words, sorted: for completion and near names."""
    return sorted(name for name in allowed() if name.isidentifier() and not name.startswith("icu_collate"))


def derive(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The lines of `functions.txt` as the running DuckDB would have them."""
    rows = connection.execute(
        "SELECT lower(function_name), function_type, list(DISTINCT stability) FROM duckdb_functions()"
        " WHERE function_type IN ('scalar', 'aggregate', 'macro') GROUP BY ALL"
    ).fetchall()
    kinds: dict[str, set[str]] = {}
    shaky: set[str] = set()
    for name, kind, stability in rows:
        kinds.setdefault(name, set()).add(kind[0])
        if set(stability) - {"CONSISTENT", None}:
            shaky.add(name)
    for letter, names in (("w", _WINDOWS), ("g", _SUGAR)):
        for name in names:
            kinds.setdefault(name, set()).add(letter)
    lines = [f"# DuckDB {duckdb.__version__}: name, kinds, mark. Written by `python -m jammi_lab.engine.functions`."]
    kept = (name for name in sorted(kinds) if name in _ALLOWED or not _DENIED.fullmatch(name))
    return lines + [f"{name}\t{''.join(sorted(kinds[name]))}\t{_mark(name, shaky)}" for name in kept]


def _mark(name: str, shaky: set[str]) -> str:
    if name in _CLOCK:
        return "clock"
    return "volatile" if name in _MISLABELLED or name in shaky - _STABLE_ALTHOUGH_MARKED else "-"


if __name__ == "__main__":
    _FILE.write_text("\n".join(derive(duckdb.connect())) + "\n", encoding="utf-8")

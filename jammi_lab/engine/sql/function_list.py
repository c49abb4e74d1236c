"""The functions that a statement may call: the committed list for the pinned DuckDB, with
non-deterministic functions marked.

`functions.txt` has one function per line: name, kinds (s scalar, a aggregate, m macro, w window, g
parser syntax) and a mark: `-`, `volatile` or `clock`. `python -m tests.listed_functions`
regenerates it. A test compares it with the running DuckDB, so that an upgrade shows new functions.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("functions.txt")

# Functions that read settings, files, sequences, statistics, the catalog, the session or the log,
# that take a query as text, or that are internal to DuckDB.
_DENIED_FUNCTIONS = re.compile(
    r"""
    (current|has|pg|inet|__internal|duckdb|pragma|shobj|obj|col)_.* | in_search_path | getvariable |
    getenv | query | query_table | nextval | currval | txid_current | setseed | sleep_ms | write_log
    | parse_duckdb_log_message | json_(de)?serialize_(sql|plan) | json_execute_serialized_sql | user
    | session_user | get_block_size | stats | vector_type | create_sort_key | finalize | combine |
    format_pg_type | format_type | map_to_pg_oid | variant_bytes_to_variant |
    variant_to_parquet_variant | variant_normalize | remap_struct | icu_sort_key |
    timetz_byte_comparable | cast_to_type
    """,
    re.X,
)
ZONED_TIME = "TIME WITH TIME ZONE"
"""A type whose values have no date: the offset of a time zone is that of today."""
# Words that the binder treats as functions unless a column has the name. In the syntax tree they
# are column references.
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

# Aggregates whose value does not depend on row order, except for floating-point rounding.
ORDER_INDEPENDENT_AGGREGATES = frozenset(
    """
    approx_count_distinct avg bit_and bit_or bit_xor bitstring_agg bool_and bool_or corr count
    count_if count_star countif covar_pop covar_samp entropy favg fsum grouping grouping_id
    histogram histogram_exact kahan_sum kurtosis kurtosis_pop mad max mean median min product
    quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2
    regr_slope regr_sxx regr_sxy regr_syy sem skewness stddev stddev_pop stddev_samp sum
    sum_no_overflow sumkahan var_pop var_samp variance geomean geometric_mean weighted_avg wavg
    vector_max vector_mean vector_sum
    """.split()
)

_FOLDED_VECTORS = (
    "list_reduce(list_transform(list(v ORDER BY v) FILTER (v IS NOT NULL), lambda x: x::DOUBLE[]),"
    " lambda a, b: list_transform(list_zip(a, b), lambda p: {}))"
)
_VECTOR_CHECKS = (
    "WHEN NOT regexp_matches(typeof(any_value(v)), '^(FLOAT|DOUBLE)\\[') THEN"
    " error('The vectors of {name} must be FLOAT[n], got ' || typeof(any_value(v))"
    " || '; cast them: v::FLOAT[n]')"
    " WHEN min(len(v::DOUBLE[])) < max(len(v::DOUBLE[])) THEN"
    " error('The vectors of {name} must have one width, got ' || min(len(v::DOUBLE[])) || ' and '"
    " || max(len(v::DOUBLE[])))"
)
"""The result has the type of the vectors: whole numbers would be rounded."""
VECTOR_AGGREGATES = {
    name: (
        f"CREATE MACRO {name}(v) AS cast_to_type(CASE {_VECTOR_CHECKS.format(name=name)}"
        f" ELSE {body} END, any_value(v))"
    )
    for name, body in {
        "vector_max": _FOLDED_VECTORS.format("greatest(p[1], p[2])"),
        "vector_mean": (
            f"list_transform({_FOLDED_VECTORS.format('p[1] + p[2]')}, lambda s: s / count(v))"
        ),
        "vector_sum": _FOLDED_VECTORS.format("p[1] + p[2]"),
    }.items()
}
"""Macros over aggregates of FLOAT[n], by name: element-wise, in float64, NULL left out. Vectors are
added in ascending order, so that the order of the rows has no effect."""


@dataclass(frozen=True, slots=True)
class Function:
    """One line of the list."""

    name: str
    kinds: str
    mark: str


@functools.cache
def allowed_functions() -> dict[str, Function]:
    """The functions that a statement may call, by lower-case name."""
    lines = (
        line.split("\t")
        for line in _FILE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    functions = {name: Function(name, kinds, mark) for name, kinds, mark in lines}
    return functions | {name: Function(name, "m", "-") for name in VECTOR_AGGREGATES}


@functools.cache
def aggregate_names() -> frozenset[str]:
    """The names of all aggregates, including macros over aggregates."""
    macros = {
        "json_group_array",
        "json_group_object",
        "json_group_structure",
        "geomean",
        "geometric_mean",
        "weighted_avg",
        "wavg",
        *VECTOR_AGGREGATES,
    }
    return frozenset(
        f.name for f in allowed_functions().values() if "a" in f.kinds or f.name in macros
    )


def is_window(name: str) -> bool:
    """Whether a function requires OVER."""
    function = allowed_functions().get(name.lower())
    return function is not None and "w" in function.kinds


def is_denied(name: str) -> bool:
    """Whether DuckDB has a function of that name that the list excludes on purpose."""
    return bool(_DENIED_FUNCTIONS.fullmatch(name))


def function_names() -> list[str]:
    """The functions whose names are identifiers (not operators), sorted, for completion and near
    names."""
    return sorted(
        name
        for name in allowed_functions()
        if name.isidentifier() and not name.startswith("icu_collate")
    )

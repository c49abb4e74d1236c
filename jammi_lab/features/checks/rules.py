"""Rules about the rows of a table, for `ws.checks.add`: one class each, which becomes a SELECT of
the rows that break it, with its values bound as parameters. `jammi_lab.checks` lists them."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from jammi_lab.core.argument_suggestions import answer_arguments
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import quote_identifier, sql_literal


class Rule:
    """A rule about the rows of one table."""

    _rows: tuple[str, str] = ("SELECT * FROM ", " WHERE ")
    """The SELECT of the rows that break it, before and after the name of the table."""

    def __init__(self, words: str, breaks: str, params: Mapping[str, Any] | None = None) -> None:
        """`words`: the rule in words; `breaks`: the SQL condition that is true of the rows that
        break it; `params`: the values of its `$names`."""
        self.words, self.breaks, self.params = words, breaks, dict(params or {})

    def __init_subclass__(cls) -> None:
        cls.__init__ = answer_arguments(cls.__init__)  # type: ignore[method-assign]

    def statement(self, table: str) -> str:
        """The SELECT of the rows of a table, named as in FROM, that break the rule."""
        return table.join(self._rows) + self.breaks

    def __repr__(self) -> str:
        return self.words


class Unique(Rule):
    """No two rows have equal values in these columns. Rows with a NULL among them are not
    compared."""

    def __init__(self, *columns: str) -> None:
        """`columns`: at least one."""
        quoted = quoted_columns(*columns)
        is_set = " AND ".join(f"{column} IS NOT NULL" for column in quoted)
        super().__init__(
            f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are together'} unique",
            f"{is_set} QUALIFY count(*) OVER (PARTITION BY {', '.join(quoted)}) > 1",
        )


class NotNull(Rule):
    """None of these columns is NULL in any row."""

    def __init__(self, *columns: str) -> None:
        """`columns`: at least one."""
        is_null = " OR ".join(f"{column} IS NULL" for column in quoted_columns(*columns))
        super().__init__(f"{', '.join(columns)} is never NULL", is_null)


class Between(Rule):
    """The column is from `low` to `high`, both included; None leaves a side open. NULL passes."""

    def __init__(self, column: str, low: Any = None, high: Any = None) -> None:
        """`low`, `high`: values of the column's type; at least one."""
        [quoted] = quoted_columns(column)
        words = f"{column} is {_range_words(low, high)}"
        super().__init__(words, *_range_violation(quoted, low, high))


class Accepted(Rule):
    """The column has one of these values. NULL passes."""

    def __init__(self, column: str, values: Sequence[Any]) -> None:
        """`values`: of the column's type; None among them means nothing."""
        is_list = isinstance(values, Iterable) and not isinstance(values, str)
        accepted = [v for v in values if v is not None] if is_list else []
        if not accepted:
            raise InvalidArgument(
                "values must be a list of the accepted values.",
                hint=f'jl.checks.accepted({column!r}, ["a", "b"])',
            )
        params = {f"value_{number}": _exact(value) for number, value in enumerate(accepted, 1)}
        names = ", ".join(f"${name}" for name in params)
        super().__init__(
            f"{column} is one of {', '.join(map(repr, accepted))}",
            f"{_comparable(column, accepted)} NOT IN ({names})",
            params,
        )


class References(Rule):
    """Each value of the column occurs in a column of another table. NULL passes."""

    _rows = ("SELECT __checked.* FROM ", " AS __checked WHERE ")

    def __init__(self, column: str, table: str, other_column: str | None = None) -> None:
        """`table`: a name as in FROM: "jammi.customers"; `other_column`: by default the one of the
        same name."""
        other = column if other_column is None else other_column
        [quoted, quoted_other] = quoted_columns(column, other)
        super().__init__(
            f"{column} occurs in {table}.{other}",
            f"__checked.{quoted} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {table} AS __other "
            f"WHERE __other.{quoted_other} = __checked.{quoted})",
        )


class RowCount(Rule):
    """The table has at least `min` and at most `max` rows, and their number differs from that of
    the version before by at most a share of it; None asks for nothing."""

    _rows = ("SELECT row_count FROM (SELECT count(*) AS row_count FROM ", ") WHERE ")

    def __init__(
        self, min: int | None = None, max: int | None = None, change: float | None = None
    ) -> None:
        """At least one. `change`: as `rel` of `Drift`; passes where the version before has no
        rows."""
        for bound in (min, max):
            if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
                raise InvalidArgument(f"A number of rows must be an integer, got {bound!r}.")
        words, breaks, params = list[str](), list[str](), dict[str, Any]()
        if change is None or min is not None or max is not None:
            bounds = _range_words(min, max)
            words.append(f"the table has {bounds} {'row' if bounds.endswith(' 1') else 'rows'}")
            condition, params = _range_violation("row_count", min, max)
            breaks.append(condition)
        if change is not None:
            words.append(f"the number of rows changes by at most {_share(change) * 100:.15g} %")
            before = "(SELECT count(*) FROM previous)"
            breaks.append(f"{before} > 0 AND {_beyond('row_count', before)}")
            params["share"] = _share(change)
        super().__init__(" and ".join(words), " OR ".join(breaks), params)


class Drift(Rule):
    """The mean of a column of numbers differs from that of the version before by at most a share
    of it. NULL does not count; without values before, the first version among them, it passes."""

    def __init__(self, column: str, rel: float = 0.1) -> None:
        """`rel`: the share, a finite number from 0: 0.1 is ten per cent."""
        number = _unless_text(column, "a mean is one of numbers", "{}::DOUBLE")
        before = f"(SELECT avg({number}) FROM previous)"
        self._rows = (
            f"SELECT mean, {before} AS before FROM (SELECT avg({number}) AS mean FROM ",
            ") WHERE ",
        )
        super().__init__(
            f"the mean of {column} changes by at most {_share(rel) * 100:.15g} %",
            f"{before} IS NOT NULL AND (mean IS NULL OR {_beyond('mean', before)})",
            {"share": _share(rel)},
        )


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidArgument(f"A share must be a finite number from 0, got {value!r}.")
    return float(value)


def _beyond(now: str, before: str) -> str:
    return f"abs({now} - {before}) > $share * abs({before})"


def _range_violation(expression: str, low: Any, high: Any) -> tuple[str, dict[str, Any]]:
    if low is None and high is None:
        raise InvalidArgument("A range needs a lower or an upper bound.")
    with contextlib.suppress(TypeError):  # values that Python does not compare, the engine may
        if low is not None and high is not None and low > high:
            raise InvalidArgument(f"The lower bound {low} is above the upper bound {high}.")
    bounds = (("low", low), ("high", high))
    params = {name: _exact(bound) for name, bound in bounds if bound is not None}
    comparisons = {"low": f"{expression} < $low", "high": f"{expression} > $high"}
    return " OR ".join(comparisons[name] for name in params), params


def _comparable(column: str, values: Sequence[Any]) -> str:
    """The column, to be looked up among these values. DuckDB would look up a text among numbers as
    a number, and '1' and '01' are one number."""
    [quoted] = quoted_columns(column)
    if not any(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values):
        return quoted
    return _unless_text(column, "give the accepted values as texts", "{}")


def _unless_text(column: str, advice: str, expression: str) -> str:
    """An expression of a column, `{}` in it; for a column of texts an error with advice."""
    [quoted] = quoted_columns(column)
    refusal = f"error({sql_literal(f'the column {column} is VARCHAR: {advice}')})"
    is_text = f"typeof({quoted}) = 'VARCHAR'"
    return f"CASE WHEN {is_text} THEN {refusal} ELSE {expression.format(quoted)} END"


def _exact(value: Any) -> Any:
    """A whole number as an integer: DuckDB compares large integers with a DOUBLE by the nearest
    DOUBLE."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _MAX_INTEGER
    return int(value) if is_whole else value


_MAX_INTEGER = 2.0**127
"""The limit of DuckDB's integers."""


def _range_words(low: Any, high: Any) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"


def quoted_columns(*columns: str) -> list[str]:
    """Names of columns, quoted for SQL. InvalidArgument for what is none."""
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise InvalidArgument('A rule needs the names of its columns, as strings: "a", "b".')
    return [quote_identifier(column) for column in columns]

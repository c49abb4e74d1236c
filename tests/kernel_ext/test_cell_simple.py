"""The names of frequent statements, found by the short way, against the analysis of any
statement."""

import ast
import random
import types
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from jammi_kernel_ext.cell_names import names_of
from jammi_kernel_ext.cell_simple import simple_names
from tests.kernel_ext.second_attacks import SECOND
from tests.kernel_ext.test_frames_attacked import ATTACKS, HARMLESS
from tests.stateful.notebooks import CELLS, NAMES

FREQUENT = (
    "a = df.assign(n=df.x * 2)",
    "a = df[df.x > n]",
    "a = df.groupby('id', as_index=False).x.sum().reset_index()",
    "a = df.merge(other, on='id', how='left')",
    "df = df.rename(columns={'x': 'y'})",
    "df.head(3)",
    "df",
    "a = (df.x - df.x.mean()) / df['x'].std()",
    "a = df.loc[df.x > 0, ['id', 'x']]",
    "a = pd.concat([df, other])",
    "a = np.log1p(df.x)",
    "a = float(df.x.sum())",
    "a = len(df)",
    "a = df[-n:]",
    "a = df.x > 0 and not n",
)
LEFT = (
    "df['x'] = 1",
    "a = b = df",
    "a, b = df, other",
    "a += df",
    "del df",
    "a = df.apply(lambda s: s)",
    "a = df.apply(change)",
    "a = df.apply([change])",
    "a = df.pop('x')",
    "a = df.apply(df.pop)",
    "a = df.query('x > @n')",
    "a = df.assign('x > n')",
    "a = df.assign(x='x > n')",
    "a = df.to_csv('a.csv')",
    "a = df.fillna(0, inplace=True)",
    "a = df.astype(float, copy=False)",
    "a = np.add(df.x, 1, array)",
    "a = np.add(df.x, df.x, out=array)",
    "a = np.random.rand(2)",
    "a = np.put(array)",
    "a = pd.read_csv('a.csv')",
    "a = thing.x",
    "a = df + thing",
    "a = rows.append(df)",
    "a = open('a.csv')",
    "a = eval('df')",
    "a = exec",
    "a = df.__dict__",
    "a = random.random()",
    "a = text.join(rows)",
    "a = [d for d in rows]",
    "a = (b := df)",
    "a = df.pipe(**options)",
    "a = df.pipe(*rows)",
    "a = missing.x",
    "a = change(df)",
    "a = df if n else other",
    "a = f'{df}'",
    "a = patch.x",
    "a = df.query(text)",
    "a = df.solve(overwrite_a=True)",
    "a = generators.rand(2)",
    "a = patched.helper(df)",
    "a = vars(df)",
    "a = open(n)",
    "a = min(df)",
    "a = mock.concat(rows)",
    "a = likeness.x",
)
OTHERS = (
    "a = df.x.str.contains('a', regex=False)",
    "a = df.filter(pl.col('x') > n)",
    "a = df.x[rows]",
    "a = df.set_index('id').x.to_dict()",
    "a = polars.with_columns(polars['x'])",
    "a = df.register('x')",
    "a = pd.options.display.max_rows",
    "a = array.sum(0)",
    "a = df.set_option(n)",
    "a = df.x.map({'a': n, 'b': df.x})",
    "a = thing(df).x",
    "a = max(df.x, key=change)",
    "print(df, file=thing)",
)


class Thing:
    """An object of the notebook."""


def _change(frame: Any) -> Any:
    return frame


def _patched() -> types.ModuleType:
    """A library for data to which the notebook added a function."""
    library = types.ModuleType("pandas")
    vars(library)["helper"] = _change
    return library


Thing.__module__ = _change.__module__ = "__main__"
VALUES: dict[str, Any] = {
    "df": pd.DataFrame({"id": [1], "x": [1.0]}),
    "other": pd.DataFrame({"id": [1], "x": [2.0]}),
    "polars": pl.DataFrame({"x": [1]}),
    "array": np.zeros(2),
    "n": 1.0,
    "text": "a b",
    "rows": [1],
    "options": {},
    "pd": pd,
    "np": np,
    "pl": pl,
    "random": random,
    "thing": Thing(),
    "Thing": Thing,
    "change": _change,
    "generators": np.random,
    "patched": _patched(),
    "min": _change,
    "mock": pd,
    "likeness": type("ndarray", (), {"__module__": "__main__"})(),
    "patch": pd.DataFrame({"x": [1]}),
}


def _statement(text: str) -> ast.stmt:
    return ast.parse(text).body[0]


@pytest.mark.parametrize("text", FREQUENT)
def test_a_frequent_statement_is_analysed_by_the_short_way(text: str) -> None:
    assert simple_names(_statement(text), VALUES) is not None


@pytest.mark.parametrize("text", LEFT)
def test_a_statement_with_effects_is_left_to_the_analysis_of_all(text: str) -> None:
    assert simple_names(_statement(text), VALUES) is None


def test_both_ways_find_the_same_names() -> None:
    cells = [cell for _, cells in ATTACKS.values() for cell in cells]
    cells += [cell for cells in (*SECOND.values(), *HARMLESS.values()) for cell in cells]
    cells += [cell.format(x="df", y="other", z="a", k="p", i=0) for cell in CELLS]
    cells += [*FREQUENT, *LEFT, *OTHERS]
    values = VALUES | dict.fromkeys((*NAMES, "po", "box"), VALUES["df"])
    compared = 0
    for statement in (each for cell in cells for each in ast.parse(cell).body):
        if (short := simple_names(statement, values)) is not None:
            assert short == names_of([statement], values), ast.unparse(statement)
            compared += 1
    assert compared > 100

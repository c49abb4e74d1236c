"""Recipes as values: the inputs and settings of a table, without its name.

`ws.define(name, recipe)` stores a recipe, `ws.materialize(name, recipe)` runs it. Each verb of a
workspace (`ws.embed`, `ws.neighbor_graph` …) runs one of these values. A `table` is a name or a
ResultTable; a string may also be SQL where the field's documentation mentions it.
"""

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.errors import InvalidArgument

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.steps.step_functions import StepFunction
    from jammi_lab.workspace.result_table import ResultTable

Analyzer = Literal["english", "simple", "exact"]
"""How texts become terms."""
Precision = Literal["bf16", "f32", "f16", "i8"]
"""How an index stores vectors; the table itself has them in float32."""
Cache = Literal["use", "bypass"]
"""Whether an equal ready table is used, or computed again."""
Refresh = Literal["no", "inputs"]
"""Whether inputs that are not up to date are recomputed first."""


class RecipeForm:
    """What all recipe values have: their fields as a dict, and a sentence."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists, strings and numbers, with the class in snake_case under
        `kind`. Tables, functions and models are their names."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return {"kind": name} | {
            each.name: _to_plain(getattr(self, each.name)) for each in _fields_of(self)
        }

    def __str__(self) -> str:
        """What it computes, and the fields that differ from their defaults."""
        purpose = (type(self).__doc__ or "").split(".")[0].replace("`", "")
        settings = [
            f"{each.name} {_to_plain(getattr(self, each.name))!r}"
            for each in _fields_of(self)
            if getattr(self, each.name) is not each.default
            and getattr(self, each.name) != each.default
        ]
        return f"{purpose}: {', '.join(settings)}."


def _fields_of(value: Any) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(value)


def _to_plain(value: Any) -> Any:
    """A field as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    for attribute in ("name", "__qualname__"):  # a table, a model; a function
        name = getattr(value, attribute, None)
        if isinstance(name, str):
            return name
    return str(value)


@dataclass(frozen=True)
class Sql(RecipeForm):
    """The rows of a SELECT statement."""

    text: str
    """The statement."""
    params: Mapping[str, Any] | None = None
    """Values of `$name` in the statement; they are bound, never pasted."""
    key: str | Sequence[str] | None = None
    """Columns that identify a row; checked."""


@dataclass(frozen=True)
class Embedding(RecipeForm):
    """The vectors of the texts of a source, table or SQL."""

    source: str
    """The source, table or SQL that holds the texts."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    text: str | Sequence[str]
    """The columns that are embedded."""
    model: Any = "minilm"
    """A registered name, an encoder, or a sentence-transformers model."""
    precision: Precision = "bf16"
    """How the index stores the vectors; no part of the definition."""
    index: Literal["now", "later"] = "now"
    """Whether to wait for the index; no part of the definition."""
    where: str | None = None
    """A condition that rows must satisfy."""


@dataclass(frozen=True)
class Lexical(RecipeForm):
    """The words of the texts of a source, table or SQL."""

    source: str
    """The source, table or SQL that holds the texts."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    text: str | Sequence[str]
    """The columns whose words are searched."""
    analyzer: Analyzer = "english"
    """English words as stems, words in lower case, or tokens as written."""
    where: str | None = None
    """A condition that rows must satisfy."""


@dataclass(frozen=True)
class NeighborGraph(RecipeForm):
    """The `k` most similar rows of each row of an embedding table."""

    table: "str | ResultTable"
    """The embedding table."""
    _: KW_ONLY
    k: int = 10
    """Edges for each row."""
    min_similarity: float | None = None
    """The minimum similarity of an edge."""
    mutual: bool = False
    """Keep an edge only if its reverse is one of the `k` edges of the other row."""
    exact: bool | None = None
    """True compares all pairs, False queries the index, None decides by the number of rows."""


@dataclass(frozen=True)
class Propagation(RecipeForm):
    """The vectors of an embedding table mixed with those of their neighbours."""

    table: "str | ResultTable"
    """The embedding table."""
    edges: "str | ResultTable"
    """A table, source or SQL with the columns src, dst and, where weighted, similarity."""
    _: KW_ONLY
    hops: int = 2
    """From 1 to 3."""
    alpha: float = 0.1
    """The weight of a row's original vector in each hop."""
    direction: Literal["out", "in", "both"] = "out"
    """Which edges of a row lead to its neighbours."""
    weighting: Literal["uniform", "similarity"] = "uniform"
    """How neighbours are averaged."""
    output: Literal["final", "concat"] = "final"
    """The vectors of the last hop, or those of all hops side by side."""


@dataclass(frozen=True)
class ContextSet(RecipeForm):
    """One vector for each target, pooled from those of its members."""

    table: "str | ResultTable"
    """The embedding table."""
    _: KW_ONLY
    members: "str | ResultTable"
    """A table, source or SQL with the columns target and member."""
    pool: Literal["mean", "sum", "max"] = "mean"
    """How vectors are pooled."""


@dataclass(frozen=True)
class Projection(RecipeForm):
    """The rows of an embedding table as points of a plane."""

    table: "str | ResultTable"
    """The embedding table."""
    _: KW_ONLY
    method: Literal["pca", "tsne"] = "pca"
    """The projection method."""
    perplexity: float = 30.0
    """Of t-SNE: about how many neighbours a point has."""
    seed: int = 0
    """Random seed of t-SNE."""


@dataclass(frozen=True)
class AsofJoin(RecipeForm):
    """Each row of a spine with the facts that were known at its time."""

    spine: "str | ResultTable"
    """A table, source or SQL; all of its rows stay."""
    facts: "str | ResultTable"
    """A table, source or SQL."""
    _: KW_ONLY
    spine_time: str
    """The column of times in the spine."""
    facts_time: str
    """The column of times in the facts."""
    by: str | Sequence[str | tuple[str, str]] = ()
    """Columns that must be equal: common names or (spine, facts) pairs."""
    direction: Literal["backward", "forward", "nearest"] = "backward"
    """In which direction from the spine's time a fact is searched."""
    boundary: Literal["inclusive", "exclusive"] = "inclusive"
    """Whether a fact of the very same time counts."""
    tolerance: datetime.timedelta | int | None = None
    """The maximum distance in time."""
    tie_break: str | None = None
    """The column whose greatest value decides among facts of one time."""
    project: str | Sequence[str] | None = None
    """The columns of the facts; all but `by` when None."""


@dataclass(frozen=True)
class PythonStep(RecipeForm):
    """The rows that a Python function returns."""

    function: "Callable[..., Any] | StepFunction | str"
    """Takes a Result for each input and `params` as keywords; returns a frame, a list of dicts, or
    an iterator of these. As text: the name of a producer of an installed package."""
    _: KW_ONLY
    inputs: str | Sequence[str] = ()
    """Sources, tables or SQL."""
    params: Mapping[str, Any] | None = None
    """Keyword arguments of the function."""
    version: str | None = None
    """The definition; that of the function's source when None."""
    key: str | Sequence[str] | None = None
    """Columns that identify a row; checked."""


@dataclass(frozen=True)
class RowMap(RecipeForm):
    """What a Python function returns for each row of a source, table or SQL."""

    function: "Callable[..., Any] | StepFunction | str"
    """Takes the values of a row as keywords, or with `batch` above 1 an Arrow table of rows;
    returns a dict or one value, for a table a frame of as many rows. May be a coroutine
    function."""
    over: str
    """The source, table or SQL."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    inputs: str | Sequence[str]
    """The columns that the function receives."""
    schema: "pa.Schema | Mapping[str, Any] | None" = None
    """The outputs, as columns and types; from the values when None."""
    params: Mapping[str, Any] | None = None
    """Further keyword arguments of the function."""
    version: str | None = None
    """The definition; that of the function's source when None."""
    batch: int = 1
    """Rows of one call at most; no part of the definition beyond 1."""
    concurrency: int = 1
    """Calls at a time; no part of the definition."""
    on_error: Literal["raise", "record"] = "raise"
    """Whether an exception of the function ends the run, or goes to the column `_error`."""
    cost: float | None = None
    """The cost of one call, for plans; no part of the definition."""


RecipeValue = (
    Sql
    | Embedding
    | Lexical
    | NeighborGraph
    | Propagation
    | ContextSet
    | Projection
    | AsofJoin
    | PythonStep
    | RowMap
)


def as_recipe(
    recipe: str | RecipeValue, params: Mapping[str, Any] | None, key: str | Sequence[str] | None
) -> RecipeValue:
    """The recipe value of an argument; a string is SQL. InvalidArgument for other types, and for
    `params` or `key` together with a value, which has its own."""
    if isinstance(recipe, str):
        return Sql(recipe, params, key)
    if not isinstance(recipe, RecipeValue):
        raise InvalidArgument(
            "recipe must be a SQL string or a value such as jl.Embedding(…), got "
            f"{type(recipe).__name__}.",
            hint="ws.compute(name, function, inputs=…) runs a function."
            if callable(recipe)
            else "ws.register(name, frame, producer=…) stores a frame.",
        )
    if params is not None or key is not None:
        raise InvalidArgument(
            f"params= and key= apply to a SQL string only, not to a {type(recipe).__name__}.",
            hint=f"Pass them to jl.{type(recipe).__name__}(…) if it accepts them.",
        )
    return recipe

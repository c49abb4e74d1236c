"""Recipes as values: the inputs and settings of a table, without its name.

`ws.define(name, recipe)` stores a recipe, `ws.materialize(name, recipe)` runs it. Each verb of a
workspace (`ws.embed`, `ws.neighbor_graph` …) runs one of these values. A `table` is a name or a
ResultTable; a string may also be SQL where the field's documentation mentions it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.recipes import RecipeValue
from jammi_lab.features.asof.asof_join import AsofJoin
from jammi_lab.features.vectors.context_set import ContextSet
from jammi_lab.features.vectors.imported import Imported
from jammi_lab.features.vectors.neighbor_graph import NeighborGraph
from jammi_lab.features.vectors.projection import Projection
from jammi_lab.features.vectors.propagation import Propagation
from jammi_lab.steps.external import External
from jammi_lab.steps.python import PythonStep
from jammi_lab.steps.sql import Sql

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.steps.step_functions import StepFunction

Analyzer = Literal["english", "simple", "exact"]
"""How texts become terms."""
Precision = Literal["bf16", "f32", "f16", "i8"]
"""How an index stores vectors; the table itself has them in float32."""
Cache = Literal["use", "bypass"]
"""Whether an equal ready table is used, or computed again."""
Refresh = Literal["no", "inputs"]
"""Whether inputs that are not up to date are recomputed first."""


@dataclass(frozen=True)
class Embedding(RecipeValue):
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
class Lexical(RecipeValue):
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
class RowMap(RecipeValue):
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


RECIPES: tuple[type[RecipeValue], ...] = (
    Sql,
    PythonStep,
    External,
    Imported,
    NeighborGraph,
    Propagation,
    ContextSet,
    Projection,
    AsofJoin,
)
"""The classes of recipes. A new kind of table is one class and one line here."""


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

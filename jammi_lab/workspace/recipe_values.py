"""Recipes as values: the inputs and settings of a table, without its name.

`ws.define(name, recipe)` stores a recipe, `ws.materialize(name, recipe)` runs it. Each verb of a
workspace (`ws.embed`, `ws.neighbor_graph` …) runs one of these values. A `table` is a name or a
ResultTable; a string may also be SQL where the field's documentation mentions it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.features.asof.asof_join import AsofJoin
from jammi_lab.features.rows.row_map import RowMap
from jammi_lab.features.vectors.context_set import ContextSet
from jammi_lab.features.vectors.embedding import Embedding
from jammi_lab.features.vectors.imported import Imported
from jammi_lab.features.vectors.neighbor_graph import NeighborGraph
from jammi_lab.features.vectors.projection import Projection
from jammi_lab.features.vectors.propagation import Propagation
from jammi_lab.features.words.lexical import Lexical
from jammi_lab.steps.external import External
from jammi_lab.steps.python import PythonStep
from jammi_lab.steps.recipe import Producer
from jammi_lab.steps.sql import Sql

if TYPE_CHECKING:
    pass

Cache = Literal["use", "bypass"]
"""Whether an equal ready table is used, or computed again."""
Refresh = Literal["no", "inputs"]
"""Whether inputs that are not up to date are recomputed first."""


RECIPES: tuple[type[Producer], ...] = (
    Sql,
    PythonStep,
    External,
    Imported,
    NeighborGraph,
    Propagation,
    ContextSet,
    Projection,
    AsofJoin,
    Embedding,
    Lexical,
    RowMap,
)
"""The classes of recipes. A new kind of table is one class and one line here."""


def as_recipe(
    recipe: str | Producer, params: Mapping[str, Any] | None, key: str | Sequence[str] | None
) -> Producer:
    """The recipe value of an argument; a string is SQL. InvalidArgument for other types, and for
    `params` or `key` together with a value, which has its own."""
    if isinstance(recipe, str):
        return Sql(recipe, params, key)
    if not isinstance(recipe, Producer):
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

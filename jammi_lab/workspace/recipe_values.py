"""Recipes as values: the inputs and settings of a table, without its name.

`ws.define(name, recipe)` stores a recipe, `ws.materialize(name, recipe)` runs it. Each verb of a
workspace (`ws.embed`, `ws.neighbor_graph` …) runs one of these values. A `table` is a name or a
ResultTable; a string may also be SQL where the field's documentation mentions it.
"""

from typing import Literal

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
from jammi_lab.steps.recipe import RunnableRecipe
from jammi_lab.steps.sql import Sql

Cache = Literal["use", "bypass"]
"""Whether an equal ready table is used, or computed again."""
Refresh = Literal["no", "inputs"]
"""Whether inputs that are not up to date are recomputed first."""


RECIPES: tuple[type[RunnableRecipe], ...] = (
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

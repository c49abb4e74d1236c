"""Models as lineage nodes: which tables were embedded by which model.

A model is not an input: it is part of a table's definition, and the table's record names it. Its
edges are therefore computed on request, also for tables that existed before this feature.
"""

from collections.abc import Iterable, Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.lineage import Link, ModelUse, Node
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.recipes import recipe_class
from jammi_lab.core.records import Edge

MODEL_KIND = "model"
"""The kind of model nodes and of the edges that leave them."""


def model_uses(
    catalog: Catalog, models: Iterable[str] | None = None, recipes: Iterable[str] | None = None
) -> list[ModelUse]:
    """The newest versions that were embedded by one of `models` (None: any), each with the model's
    name as registered, else as recorded.

    For imported vectors the model is known only if one of that name is registered. `recipes`: of
    these folded names only, with shared recipes that a tenant's own recipe hides.
    """
    registered_names = {fold(model.name): model.name for model in catalog.models.list()}
    wanted_names = None if models is None else {fold(name) for name in models}
    recorded_names: dict[str, str] = {}
    matches = []
    for use in catalog.lineage.uses(recipes):
        folded_model = fold(use.model)
        if recipe_class(use.kind).resupply_hint and folded_model not in registered_names:
            continue
        if wanted_names is None or folded_model in wanted_names:
            matches.append(
                use.with_values(
                    model=registered_names.get(folded_model)
                    or recorded_names.setdefault(folded_model, use.model)
                )
            )
    return matches


def canonical_model_name(catalog: Catalog, name: str) -> str | None:
    """A model's name in its canonical spelling; None when it is neither registered nor used by a
    newest version."""
    if (model := catalog.models.get(name)) is not None:
        return model.name
    return next((use.model for use in model_uses(catalog, [name])), None)


def upstream_model_edges(
    catalog: Catalog, name: str, links: Sequence[Link], depth: int | None
) -> list[Edge]:
    """The edges from the models of a table and of its upstream tables (`links`), at most `depth`
    hops away."""
    starts, exact = catalog.lineage.nodes_named(name)
    hops: dict[Node, int] = dict.fromkeys(starts, 0)
    for link in links:
        hops.setdefault(link.source, link.depth)
    nearby = {node for node, hop in hops.items() if depth is None or hop < depth}
    if exact is not None:  # an old version may have another model than the newest one
        nearby -= starts
    recipes = {name_fold for kind, name_fold, _, _ in nearby if input_kind(kind).is_result}
    uses = model_uses(catalog, recipes=recipes)
    edges = [to_edge(use) for use in uses if use.node in nearby]
    return edges if exact is None else [*_edges_of_table(catalog, exact), *edges]


def _edges_of_table(catalog: Catalog, table_name: str) -> list[Edge]:
    record = catalog.result_tables.get(table_name)
    if record is None or not record.recipe_class.has_encoder or record.model_id is None:
        return []
    return [
        Edge(
            input=canonical_model_name(catalog, record.model_id) or record.model_id,
            derived=record.table_name,
            kind=MODEL_KIND,
        )
    ]


def downstream_of_model(
    catalog: Catalog, name: str, depth: int | None
) -> tuple[list[Edge], list[Link]]:
    """The tables that a model embedded, and the links to their downstream tables, at most `depth`
    hops away."""
    direct_uses = model_uses(catalog, [name])
    downstream_links: dict[Link, None] = {}
    for use in direct_uses:
        links = catalog.lineage.closure(
            use.derived_table, "down", None if depth is None else depth - 1
        )
        downstream_links |= dict.fromkeys(links)
    return [to_edge(use) for use in direct_uses], list(downstream_links)


def to_edge(use: ModelUse) -> Edge:
    """The lineage edge from a model to a table."""
    return Edge(input=use.model, derived=use.derived, kind=MODEL_KIND)

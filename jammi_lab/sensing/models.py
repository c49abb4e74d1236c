"""Models in the lineage: which tables were embedded by which model.

A model is no input: what it is belongs to a table's definition, and a table's row names it. So its edges are laid over those of the inputs when
somebody asks, and are true of tables that were made before anybody did.
"""

from collections.abc import Callable, Iterable, Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.closure import Node
from jammi_lab.catalog.lineage import Link, Use
from jammi_lab.names import fold
from jammi_lab.values.records import Edge, TableKind

MODEL = "model"
"""The kind of a node that is a model, and of the edges that leave it."""


def uses(catalog: Catalog, models: Iterable[str] | None = None, *, hidden: bool = False) -> list[Use]:
    """The newest versions whose rows some model made (None: any), each with the model as it is registered, else as it was called.

    Of vectors that were computed elsewhere the model is known only when one of that name is registered. `hidden`: also what is shared, and hidden by
    a recipe of one's own.
    """
    registered = {fold(model.name): model.name for model in catalog.models.list()}
    wanted = None if models is None else {fold(name) for name in models}
    called: dict[str, str] = {}
    found = []
    for use in catalog.lineage.uses(hidden=hidden):
        folded = fold(use.model)
        if use.kind is TableKind.IMPORTED and folded not in registered:
            continue
        if wanted is None or folded in wanted:
            found.append(use.of(registered.get(folded) or called.setdefault(folded, use.model)))
    return found


def known(catalog: Catalog, name: str) -> str | None:
    """A model's name as it is spelt, when it is registered or some newest version is of it."""
    if (registered := catalog.models.get(name)) is not None:
        return registered.name
    return next((use.model for use in uses(catalog, [name])), None)


def above(catalog: Catalog, name: str, links: Sequence[Link], depth: int | None) -> list[Edge]:
    """The models of a table and of what it was made from, `links`; at most `depth` hops away."""
    starts, exact = catalog.lineage.meant(name)
    hops: dict[Node, int] = dict.fromkeys(starts, 0)
    for link in links:
        hops.setdefault(link.source, link.depth)
    near = {node for node, hop in hops.items() if depth is None or hop < depth}
    if exact is not None:  # a former version has its own
        near -= starts
    made = [edge_of(use) for use in uses(catalog, hidden=True) if use.node in near]
    return made if exact is None else [*_of_exact(catalog, exact), *made]


def _of_exact(catalog: Catalog, table_name: str) -> list[Edge]:
    record = catalog.tables.get(table_name)
    if record is None or record.kind is not TableKind.EMBEDDING or record.model_id is None:
        return []
    return [Edge(input=known(catalog, record.model_id) or record.model_id, derived=record.table_name, kind=MODEL)]


def below(catalog: Catalog, name: str, depth: int | None, follow: Callable[[list[Link]], list[Link]]) -> tuple[list[Edge], list[Link]]:
    """The tables that a model made, and what derives from these, of which `follow` says which links count; at most `depth` hops away."""
    made = uses(catalog, [name])
    further: dict[Link, None] = {}
    for use in made:
        links = catalog.lineage.closure(use.derived_table, "down", None if depth is None else depth - 1)
        further |= dict.fromkeys(follow(links))
    return [edge_of(use) for use in made], list(further)


def edge_of(use: Use) -> Edge:
    """The edge in names."""
    return Edge(input=use.model, derived=use.derived, kind=MODEL)

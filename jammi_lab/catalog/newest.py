"""Keeps `newest_edges` what it says: for each recipe the edges of its newest ready version.

Whatever changes which version that is, or what its edges say, calls this in the same transaction: one place where a version turns ready, is made,
is taken away or is no longer ready. A walk through the lineage then goes over one table, by an index that holds all that the walk needs.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.schema import lineage, newest_edges, owner, result_tables, versions
from jammi_lab.names import fold

Key = tuple[str, str]
"""(owner or '', fold of the recipe's name)."""

_n, _v, _told = newest_edges, versions, versions.alias("told")
_NOTHING, _READY = (sa.literal_column(text, sa.Text) for text in ("''", "'ready'"))
_COLUMNS = tuple(c.name for c in _n.c)
_many, _one = _told.c.table_name.in_(sa.bindparam("names", expanding=True)), _told.c.table_name == sa.bindparam("name", type_=sa.Text)
_KEYS = scope.everyones(owner(_told), _told.c.recipe_fold).where(_one).distinct()


def _learn(of: sa.ColumnElement[str], folded: sa.ColumnElement[str], begun: sa.Select[Any]) -> sa.Insert:
    """Enter the edges of the newest ready version of a recipe."""
    other, its_table = versions.alias("other"), result_tables.alias("its_table")
    newest = (  # from the last version downwards, along the index, until one is ready
        scope.everyones(other.c.version)
        .join_from(other, its_table, its_table.c.table_name == other.c.table_name)
        # the coalesce keeps SQLite from starting at the index over status, which is nearly the whole table
        .where(other.c.recipe_fold == folded, owner(other) == of, sa.func.coalesce(its_table.c.status, _NOTHING) == _READY)
        .order_by(other.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )
    found = begun.where(_v.c.recipe_fold == folded, owner(_v) == of, _v.c.version == newest, lineage.c.derived == _v.c.table_name)
    return sa.insert(_n).from_select(_COLUMNS, found)


_edges = scope.everyones(*((lineage if name in lineage.c and name != "tenant_id" else _v).c[name] for name in _COLUMNS))
_fold, _owner = sa.bindparam("fold", type_=sa.Text), sa.bindparam("owner", type_=sa.Text)
_FORGET = scope.delete_of(_n).where(_n.c.recipe_fold == _fold)
_LEARN = _learn(_owner, _fold, _edges)


def _renewing(named: sa.ColumnElement[bool]) -> tuple[sa.Delete, sa.Insert]:
    """What makes the edges of the recipes anew that refer to some physical tables."""
    told = scope.everyones(_told.c.recipe_fold, owner(_told).label("owner")).where(named)
    keys = told.distinct().subquery("keys")
    return (
        scope.delete_all(_n).where(sa.tuple_(_n.c.recipe_fold, owner(_n)).in_(told)),
        _learn(keys.c.owner, keys.c.recipe_fold, _edges.select_from(keys)),
    )


_RENEW_OF, _RENEW_OF_MANY = tuple(Direct(each) for each in _renewing(_one)), _renewing(_many)
_MOVE = scope.update_all(_n).where(
    _n.c.node_fold == _fold,
    _n.c.node_tenant == _owner,
    _n.c.input_kind == sa.literal_column("'result'"),
    _n.c.input_physical == sa.literal_column("1"),
)
_MANY = 500
"""Names in one statement."""


def recipes_of(tx: sa.Connection, table_name: str) -> set[Key]:
    """The recipes that have a version which refers to a physical table."""
    return {(row[0], row[1]) for row in tx.execute(_KEYS, {"name": table_name}).all()}


def renew(tx: sa.Connection, recipes: Iterable[Key]) -> None:
    """Make the edges of some recipes anew, from what the other tables hold now."""
    if keys := [{"owner": of, "fold": folded} for of, folded in recipes]:
        tx.execute(_FORGET, keys)
        tx.execute(_LEARN, keys)


def renew_of(tx: sa.Connection, names: Sequence[str]) -> None:
    """The same for the recipes that refer to some physical tables now."""
    if len(names) == 1:
        for one in _RENEW_OF:
            one.change(tx, {"name": names[0]})
    else:
        for start in range(0, len(names), _MANY):
            for statement in _RENEW_OF_MANY:
                tx.execute(statement, {"names": names[start : start + _MANY]})


def renamed(tx: sa.Connection, tenant: str | None, old: str, new: str) -> None:
    """What follows when a recipe, with all its versions, has another name: its own edges, and the edges of those that read one of its tables by
    physical name."""
    tx.execute(_MOVE.values(node_fold=fold(new)), {"owner": tenant or "", "fold": fold(old)})
    renew(tx, {(tenant or "", fold(name)) for name in (old, new)})

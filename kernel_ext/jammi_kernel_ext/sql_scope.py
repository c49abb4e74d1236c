"""The name at the cursor of a statement, and what it can mean there: sqlglot parses a statement
that is still being written, too."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from jammi_lab.core.identifiers import fold, quoted_name

Column = tuple[str, str]
"""A name and its SQL type; the type is empty where it is not known."""
Load = Callable[[str], list[Column]]
"""The columns of a stored relation, as FROM names it."""
UNWRITTEN = "jammi_unwritten"
"""The name that stands where one is being typed."""


class NameInStatement:
    """The name at a position of a statement."""

    def __init__(self, text: str, position: int) -> None:
        trees = list[exp.Expr | None]()
        with contextlib.suppress(SqlglotError, RecursionError):
            trees += sqlglot.parse(text, read="duckdb", error_level=ErrorLevel.IGNORE)
        known = [tree for tree in trees if tree is not None]
        self.name: exp.Identifier | None = None
        self._tree: exp.Expr = known[-1] if known else exp.Select()
        for tree in known:
            for name in tree.find_all(exp.Identifier):
                if name.meta.get("start", position + 1) <= position <= name.meta.get("end", -1) + 1:
                    self.name, self._tree = name, tree

    @property
    def parent(self) -> exp.Expr | None:
        """The table, column or other part of the statement that it is the name of."""
        return None if self.name is None else self.name.parent

    @property
    def follows_operand(self) -> bool:
        """Whether it is where a keyword belongs; an alias may stand there, too."""
        return self.parent is None or isinstance(self.parent, exp.Alias | exp.TableAlias)

    @functools.cached_property
    def sources(self) -> Mapping[str, exp.Table | Scope]:
        """What the SELECT around it reads, by name or alias; of another statement all that it
        names."""
        query = None if self.name is None else self.name.find_ancestor(exp.Query)
        found: Mapping[str, exp.Table | Scope] | None = None
        with contextlib.suppress(SqlglotError):
            for scope in traverse_scope(self._tree):
                if scope.expression is query:
                    found = scope.sources
        if found is None:
            found = {table.alias_or_name: table for table in self._tree.find_all(exp.Table)}
        return {name: source for name, source in found.items() if name != UNWRITTEN}

    @property
    def ctes(self) -> list[str]:
        """The names of common table expressions."""
        return [cte.alias for cte in self._tree.find_all(exp.CTE)]

    def columns(self, load: Load) -> dict[str, list[Column]]:
        """The columns of what the SELECT reads, by name or alias."""
        return {name: _columns_of(source, load) for name, source in self.sources.items()}

    def outputs(self) -> list[tuple[str, bool]]:
        """The names that the SELECT gives its columns, and whether by an alias."""
        select = None if self.name is None else self.name.find_ancestor(exp.Select)
        items = [] if select is None else select.selects
        return [(item.alias_or_name, bool(item.alias)) for item in items]

    def likely_first(self, columns: Mapping[str, list[Column]]) -> list[str]:
        """The folded names of the columns that are probably meant: after ON and USING those that
        several relations have, or the one that it is compared with; where rows are grouped or
        ordered those that are selected."""
        name, column = self.name, self.parent
        if name is None or column is None:
            return []
        clause = name.find_ancestor(
            exp.Join, exp.Group, exp.Ordered, exp.Having, exp.Window, exp.Select
        )
        if isinstance(clause, exp.Join):
            if isinstance(column.parent, exp.EQ) and column is column.parent.expression:
                return [fold(column.parent.this.name)]
            return _shared_names([*columns.values()])
        is_select = clause is None or isinstance(clause, exp.Select)
        return [] if is_select else [fold(output) for output, _ in self.outputs()]


def relation_of(table: exp.Table) -> str:
    """A relation as FROM names it; empty for a table function."""
    return quoted_name(*(part.name for part in table.parts if isinstance(part, exp.Identifier)))


def _columns_of(source: exp.Table | Scope, load: Load) -> list[Column]:
    if isinstance(source, exp.Table):
        return load(relation_of(source)) if isinstance(source.this, exp.Identifier) else []
    return list(_outputs_of(source, load))


def _outputs_of(scope: Scope, load: Load) -> Iterator[Column]:
    """The columns that a subquery gives. Only names, but for those behind a star."""
    query = scope.expression
    for item in query.selects if isinstance(query, exp.Query) else []:
        if not item.is_star:
            yield item.alias_or_name, ""
            continue
        owner = item.table if isinstance(item, exp.Column) else ""
        for name, source in scope.sources.items():
            if owner in ("", name):
                yield from _columns_of(source, load)


def _shared_names(lists: Sequence[list[Column]]) -> list[str]:
    """The folded names that more than one of the lists of columns has, in the order of the shortest
    list."""
    names = [[fold(column) for column, _ in columns] for columns in sorted(lists, key=len)]
    counts = Counter(name for each in names for name in dict.fromkeys(each))
    return [name for name, count in counts.items() if count > 1]

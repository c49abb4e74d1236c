"""Statements that were prepared before: a repeated text is not resolved and bound again while all
its names mean the same."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.sources.base import Relation

MAX_KEPT_TEXTS = 64


class KeptStatements:
    """The statements of recently prepared texts. They hold no lease on what they read."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[PreparedStatement]] = {}

    def take(self, key: Hashable) -> list[PreparedStatement] | None:
        """The statements of a text, as if they were prepared again; None where that has to be
        done."""
        current = []
        for statement in self._kept.get(key, ()):
            if (renewed := _renew_statement(statement)) is None:
                self._kept.pop(key, None)
                return None
            current.append(renewed)
        return current or None

    def put(self, key: Hashable, statements: Sequence[PreparedStatement]) -> None:
        """Keep the statements of a text if they only read, have no parameters, and all their
        relations can be renewed."""
        for statement in statements:
            if not statement.is_select or statement.params:
                return
            if any(relation.renew is None for relation in statement.relations):
                return
        if len(self._kept) >= MAX_KEPT_TEXTS:
            self._kept.clear()
        self._kept[key] = [
            statement.with_relations({id(r): replace(r, acquire=None) for r in statement.relations})
            for statement in statements
        ]


def _renew_statement(statement: PreparedStatement) -> PreparedStatement | None:
    renewed = dict[int, Relation]()
    for relation in statement.relations:
        current = None if relation.renew is None else relation.renew(relation)
        if current is None:
            return None
        renewed[id(relation)] = current
    return statement.with_relations(renewed)

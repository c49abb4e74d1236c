"""The key of a table: its columns are in the output, and its values are unique and never NULL."""

from collections.abc import Sequence

from jammi_lab.engine.session import Engine
from jammi_lab.errors import DuplicateKey, SchemaMismatch
from jammi_lab.names import fold, near, quote
from jammi_lab.people import for_people
from jammi_lab.sources.base import Relation
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.records import TableRecord


class Built:
    """Provides the table that has just been built, under a name that nothing else has."""

    NAME = "__jammi_built"

    def __init__(self, body: str) -> None:
        self._relation = Relation(input=Input(kind=InputKind.RESULT, name=self.NAME), body=body)

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The built table, when it is meant."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> list[str]:
        """None: nobody is to be offered it."""
        return []


_NAMED = 8
"""Columns that are named where none is near."""


def key_columns(names: Sequence[str], key: Sequence[str]) -> list[str]:
    """The key's columns as the output spells them. SchemaMismatch, with the near name, for one that is not in the output."""
    spelt = {fold(n): n for n in names}
    for wanted in key:
        if fold(wanted) not in spelt:
            close = near(wanted, names)
            raise SchemaMismatch(
                f"The key column {wanted!r} is not in the output.",
                column=wanted,
                expected=wanted,
                actual=", ".join(names),
                hint=f"Did you mean {close[0]}?" if close else f"Its columns are {', '.join(names[:_NAMED])}{' …' if names[_NAMED:] else ''}.",
            )
    return list(dict.fromkeys(spelt[fold(wanted)] for wanted in key))


def check_key(engine: Engine, begun: TableRecord, body: str) -> None:
    """Nothing, when the key columns are unique and never NULL. DuplicateKey with the first few offending keys."""
    if not begun.key:
        return
    columns = ", ".join(map(quote, begun.key))
    nulls = " OR ".join(f"{quote(c)} IS NULL" for c in begun.key)
    statement = f"SELECT {columns} FROM {Built.NAME} GROUP BY {columns} HAVING count(*) > 1 OR {nulls} ORDER BY {columns} LIMIT 5"
    [prepared] = engine.prepare(statement, tenant=begun.tenant, extra=[Built(body)])
    found = prepared.run().table()
    if len(found):
        keys = [row[0] if len(row) == 1 else row for row in zip(*map(for_people, found.columns), strict=True)]
        raise DuplicateKey(
            f"The key {', '.join(begun.key)} of {begun.recipe!r} must be unique and never NULL; not so: {', '.join(map(repr, keys))}.",
            keys=keys,
            hint="Name more columns in key=, or group the rows first.",
        )

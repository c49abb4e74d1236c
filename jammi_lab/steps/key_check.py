"""Key constraints of a table: the key columns are in the output, unique and never NULL."""

from collections.abc import Sequence
from pathlib import Path

from jammi_lab.core.anchors import result_input
from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import DuplicateKey, SchemaMismatch
from jammi_lab.core.identifiers import fold, near_or_all, quote_identifier
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.store.result_files import select_file_sql

_BUILT = "__jammi_built"
"""The name of the table just built, in statements."""


def key_columns(names: Sequence[str], key: Sequence[str]) -> list[str]:
    """The key columns as the output spells them. Raises SchemaMismatch with the near name for a
    column that is not in the output."""
    by_folded_name = {fold(n): n for n in names}
    for name in key:
        if fold(name) not in by_folded_name:
            raise SchemaMismatch(
                f"The key column {name!r} is not in the output.",
                column=name,
                expected=name,
                actual=", ".join(names),
                **near_or_all(name, names),
            )
    return list(dict.fromkeys(by_folded_name[fold(name)] for name in key))


def check_key(engine: Engine, build_record: TableRecord, sealed: Path) -> None:
    """Raise DuplicateKey, with up to five offending keys, unless the key columns of the sealed file
    are unique and non-NULL."""
    body = select_file_sql(sealed, build_record.dimensions)
    columns = ", ".join(map(quote_identifier, build_record.key))
    nulls = " OR ".join(f"{quote_identifier(c)} IS NULL" for c in build_record.key)
    statement = (
        f"SELECT {columns} FROM {_BUILT} GROUP BY {columns} HAVING count(*) > 1 OR "
        f"{nulls} ORDER BY {columns} LIMIT 5"
    )
    built = FixedNames({_BUILT: Relation(result_input(_BUILT), ReadPlan(body=body))})
    [prepared] = engine.prepare(statement, tenant=build_record.tenant, extra_resolvers=[built])
    offending = prepared.run().table()
    if len(offending):
        keys = [
            row[0] if len(row) == 1 else row
            for row in zip(*map(to_display, offending.columns), strict=True)
        ]
        raise DuplicateKey(
            f"The key {', '.join(build_record.key)} of {build_record.recipe!r} must be unique and "
            f"non-NULL; these keys are duplicate or NULL: {', '.join(map(repr, keys))}.",
            keys=keys,
            hint="Add columns to key=, or aggregate the rows first.",
        )

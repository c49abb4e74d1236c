"""Frames of the notebook that are all rows of a table: a statement over one is stored as a
statement over the table, so that any kernel can judge and compute it.

Running the cell again must give the same rows as the stored statement. So a frame is the table only
where nothing was done to it after it was read, where its rows are those of the newest version, and
where each column has the table's type, or one that SQL gives it in the same way as pandas does.
"""

import re
from collections.abc import Mapping

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import FrameOrigin, Input, Snapshot
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import DependencyCycle, JammiError
from jammi_lab.core.identifiers import fold, quote_identifier, quoted_name
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.inputs.result_names import JAMMI, find_recorded_version
from jammi_lab.sources.frame_origins import TOO_LARGE
from jammi_lab.sources.frames import canonical_table, frame_snapshot
from jammi_lab.steps.anchor_confirmation import origins_upstream
from jammi_lab.steps.recipe import BindContext

_SMALL_INTEGERS = re.compile("U?(TINYINT|SMALLINT|INTEGER)")
"""Integers that DOUBLE holds, as which pandas has them beside NULLs."""
_INTEGERS = re.compile(r"U?(TINY|SMALL|BIG)INT|U?INTEGER|DECIMAL\(38,0\)")
_SMALL_DECIMALS = re.compile(r"DECIMAL\(([1-9]|1[0-5]),\d+\)")
"""Decimals whose digits DOUBLE holds, so that all libraries convert them alike."""
_FLOATS = ("FLOAT", "DOUBLE")
_SAME_IN_PANDAS = (
    "BOOLEAN",
    "VARCHAR",
    "BLOB",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "BIGINT",
    "UBIGINT",
)
_digests = BoundedCache[tuple[str, str], str](256)
"""The digest of the rows of a version, by physical name and SELECT."""


def text_over_tables(
    ctx: BindContext, query: PreparedStatement
) -> tuple[str, dict[str, str]] | None:
    """The statement with the table in place of each frame that is its rows, and the frame by the
    table's folded name; None where there is no such frame, or where its name cannot be replaced."""
    selects, frames = dict[Input, str](), dict[str, str]()
    for read in query.inputs:
        frame, token = read.relation.input, read.relation.token
        is_registered = ctx.part(Catalog).sources.get(frame.name) is not None
        if isinstance(token, PinnedState) and token.origin is not None and not is_registered:
            select = _select_of_rows(ctx, token.snapshot, token.origin)
            if select is not None:
                selects[frame] = select
                frames[fold(token.origin.inputs[0].input.name)] = frame.name
    if not selects:
        return None
    try:
        return query.text_with_names(selects.get), frames
    except JammiError:
        return None


def _select_of_rows(ctx: BindContext, frame: Snapshot, origin: FrameOrigin) -> str | None:
    """What stands in FROM for a frame that is the rows of a version; None for any other."""
    if not origin.form or origin.derived or origin.grounds not in ([], [TOO_LARGE]):
        return None
    [source] = origin.inputs
    catalog = ctx.part(Catalog)
    record = find_recorded_version(catalog, source.input.name, source)
    newest = catalog.result_tables.newest(source.input.name)
    if record is None or newest is None or newest[1].table_name != record.table_name:
        return None
    if _is_made_from(ctx, origin):
        return None
    changes = _column_changes(record, frame.columns, origin.form)
    if changes is None or _digest(ctx, record, changes) != frame.whole:
        return None
    name = quoted_name(JAMMI, source.input.name)
    return f"({_select(changes, name)})" if changes else name


def _is_made_from(ctx: BindContext, origin: FrameOrigin) -> bool:
    """Whether the table of a frame is the recipe that is bound, or was made from it."""
    catalog, names = ctx.part(Catalog), [source.input.name for source in origin.inputs]
    try:
        catalog.recipes.check_acyclic(ctx.name, ctx.scope.current, names)
    except DependencyCycle:
        return True
    return any(name == fold(ctx.name) for name, _ in origins_upstream(catalog, origin))


def _column_changes(record: TableRecord, columns: Mapping[str, str], form: str) -> list[str] | None:
    """What gives the columns of a table the types and values that a frame has, for REPLACE; None
    where SQL cannot."""
    stored = {column.name: column.type for column in record.columns}
    if list(stored) != list(columns):
        return None
    if form != "pandas":
        return [] if stored == columns else None
    changes = list[str]()
    for name, kind in columns.items():
        column, own = quote_identifier(name), stored[name]
        if kind == own and kind in _FLOATS:
            changes.append(f"nullif({column}, 'NaN') AS {column}")
        elif kind != own and _is_cast_alike(own, kind):
            changes.append(f"CAST({column} AS {kind}) AS {column}")
        elif kind != own or kind not in _SAME_IN_PANDAS:
            return None
    return changes


def _is_cast_alike(stored: str, kind: str) -> bool:
    """Whether pandas converts a column to a type as a cast does."""
    if kind == "DOUBLE":
        return bool(_SMALL_INTEGERS.fullmatch(stored) or _SMALL_DECIMALS.fullmatch(stored))
    if kind == "BIGINT":
        return _INTEGERS.fullmatch(stored) is not None
    return (stored, kind) == ("DATE", "TIMESTAMP")


def _select(changes: list[str], name: str) -> str:
    return f"SELECT * REPLACE ({', '.join(changes)}) FROM {name}" if changes else f"FROM {name}"


def _digest(ctx: BindContext, record: TableRecord, changes: list[str]) -> str:
    select = _select(changes, quoted_name(JAMMI, record.table_name))
    digest = _digests.get((record.table_name, select))
    if digest is None:
        [rows] = ctx.engine.prepare(select, tenant=ctx.scope.current)
        digest = frame_snapshot(canonical_table(rows.run().table())).whole
        _digests.put((record.table_name, select), digest)
    return digest

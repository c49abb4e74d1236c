"""The query plan of a statement, as DuckDB draws it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jammi_lab.core.errors import InvalidArgument, JammiError, mask_credentials
from jammi_lab.core.html import Rendered, ReprMixin, escape

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.workspace.result import Result


class Explanation(str, ReprMixin):
    """The plan as text: a box for each operator."""

    __slots__ = ()
    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        text = str.__str__(self)
        return Rendered(f'<pre style="margin:0.2em 0">{escape(text)}</pre>', text)


def explain_statement(
    text: str,
    analyze: bool,
    prepare: "Callable[[str], list[PreparedStatement]]",
    run: "Callable[[PreparedStatement], Result]",
) -> Explanation:
    """The query plan of one statement. Error positions refer to the text as passed. InvalidArgument
    for several statements; then none is run."""
    prefix = "EXPLAIN ANALYZE " if analyze else "EXPLAIN "
    try:
        prepared = prepare(prefix + text)
        if prepared[1:]:
            raise InvalidArgument(
                f"Only one statement can be explained at a time, got {len(prepared)}."
            )
        [(_, drawn)] = run(prepared[0]).fetchall()
        return Explanation(mask_credentials(drawn.rstrip()))
    except JammiError as error:
        if error.statement is not None and error.statement.startswith(prefix):
            error.with_position(
                error.statement.removeprefix(prefix),
                None if error.position is None else max(0, error.position - len(prefix)),
            )
        raise

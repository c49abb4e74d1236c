"""The query plan of a statement, as DuckDB draws it."""

from jammi_lab.core.html import Rendered, ReprMixin, escape


class Explanation(str, ReprMixin):
    """The plan as text: a box for each operator."""

    __slots__ = ()
    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        text = str.__str__(self)
        return Rendered(f'<pre style="margin:0.2em 0">{escape(text)}</pre>', text)

"""The static form of a widget, which stands in its place where there is no kernel."""

import contextlib
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import Rendered

if TYPE_CHECKING:
    from jammi_lab.features.outputs.stamps import Stamp

SAVED_CAPTION = "Panel as of {} UTC"
LIVE_HTML = "<div></div>"
"""What stands in place of the live panel where it cannot be shown: nothing, as the static form
follows. It never changes, because replacing the output would make the panel anew."""
_WIDGET_VIEW_MIME = "application/vnd.jupyter.widget-view+json"


_displayed: "dict[str, list[SavedForm]]" = {}
"""The widgets that the runs of a cell made and displayed, by the id of the cell."""


def current_shell() -> Any:
    """The shell of IPython; None outside of it."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def running_cell() -> tuple[str, str] | None:
    """The ids of the running cell and of its run, where the front end tells them."""
    kernel = getattr(current_shell(), "kernel", None)
    get_request = getattr(kernel, "get_parent", dict)  # from ipykernel 6
    request: dict[str, Any] = get_request()
    cell = request.get("metadata", {}).get("cellId")
    return None if cell is None else (cell, request["header"]["msg_id"])


def close_with_parts(widget: Any) -> None:
    """Close a widget, what it contains, and how it is laid out: each is a connection of its own."""
    for child in getattr(widget, "children", ()):
        close_with_parts(child)
    for part in ("layout", "style"):
        if (own := getattr(widget, part, None)) is not None:
            own.close()
    widget.close()


class SavedForm:
    """A mixin for widgets: their display, with a static form that survives the kernel."""

    saved_as: Callable[[], Rendered]
    """Renders the static form: that of a value which is shown as a panel, while the panel shows the
    same, else its own."""
    _looked_at: str
    """When the contents were loaded."""
    _shows_verdicts: ClassVar[bool] = False
    """Whether the form shows the verdict of each table, so that one that is not fresh is no reason
    to mark the cell."""

    def _stamp(self) -> "Stamp | None":
        """What the metadata of the static form says of the tables that it shows."""
        return None

    _container: "SavedForm | None" = None
    """The widget that this one is part of, whose form includes its form."""
    _display_id = ""
    """The id of the outputs with the static form; empty while it was not displayed."""
    _code: str | None = None
    """The digest of the text of the cell that displayed it first."""
    _made_in: tuple[str, str] | None = None
    """The cell, and its run, that made it."""
    _own_html = ""
    """The panel's own form at the time of the displayed one."""

    def _rendered(self) -> Rendered:
        """The panel's own static form."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.saved_as().text

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        shown = self.saved_as().data
        # The static form of a live panel, which is displayed after it, has the stamp.
        stamp = {} if _WIDGET_VIEW_MIME in data else self._metadata(shown)
        return {**data, **shown}, {**metadata, **stamp}

    def _metadata(self, shown: Mapping[str, str]) -> dict[str, Any]:
        stamp = self._stamp()
        if stamp is None:
            return {}
        if self._code is None:  # later forms come while other cells run
            self._code = stamp.code
        return stamp.with_values(code=self._code).metadata(shown)

    def _ipython_display_(self) -> None:
        """Display the live panel and, in a separate output, the static form, which the live panel
        hides and which is renewed.

        When the notebook is reopened without a running kernel, the first output shows an error or
        nothing, and the second is intact.
        """
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        is_live = _WIDGET_VIEW_MIME in data
        self._close_former()
        if is_live:
            data |= {"text/plain": type(self).__name__, "text/html": LIVE_HTML}
        display(data, metadata=metadata, raw=True)
        if is_live:
            self._display_id = self._display_id or f"jammi-{secrets.token_hex(8)}"
            shown = self._saved_output()
            display(shown, metadata=self._metadata(shown), raw=True, display_id=self._display_id)

    def _close_former(self) -> None:
        """Close what an earlier run of the cell made and displayed, unless a variable holds it."""
        if self._made_in is None or self._made_in != running_cell():
            return
        variables = current_shell().user_ns
        named = [value for name, value in variables.items() if not name.startswith("_")]
        held = {id(value) for value in named} | {id(getattr(v, "_widget", None)) for v in named}
        displayed = _displayed.setdefault(self._made_in[0], [])
        for former in [*displayed]:
            if former._made_in != self._made_in and id(former) not in held:
                close_with_parts(former)
                displayed.remove(former)
        if self not in displayed:
            displayed.append(self)

    def _saved_output(self) -> dict[str, str]:
        css_class = "jammi-saved jammi-verdicts" if self._shows_verdicts else "jammi-saved"
        rendered, caption = self.saved_as(), SAVED_CAPTION.format(self._looked_at)
        is_own = self.saved_as == self._rendered
        self._own_html = rendered.html if is_own else self._rendered().html
        html = (
            f'<details open class="{css_class}"><summary style="opacity:0.7;font-size:90%">'
            f"{caption}</summary>{rendered.html}</details>"
        )
        return {"text/plain": f"{rendered.text}\n{caption}", "text/html": html}

    def _renew_saved_form(self) -> None:
        """Replace the displayed static form when the panel shows something else by now."""
        if self._container is not None:
            self._container._renew_saved_form()
        if not self._display_id:
            return
        with contextlib.suppress(JammiError):  # the workspace was closed: the form stays
            if self._rendered().html == self._own_html:
                return
            self.saved_as = self._rendered
            from IPython.display import update_display

            shown = self._saved_output()
            update_display(
                shown, metadata=self._metadata(shown), raw=True, display_id=self._display_id
            )

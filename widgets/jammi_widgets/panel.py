"""Base class of all panels: traits, messages, the static form, and error handling when tables or
the workspace no longer exist."""

import contextlib
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from jammi_lab.core.clock import utc_now
from jammi_lab.core.errors import InvalidArgument, JammiError
from jammi_lab.core.html import Rendered
from jammi_lab.core.thread_pool import JobQueue
from jammi_lab.core.verdicts import Verdict, verdicts_sentence
from jammi_widgets import assets, auto_refresh, protocol
from jammi_widgets.action_runner import ActionRunner, ProgressCallback, error_lines
from jammi_widgets.saved_form import SavedForm, running_cell

if TYPE_CHECKING:
    from jammi_lab.features.outputs.stamps import Stamp, StampedSource
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.workspace import Workspace

MAX_STAMPED_TABLES = 50
"""The largest number of tables in a stamp of verdicts."""
_CLOSED = "The workspace is closed: this panel no longer changes."
ANSWER_SECONDS = 5.0
"""Maximum wait for the answer to a click."""
_IMMEDIATE_MESSAGES = (
    protocol.Act,
    protocol.Cancel,
    protocol.Wake,
    protocol.ViewOpened,
    protocol.ViewClosed,
)
"""Messages that are handled immediately because they never read a source."""
_CHANGING_ACTIONS = ("recompute", "project", "keep")
"""Actions that change tables, so that all other panels are refreshed."""


class Panel(SavedForm, anywidget.AnyWidget):
    """A widget for a workspace. `selection` and `filter` are synchronised in both directions and
    can be observed.

    The panel sees the data of the tenant that was bound when it was created.
    """

    _css = assets.style()
    selection = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Selected names or row keys."""
    filter = traitlets.Unicode("").tag(sync=True)
    """The filter text."""
    follow = traitlets.Bool(True)
    """Whether the panel refreshes after each cell while a page shows it."""

    _follows_changes: ClassVar[bool] = False
    """Whether an automatic refresh loads the contents again."""

    def __init__(self, ws: "Workspace") -> None:
        self._ws, self._tenant = ws, ws.current_tenant
        self._made_in = running_cell()
        self._views: set[int] = set()
        self._refresh_errors: list[str] = []
        self._shows_refusal = False
        self._inner: Panel | None = None
        self._looked_at = utc_now()
        self.saved_as = self._rendered
        self._runner = ActionRunner(self._send_message)
        self._reply_queue = JobQueue("jammi-panel-rows")
        self._answer_sent = threading.Event()
        super().__init__()
        self.on_msg(self._on_message)

    # -- hooks of subclasses
    # ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _reload(self) -> bool:
        """Load again what the panel shows. Returns whether it has changed. JammiError."""

    @abstractmethod
    def _body(self) -> dict[str, Any]:
        """What the panel shows, as a message. JammiError."""

    @abstractmethod
    def _answer(self, message: Any) -> dict[str, Any] | None:
        """The body of the answer to a message; None for what the panel shows. JammiError."""

    def _selectable_names(self, names: list[str]) -> list[str]:  # noqa: ARG002  for subclasses
        """Those of the names that can be selected."""
        return []

    @abstractmethod
    def _rendered(self) -> Rendered:
        """The static form, without kernel and script, in its last state: an image or a table, and
        text."""

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:  # noqa: ARG002  for subclasses
        """Run an action, in a thread, and return the body of its final message. JammiError."""
        raise InvalidArgument(f"This panel does not support the action {action!r}.")

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Apply trait values sent by a page or by a panel linked there.

        Traits that are not a page's to set are ignored. Invalid values are reported on the page and
        not applied; of a selection, the valid names are. The page keeps its own value: sent back,
        it would undo the selection in the linked panel.
        """
        accepted: dict[str, Any] = {}
        problems: list[str] = []
        selectable: list[str] | None = None
        for name in [name for name in sync_data if self._is_page_trait(name)]:
            try:
                self.traits()[name]._validate(self, sync_data[name])
            except JammiError as error:
                problems += error.rendered_lines()
                selectable = (
                    self._selectable_names(list(sync_data[name]))
                    if name == "selection"
                    else selectable
                )
            except (traitlets.TraitError, UnicodeError) as error:
                problems.append(str(error))
            else:
                accepted[name] = sync_data[name]
        try:
            super().set_state(accepted)
        except JammiError as error:  # of what the panel shows then
            problems += error.rendered_lines()
        if problems or self._shows_refusal:  # a later valid change clears the message
            self._send_message({"kind": "said", "lines": problems})
        self._shows_refusal = bool(problems)
        if selectable is not None:
            with self._lock_property(selection=selectable):
                self.selection = selectable

    def _is_page_trait(self, name: str) -> bool:
        """Whether a page may set a trait: those of panels, not code, style or layout, which every
        other page would run or show."""
        trait = self.traits().get(name)
        return (
            trait is not None
            and name in self.keys
            and not name.startswith("_")
            and issubclass(trait.this_class, Panel)
        )

    @contextlib.contextmanager
    def _tenant_context(self) -> Iterator[None]:
        """Bind the panel's tenant, because messages arrive in a context of their own."""
        with self._ws.tenant(self._tenant):
            yield

    def _send_message(
        self, message: Mapping[str, Any], buffers: list[memoryview] | None = None
    ) -> None:
        self.send({"v": protocol.VERSION, **message}, buffers)

    def _refuse(self, request_id: Any, lines: list[str]) -> None:
        self._send_message({"kind": "refused", "ask": request_id, "lines": lines})

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        request_id = content.get("ask") if isinstance(content, dict) else None
        try:
            message = protocol.parse(content)
        except (ValueError, RecursionError):
            line = "The page and the kernel use different releases of jammi_lab."
            self._refuse(request_id, [f"{line} Run the cell again."])
            return
        if isinstance(message, _IMMEDIATE_MESSAGES):
            self._respond(request_id, message)
        else:
            self._run_or_queue(lambda: self._respond(request_id, message), request_id)

    def _run_or_queue(self, job: Callable[[], None], request_id: Any = None) -> None:
        """Run the job. If a page is open, append it to the queue: it may take longer than the
        kernel should be blocked."""
        if not self._views:
            job()
            return

        def announce_then_run() -> None:
            self._send_message({"kind": "reading", "ask": request_id})
            job()

        self._reply_queue.put(announce_then_run)

    def _respond(self, request_id: Any, message: Any) -> None:
        try:
            with self._tenant_context():
                body = self._dispatch(message)
        except Exception as error:
            self._refuse(request_id, error_lines(error))
            if isinstance(error, JammiError):
                return
            raise
        buffers = body.pop("buffers", None)
        self._send_message(
            {
                "kind": "answer",
                "ask": request_id,
                "body": body,
                "shared": message.is_shared,
            },
            buffers,
        )
        self._answer_sent.set()
        if isinstance(message, protocol.Refresh | protocol.CompareVersions):
            self._looked_at = utc_now()
            self._reply_queue.put(self._renew_saved_form)

    def _dispatch(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Act() | protocol.Cancel():
                return self._start_action(message)
            case protocol.Wake():
                auto_refresh.schedule_refresh()
                return {}
            case protocol.ViewOpened(view=view):
                self._views.add(view)
                auto_refresh.register_panel(self)
                return {}
            case protocol.ViewClosed(view=view):
                self._views.discard(view)
                return {}
            case protocol.Refresh():
                self._reload()
        answer = self._answer(message)
        return self._body() if answer is None else answer

    def _send_body(self, **fields: Any) -> None:
        """Send what the panel shows to every view."""
        self._send_message({"kind": "changed", "body": self._body(), **fields})

    def refresh(self) -> None:
        """Reload what the panel shows."""
        with self._tenant_context():
            self._reload()
            self._looked_at = utc_now()
            self._send_body()
        self._renew_saved_form()

    def _refresh_if_changed(self) -> None:
        """Reload, and notify the page if the contents have changed. JammiError."""
        if self._follows_changes and self._reload():
            self._send_body(looked=True)

    def _open_inner(self, panel: "Panel") -> dict[str, Any]:
        """Show another panel inside this one, in place of the one before. Returns the message with
        which the page shows it."""
        self._close_inner()
        self._inner = panel
        return {"widget": panel.model_id}

    def _close_inner(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None

    @property
    def is_followed(self) -> bool:
        """Whether a page shows the panel, which is to follow the workspace."""
        return bool(self._views) and self.follow

    def wait_for_reads(self, timeout: float) -> None:
        """Wait until queued reads are done, at most that many seconds."""
        self._reply_queue.wait(timeout)

    def refresh_quietly(self) -> bool:
        """Refresh without a request; an error is shown on the page. Returns False if the workspace
        is closed, which ends automatic refreshes."""
        previous, self._refresh_errors = self._refresh_errors, []
        try:
            with self._tenant_context():
                self._refresh_if_changed()
            self._looked_at = utc_now()
            self._renew_saved_form()
        except JammiError as error:
            self._refresh_errors = error.rendered_lines()
        is_closed = self._ws._closed
        if is_closed:
            self._refresh_errors = [_CLOSED]
        if self._refresh_errors != previous:
            self._send_message(
                {"kind": "said", "lines": self._refresh_errors, "expected": is_closed}
            )
        return not is_closed

    def close(self) -> None:
        """Stop refreshing and disconnect from the page."""
        if "_views" in self.__dict__:  # also called after a failed constructor
            self._views.clear()
            self._close_inner()
        super().close()

    def _display_(self) -> Any:
        """The panel above its folded static form, as marimo asks for it: an export has no
        kernel."""
        marimo = sys.modules["marimo"]
        form = marimo.Html(
            self._saved_output()["text/html"].replace("<details open", "<details", 1)
        )
        return marimo.vstack([marimo.ui.anywidget(self), form])

    def _start_action(self, message: "protocol.Act | protocol.Cancel") -> dict[str, Any]:
        if isinstance(message, protocol.Cancel):
            self._runner.cancel()
            return {}

        answer_sent = self._answer_sent = threading.Event()

        def run(report: ProgressCallback) -> dict[str, Any]:
            answer_sent.wait(
                ANSWER_SECONDS
            )  # the answer goes out before the outcome of a very short action
            try:
                with self._tenant_context():
                    return self._act(message.action, list(message.names), report)
            finally:
                if message.action in _CHANGING_ACTIONS:  # also after a partial failure
                    auto_refresh.schedule_refresh()

        return {"begun": self._runner.start(message.action, run)}

    def _stamp(self) -> "Stamp | None":
        """What the metadata of the static form says of the tables that it shows."""
        try:
            with self._tenant_context():
                verdicts = self._shown_verdicts()
                if len(verdicts) > MAX_STAMPED_TABLES:  # that many are no result to be checked
                    return None
                tables = [self._ws.table(name, version) for name, version, _ in verdicts]
                sentence = verdicts_sentence({name: v for name, _, v in verdicts})
                return self._ws._services.tables.stamp_all(
                    [each._table_version for each in tables or self._shown_tables()],
                    sentence if verdicts else None,
                    *self._shown_besides(),
                )
        except JammiError:  # a table was dropped, or the workspace was closed
            return None

    def _shown_verdicts(self) -> list[tuple[str, int, Verdict]]:
        """The recipes whose verdicts the panel shows, with their versions."""
        return []

    def _shown_besides(self) -> "tuple[list[StampedSource], list[str]]":
        """The other inputs whose rows the panel shows: in a known state, and in none."""
        return [], []

    def _shown_tables(self) -> "list[ResultTable]":
        """The result tables whose rows or versions the panel shows. JammiError."""
        return []

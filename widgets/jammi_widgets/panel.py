"""What all panels share: traits, messages, the static form, and what happens when a table or the workspace is gone."""

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import msgspec
import traitlets

from jammi_lab.errors import InvalidArgument, JammiError
from jammi_lab.markup import Form
from jammi_widgets import following, protocol
from jammi_widgets.later import Later
from jammi_widgets.work import Report, Work

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

SAVED = "The panel as it was when the notebook was saved"
_ONCE = "<style>.jammi-saved { display: none }</style>"
"""Where a page shows the static form in place of the panel, it needs it once; what takes styles out shows it twice."""
ANSWER_SECONDS = 5.0
"""Longer than an answer to a click takes."""
_AT_ONCE = (protocol.Act, protocol.Cancel, protocol.Here, protocol.Gone)
"""What never waits for a source."""
_CHANGES = ("recompute", "project")
"""Actions after which the panels beside this one are looked at, too."""
_VIEW = "application/vnd.jupyter.widget-view+json"


class Names(traitlets.List[str]):
    """A list of texts. Ten thousand of them are looked at in no time: a lasso takes as many."""

    def validate_elements(self, obj: Any, value: Any) -> Any:
        """The list; TraitError when something in it is no text."""
        return list(value) if all(type(each) is str for each in value) else super().validate_elements(obj, value)


class Panel(anywidget.AnyWidget):
    """A widget over a workspace. `selection` and `filter` are synced both ways; `observe` works on them.

    It sees what the tenant sees who was bound when it was made.
    """

    selection = Names(traitlets.Unicode()).tag(sync=True)
    """Names or row keys that are chosen."""
    filter = traitlets.Unicode("").tag(sync=True)
    """What is typed into the filter."""
    follow = traitlets.Bool(True)
    """Whether it looks again after each cell, while a page shows it."""

    _kinds: ClassVar[Any]
    """The messages that the page may send."""
    _shared: ClassVar[tuple[type, ...]] = ()
    """Messages whose answer is what every view of the panel shows from then on, and not only the one that asked."""
    _aside: ClassVar[tuple[type | str, ...]] = ()
    """Messages that a page is answered from a thread, and traits that are followed there: what they look at may take longer than a kernel should
    wait."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_kinds" in cls.__dict__:
            cls._kinds = cls._kinds | protocol.Here | protocol.Gone

    def __init__(self, ws: "Workspace") -> None:
        self._ws, self._tenant = ws, ws.current_tenant
        self._views: set[int] = set()
        self._hindered: list[str] = []
        self._refused = False
        self.saved_as: Callable[[], Form] = self._form
        """What stands for the panel where it does not live."""
        self._work = Work(self._tell)
        self._later = Later("rows")
        self._answered = threading.Event()
        super().__init__()
        self.on_msg(self._heard)

    # -- what a panel fills in -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def refresh(self) -> None:
        """Look again."""

    def _look_quietly(self) -> None:
        """Look again, and tell the page if what it shows is another by now. JammiError."""

    @abstractmethod
    def _answer(self, message: Any) -> dict[str, Any]:
        """The body of the answer to a message. JammiError."""

    def _reads(self, what: Any) -> bool:  # noqa: ARG002  for those that read
        """Whether the answer to a message, or what follows a trait of this name, has to read a source first. JammiError."""
        return False

    def _lay(self, what: Any) -> None:
        """Read that. JammiError."""

    def _there(self, names: list[str]) -> list[str]:  # noqa: ARG002  for those that know it
        """Those of the names that can be chosen here."""
        return []

    @abstractmethod
    def _form(self) -> Form:
        """The panel without a kernel and without a script, as it last looked: a picture or a table, and text."""

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:  # noqa: ARG002  for those that act
        """Carry an action out, in a thread; the body of the message that ends it. JammiError."""
        raise InvalidArgument(f"This panel does not {action}.")

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what a page, or a panel that is linked there, sets.

        What cannot be is said there, and Python has what it had; of a selection, what is here. The page keeps its own: sent back, it would undo the
        choice in the panel that it is linked to.
        """
        taken: dict[str, Any] = {}
        problems: list[str] = []
        here: list[str] | None = None
        for name in [name for name in sync_data if name in self.keys]:
            try:
                self.traits()[name]._validate(self, sync_data[name])
            except JammiError as problem:
                problems += problem.rendered()
                here = self._there(list(sync_data[name])) if name == "selection" else here
            except traitlets.TraitError as problem:
                problems.append(str(problem))
            else:
                taken[name] = sync_data[name]
        if problems or self._refused:  # the next thing that can be takes the word away
            self._tell({"kind": "said", "lines": problems})
        self._refused = bool(problems)
        super().set_state(taken)
        if here is not None:
            with self._lock_property(selection=here):
                self.selection = here

    @contextlib.contextmanager
    def _as_bound(self) -> Iterator[None]:
        """Messages arrive in a context of their own: what the panel asks is asked for its tenant."""
        with self._ws.tenant(self._tenant):
            yield

    def _tell(self, message: Mapping[str, Any], buffers: list[memoryview] | None = None) -> None:
        self.send({"v": protocol.VERSION, **message}, buffers)

    def _heard(self, _: Any, content: Any, __: Any) -> None:
        number = content.get("ask") if isinstance(content, dict) else None
        try:
            message = protocol.parse(content, self._kinds)
        except msgspec.ValidationError:
            self._tell({"kind": "refused", "ask": number, "lines": ["This page and the kernel are of different releases. Run the cell again."]})
            return
        self._do(message, lambda: self._respond(number, message), number)

    def _do(self, what: Any, job: Callable[[], None], ask: Any = None) -> None:
        """Do something now; or, for a page, when that may take a while or something is done there already, in a thread, after that."""
        slow = any(what == each if isinstance(each, str) else isinstance(what, each) for each in self._aside)
        if not self._views or isinstance(what, _AT_ONCE) or not (slow or self._later.busy):
            job()
            return

        def looked_first() -> None:
            with contextlib.suppress(JammiError), self._as_bound():  # said by what is done then
                if self._reads(what):
                    self._tell({"kind": "reading", "ask": ask})
                    self._lay(what)
            job()

        self._later.put(looked_first)

    def _lay_again(self, lay: Callable[[], None]) -> None:
        """After a look: read anew what answers rest on, before somebody asks."""

        def quietly() -> None:
            with contextlib.suppress(JammiError), self._as_bound():
                lay()

        self._later.put(quietly)

    def _respond(self, number: Any, message: Any) -> None:
        try:
            with self._as_bound():
                body = self._given(message)
        except JammiError as problem:
            self._tell({"kind": "refused", "ask": number, "lines": list(problem.rendered())})
            return
        except Exception as problem:
            self._tell({"kind": "refused", "ask": number, "lines": [f"{type(problem).__name__}: {problem}"]})
            raise
        buffers = body.pop("buffers", None)
        self._tell({"kind": "answer", "ask": number, "body": body, "shared": isinstance(message, self._shared)}, buffers)
        self._answered.set()

    def _given(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Act() | protocol.Cancel():
                return self._began(message)
            case protocol.Here(view=view):
                self._views.add(view)
                following.begin(self)
                return {}
            case protocol.Gone(view=view):
                self._views.discard(view)
                return {}
        return self._answer(message)

    def _look_again(self) -> bool:
        """A look that nobody clicked for; what hinders it is said on the page. False when the workspace is closed: then such looks end."""
        before, self._hindered = self._hindered, []
        try:
            with self._as_bound():
                self._look_quietly()
        except JammiError as problem:
            self._hindered = list(problem.rendered())
        if self._hindered != before:
            self._tell({"kind": "said", "lines": self._hindered})
        return not self._ws._closed

    def close(self) -> None:
        """Look no more, and let go of the page."""
        if "_views" in self.__dict__:  # one whose making was refused is closed, too
            self._views.clear()
            self._end()
        super().close()

    def _end(self) -> None:
        """What else ends with the panel."""

    def _began(self, message: "protocol.Act | protocol.Cancel") -> dict[str, Any]:
        if isinstance(message, protocol.Cancel):
            self._work.cancel()
            return {}

        answered = self._answered = threading.Event()

        def run(report: Report) -> dict[str, Any]:
            answered.wait(ANSWER_SECONDS)  # what is over at once is told after the answer that it began, not before
            try:
                with self._as_bound():
                    return self._act(message.action, list(message.names), report)
            finally:
                if message.action in _CHANGES:  # also what failed midway
                    following.cell_ran()

        return {"begun": self._work.begin(message.action, run)}

    # -- how it is shown -----------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self._form().text

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        form = self.saved_as()
        return {**data, "text/plain": form.text, "text/html": form.html + _ONCE}, metadata

    def _ipython_display_(self) -> None:
        """The live panel, and below it the static form in an output of its own, which the live one hides.

        A notebook that is opened again with a fresh kernel shows an error in place of the first, and the second as it is.
        """
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        if _VIEW in data:
            html = f'<details open class="jammi-saved"><summary style="opacity:0.7;font-size:90%">{SAVED}</summary>{self.saved_as().html}</details>'
            display({"text/html": html}, raw=True)

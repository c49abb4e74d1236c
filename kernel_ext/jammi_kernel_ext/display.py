"""Forms of what the magics return and nothing else shows: lists, settings, help, a note."""

import importlib
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_kernel_ext.arguments import CELL, STEP, VERBS, Flag, Verb
from jammi_lab import forms
from jammi_lab.errors import InvalidArgument, JammiError
from jammi_lab.glance import at_a_glance
from jammi_lab.markup import Form, Shown, code, count, dim, facts, mark, plain, stack
from jammi_lab.names import near


class Note(Shown):
    """One sentence about what was done."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def _form(self) -> Form:
        return plain(self.text)


class Columns(dict[str, str], Shown):
    """Columns and their SQL types."""

    __repr__ = Shown.__repr__

    def __init__(self, name: str, columns: Mapping[str, str]) -> None:
        super().__init__(columns)
        self.name = name

    def _form(self) -> Form:
        return forms.columns(self.name, self.items())


class Inside(list[str], Shown):
    """The tables inside a source."""

    __repr__ = Shown.__repr__

    def __init__(self, name: str, tables: Iterable[str]) -> None:
        super().__init__(tables)
        self.name = name

    def _form(self) -> Form:
        return forms.inside(self.name, self)


class Doubtful(list[Any], Shown):
    """The rows of the board that are not fresh."""

    __repr__ = Shown.__repr__

    def __init__(self, rows: Iterable[Any], among: int) -> None:
        super().__init__(rows)
        self.among = among

    def _form(self) -> Form:
        if self:
            return forms.status(self)
        return mark("fresh", f"Nothing is stale: {self.among} of {self.among} recipes are fresh.") if self.among else plain("No recipes yet.")


class Verified(dict[str, Any], Shown):
    """What `verify` found, by recipe."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        if not self:
            return plain("No result tables yet.")
        return forms.listing(["name", "found"], [(n, forms.verdict(v)) for n, v in self.items()], aligned="ll")


class Expired(list[str], Shown):
    """The physical names of the tables that were removed."""

    __repr__ = Shown.__repr__

    def __init__(self, recipe: str, gone: Iterable[str]) -> None:
        super().__init__(gone)
        self.recipe = recipe

    def _form(self) -> Form:
        return plain(f"{self.recipe}: {count(len(self), 'table')} removed." if self else f"{self.recipe}: no version had to go.")


class Config(dict[str, Any], Shown):
    """Settings and their values."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        rows = [(k, v if v not in ("", 0) else dim("the engine's own choice" if k.startswith("engine.") else v)) for k, v in self.items()]
        return forms.listing(["setting", "value"], rows, aligned="ll")


class Help(Shown):
    """What can be typed: everything, or about one word."""

    __slots__ = ("_word",)

    def __init__(self, word: str | None) -> None:
        self._word = word.lstrip("%") if word else None
        known = ["jammi", "jammi_py", *(v.name for v in VERBS if v.name), *(s for f in (*CELL.flags, *STEP.flags) for s in f.spelled)]
        if self._word and self._word not in known:
            raise InvalidArgument(f"There is no help about {word!r}.", near=near(self._word, known), hint="%jammi help lists what there is.")

    def _form(self) -> Form:
        if self._word is None:
            return stack(_verbs(), _about(CELL), _about(STEP))
        if self._word in ("jammi", "jammi_py"):
            return _about(CELL if self._word == "jammi" else STEP)
        for verb in VERBS:
            if verb.name == self._word:
                return _about(verb)
        with_it = [(magic, flag) for magic in (CELL, STEP) for flag in magic.flags if self._word in flag.spelled]
        return stack(*(facts(code(magic.usage), [(_spelled(flag), flag.help)]) for magic, flag in with_it))


_CHAPTERS = {
    "": "Where one is",
    "add": "What there is",
    "embed": "Vectors",
    "status": "Whether it still holds",
    "plan": "Making it true again, and upkeep",
    "topics": "What changes, and whose it is",
}
"""What lines are about, under the first line of each chapter."""


def _verbs() -> Form:
    rows: list[tuple[Form, Any]] = []
    for verb in VERBS:
        if verb.name in _CHAPTERS:
            title = _CHAPTERS[verb.name]
            rows.append((Form(f"<b>{title}</b>", f"· {title}"), plain("")))
        words = [a.name if a.required else f"[{a.name}]" for a in verb.arguments]
        rows.append((code(" ".join(["%jammi", verb.name, *words]).strip()), verb.help))
    note = "--help behind any of them shows its flags; Tab completes, Shift+Tab tells about a name."
    return forms.listing(
        ["line", "does"], rows, aligned="ll", caption="SQL stands in cells that begin with %%jammi; beside them are these lines.", note=note
    )


def _about(verb: Verb) -> Form:
    return facts(code(verb.usage), [(_spelled(f), f.help) for f in verb.flags], note=verb.help)


def _spelled(flag: Flag) -> str:
    return ", ".join(flag.spelled) + (f" {'|'.join(flag.choices) or flag.takes}" if flag.takes else "")


class Catalog(Shown):
    """Sources and tables, where no panel can be shown."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws

    def _form(self) -> Form:
        return stack(self._ws.sources._form(), self._ws.tables()._form())


def with_panel(shell: Any, value: Any, panel: str, *given: Any, **named: Any) -> Any:
    """The value as it is, but that displaying it shows a panel: in a kernel, where front ends have widgets, and not in a terminal.

    What is saved with the notebook is the value's own form.
    """
    if not hasattr(shell, "kernel"):
        return value
    try:
        made = getattr(importlib.import_module("jammi_widgets"), panel)(*given, **named)
    except (ImportError, JammiError):  # what cannot be a panel is a table
        return value
    made.saved_as = value._form
    value._ipython_display_ = made._ipython_display_
    return value


def has_rows(value: Any) -> bool:
    """Whether it is a Result or ResultTable."""
    from jammi_lab.handles import ResultTable
    from jammi_lab.result import Result

    return isinstance(value, Result | ResultTable)


def view(shell: Any, ws: Any, rows: Any) -> Any:
    """The rows as a panel to look through; in a terminal as a Result."""
    result = rows.read() if hasattr(rows, "read") else rows
    if not hasattr(shell, "kernel"):
        return result
    try:
        return importlib.import_module("jammi_widgets").ResultView(ws, result)
    except ImportError:
        return result


_ONE_DISPLAY = 1.0
_halves: weakref.WeakKeyDictionary[Any, tuple[float, str, Form]] = weakref.WeakKeyDictionary()


def where(ws: Any, kind: str) -> str:
    """Half of the form of a workspace, `html` or `text`: a display asks for both, and one look serves them."""
    made, other, form = _halves.pop(ws, (0.0, "", plain("")))
    if other != kind or time.monotonic() - made > _ONE_DISPLAY:
        form = at_a_glance(ws)
        _halves[ws] = (time.monotonic(), "text" if kind == "html" else "html", form)
    return str(getattr(form, kind))

"""Every error that jammi_lab raises on purpose: one tree, grouped by what a handler does about it.

    JammiError
    ├── the name is wrong        NameInvalid · NameTooLong · SourceNotFound · TableNotFound · UnknownTable
    │                            RowNotFound · ModelNotFound · TopicNotFound
    ├── the name is taken        SourceExists · DuplicateTable · DuplicateKey · DependencyCycle
    ├── the request is wrong     InvalidArgument · SqlError · StatementNotAllowed · ParameterMissing · SchemaMismatch
    │                            AmbiguousMatch · NotRecomputable · StepFailed
    ├── the outside is not there SourceUnavailable · ExtensionMissing · SecretMissing · ResourceExhausted
    ├── the workspace says no    WorkspaceNotFound · WorkspaceReadOnly · CatalogTooNew · LostOwnership · ForkedWorkspace · VersionConflict
    ├── the bytes are not right  TableDamaged · ManifestUnsupported
    └── somebody else's          NoTenantBinding · TenantForbidden · SessionClosed · PartialDeletionFailure · ModelReferenced

A message is one sentence of what is wrong; `near` holds names that were perhaps meant, `hint` what to do. Errors about a place in a
statement carry it (`statement`, `position` in characters) and draw a caret under it. Look-ups that miss are also `KeyError`, bad
arguments also `ValueError`.
"""

import re
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from jammi_lab.scrubbing import scrubbed

_CREDENTIAL = re.compile(
    r"""(?<=://)[^\s/'"@:]*:[^\s/'"]*(?=@)|(?:(?<=http://)|(?<=https://))[^\s/'"@]+(?=@)"""
    r"""|(?i:(?<=[?&])[\w.%-]*(?:pass|pwd|token|secret|key|sig|auth|cred)[\w.%-]*=[^\s&'"]+)"""
)


def masked(text: str) -> str:
    """The text, as long as before, with stars in place of credentials that were used and of those in addresses.

    What tells of an address leaves them out by itself; this is the last line, for texts that somebody else wrote.
    """
    text = scrubbed(text)
    return _CREDENTIAL.sub(lambda found: "*" * len(found[0]), text) if "://" in text or "?" in text else text


class JammiError(Exception):
    """The base of every error that jammi_lab raises on purpose."""

    full_traceback: ClassVar[bool] = False
    """Whether a notebook shows the whole stack at once (the setting `cells.traceback`)."""
    _shown_for = 0

    def __init__(self, message: str, *, near: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(masked(message))
        self.message = masked(message)
        self.near = tuple(near)
        self.hint = masked(hint)
        self.statement: str | None = None
        self.position: int | None = None

    def at(self, statement: str, position: int | None) -> Self:
        """The same error with the place in a statement (an offset in characters) that it is about."""
        self.statement, self.position = masked(statement), position
        return self

    @property
    def excerpt(self) -> str:
        """The line of the statement that is meant and a caret under the place; empty when no place is known."""
        if self.statement is None or self.position is None:
            return ""
        at = max(0, min(self.position, len(self.statement.rstrip())))  # a text that ends too early is marked at its end, not on an empty line
        start = self.statement.rfind("\n", 0, at) + 1
        end = self.statement.find("\n", at)
        line = self.statement[start : len(self.statement) if end < 0 else end]
        shift = max(0, at - start - 60)
        line, column = line[shift : shift + 100], at - start - shift
        return f"{line}\n{_blank(line[:column])}^"

    def lines(self) -> list[str]:
        """At most five lines: the sentence, the marked line with its caret, near names, what to do."""
        said = [self.message]
        if self.excerpt:
            said += self.excerpt.split("\n")
        if self.near:
            said.append("Did you mean " + ", ".join(self.near) + "?")
        if self.hint:
            said.append(self.hint)
        return said

    def rendered(self) -> list[str]:
        """At most five printable lines, the first with the kind of the error: what a notebook shows."""
        first, *rest = self.lines()
        said = [f"{type(self).__name__}: {' '.join(first.split())}", *rest]
        return ["".join(c if c.isprintable() or c == _WIDE else " " for c in line) for line in said[:5]]

    def _render_traceback_(self) -> list[str]:
        """Called by IPython: the five lines; the whole stack when asked again about the same raise (`%tb`), or each time with `full_traceback`."""
        asked_again = self._shown_for == id(self.__traceback__)
        self._shown_for = id(self.__traceback__)
        if self.full_traceback or asked_again:
            return "".join(traceback.format_exception(self)).rstrip("\n").split("\n")
        return self.rendered()

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


_WIDE = "\u3000"
"""The blank that is as wide as a character of East Asia, in a terminal and in a page."""


def _blank(text: str) -> str:
    """What is as wide as the text, so that what follows it stands below the text's end; marks that combine with a letter have no width."""
    return "".join(map(_blank_of, text))


def _blank_of(character: str) -> str:
    if character.isascii():
        return "\t" if character == "\t" else " "
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else " "


def brief(stop: KeyboardInterrupt, what: str = "The statement") -> KeyboardInterrupt:
    """The same interrupt, which a notebook then shows as one line with what was undone (its notes, else that `what` was stopped), not as a stack."""

    def rendered() -> list[str]:
        said = " ".join(" ".join(getattr(stop, "__notes__", ())).split())
        return [f"Interrupted. {said or f'{what} was stopped; nothing was left behind.'}"]

    stop._render_traceback_ = rendered  # type: ignore[attr-defined]  # IPython asks the exception itself
    return stop


def _rebuild(cls: type[JammiError], args: tuple[Any, ...], state: dict[str, Any]) -> JammiError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidArgument(JammiError, ValueError):
    """An argument has a value that the call cannot take."""


class NameInvalid(JammiError, ValueError):
    """A name was given that nothing may be called."""

    def __init__(self, message: str, *, name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name


class NameTooLong(NameInvalid):
    """A name is longer than its kind of thing allows."""

    def __init__(self, name: str, max: int) -> None:
        super().__init__(f"The name {name[:40]!r} has {len(name)} characters; at most {max} are allowed.", name=name)
        self.max = max


class SourceNotFound(JammiError, KeyError):
    """No source has that name."""


class TableNotFound(JammiError, KeyError):
    """No recipe, result table or source table has that name, or none of its versions is ready."""


class UnknownTable(JammiError, KeyError):
    """A session holds no table of that name."""

    def __init__(self, message: str, *, name: str = "", near: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, near=near, hint=hint)
        self.name = name


class RowNotFound(JammiError, KeyError):
    """A table has no row with that key."""


class ModelNotFound(JammiError, KeyError):
    """No model has that name and version."""


class TopicNotFound(JammiError, KeyError):
    """No topic has that name."""


class SourceExists(JammiError, ValueError):
    """A source of that name is registered already."""


class DuplicateTable(JammiError, ValueError):
    """A table of that name exists already."""

    def __init__(self, message: str, *, name: str = "", near: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, near=near, hint=hint)
        self.name = name


class DependencyCycle(JammiError, ValueError):
    """A definition would derive from itself."""

    def __init__(self, message: str, *, path: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = list(path)


class SqlError(JammiError):
    """A statement does not parse, does not bind, or failed while it ran."""


class StatementNotAllowed(JammiError):
    """A statement, or something in it, is not one that a workspace runs."""


class ParameterMissing(JammiError, ValueError):
    """A statement names a `$parameter` that was not given."""

    def __init__(self, message: str, *, parameter: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter


class SchemaMismatch(JammiError, ValueError):
    """Data do not have the columns, types or keys that are needed. `key`: of the first row with which that is so, where it is one row's fault."""

    def __init__(
        self, message: str, *, table: str = "", column: str = "", expected: str = "", actual: str = "", key: Any = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.table, self.column, self.expected, self.actual, self.key = table, column, expected, actual, key


class DuplicateKey(SchemaMismatch):
    """Rows share a key that must be unique, or lack one."""

    def __init__(self, message: str, *, keys: Sequence[Any] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.keys = list(keys)


class AmbiguousMatch(JammiError, ValueError):
    """More than one row or name matches where one is needed."""


class NotRecomputable(JammiError):
    """The table cannot be made again from here: its rows came from outside, or the function that makes them is not in this kernel."""


class StepFailed(JammiError):
    """The function of a Python step raised; what it raised is the cause."""

    def __init__(self, message: str, *, step: str = "", line: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step, self.line = step, line


class SourceUnavailable(JammiError):
    """A source cannot be read: not there, not readable, or not in the format that was said."""


class ExtensionMissing(JammiError):
    """An optional part is not installed."""


class SecretMissing(JammiError):
    """A source needs a credential that is not at hand."""


class ResourceExhausted(JammiError):
    """Memory, temporary space or disk ran out; what was acknowledged before is safe."""


class WorkspaceNotFound(JammiError, KeyError):
    """There is no workspace at that place."""


class WorkspaceReadOnly(JammiError):
    """The workspace cannot be written to."""


class CatalogTooNew(JammiError):
    """The catalog was written by a later release."""


class LostOwnership(JammiError):
    """Another writer settled a row that this one was building; nothing was published."""


class ForkedWorkspace(JammiError):
    """A workspace was carried over a fork into a child process."""


class VersionConflict(JammiError):
    """Another writer committed first, more often than the change was retried."""


class TableDamaged(JammiError):
    """The bytes of a result table are gone or are not the ones that were published."""

    def __init__(self, message: str, *, table: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.table = table


class ManifestUnsupported(JammiError):
    """A manifest has a version that this release does not read."""


class NoTenantBinding(JammiError):
    """The call needs a bound tenant."""


class TenantForbidden(JammiError):
    """A bound tenant may not change what is shared."""


class SessionClosed(JammiError):
    """The workspace or the session is closed already."""


class PartialDeletionFailure(JammiError):
    """A session ended, and some of its tables could not be dropped."""

    def __init__(self, message: str, *, session_id: str = "", failed: int = 0, total: int = 0, tables: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.session_id, self.failed, self.total, self.tables = session_id, failed, total, list(tables)


class ModelReferenced(JammiError):
    """A model cannot be deleted while something refers to it."""

    def __init__(self, message: str, *, references: Sequence[Any] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.references = list(references)

"""The tree of errors that jammi_lab raises, grouped by how a handler responds.

    JammiError
    ├── wrong name            NameInvalid · NameTooLong · SourceNotFound · TableNotFound
    │                         UnknownTable · RowNotFound · ModelNotFound · TopicNotFound
    │                         CheckNotFound
    ├── name already used     SourceExists · DuplicateTable · DuplicateKey · DependencyCycle
    ├── wrong request         InvalidArgument · SqlError · StatementNotAllowed · ParameterMissing
    │                         SchemaMismatch · AmbiguousMatch · NotRecomputable · StepFailed
    ├── missing resource      SourceUnavailable · ExtensionMissing · SecretMissing
    │                         ResourceExhausted
    ├── workspace state       WorkspaceNotFound · WorkspaceReadOnly · CatalogTooNew
    │                         LostOwnership · ForkedWorkspace · VersionConflict
    ├── stored data           TableDamaged · ManifestUnsupported · CheckFailed
    └── ownership             NoTenantBinding · TenantForbidden · SessionClosed
                              PartialDeletionFailure · ModelReferenced

A message states in one sentence what is wrong. `near` holds similar names, `hint` the next step.
Errors about a part of a statement carry it (`statement`, and `position` in characters) and draw a
caret under it. Failed look-ups are also `KeyError`, bad arguments also `ValueError`.
"""

import errno
import os
import re
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from jammi_lab.core.redaction import redact

_CREDENTIAL = (  # compiled when it is first used
    r"""(?<=://)[^\s/'"@:]*:[^\s/'"]*(?=@)|(?:(?<=http://)|(?<=https://))[^\s/'"@]+(?=@)"""
    r"""|(?i:(?<=[?&#;])(?>[\w.%-]*?(?:pass|pwd|token|secret|key|sig|auth|cred))[\w.%-]*(?:=|%3D)[^\s&'"]+)"""
)


_PUBLIC_MODULE = "jammi_lab.errors"


def mask_credentials(text: str) -> str:
    """The text with credentials replaced by as many asterisks: those that this process has used,
    and those inside URLs.

    Code that mentions a URL strips its credentials itself. This is the last safeguard, for texts
    written by other libraries.
    """
    text = redact(text)
    return (
        re.sub(_CREDENTIAL, lambda match: "*" * len(match[0]), text)
        if "://" in text or "?" in text
        else text
    )


def message_of(error: BaseException) -> str:
    """The message of an exception of a user's code, as text that can be stored: names of files may
    hold bytes that are no text, and PostgreSQL stores no NUL. Empty where the exception cannot tell
    it."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  `__str__` is the user's, too
        return ""
    return text.replace("\0", r"\0").encode("utf-8", "backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """The beginning of what an exception says, else its class, as a part of a sentence."""
    return (message_of(error) or type(error).__name__).splitlines()[0][:160]


def advice_of(error: "JammiError") -> list[str]:
    """The lines below the message of an error and its statement: similar names, the hint."""
    meant = [f"Did you mean {', '.join(error.near)}?"] if error.near else []
    return [*meant, error.hint] if error.hint else meant


class JammiError(Exception):
    """The base of all errors that jammi_lab raises. Further fields are those that a class declares,
    and are passed by name."""

    full_traceback: ClassVar[bool] = False
    """Whether a notebook shows the full traceback at once (the setting `cells.traceback`)."""
    _is_of_catalog = False
    _rendered_traceback_id = 0

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__:  # displayed and pickled under the public path
            cls.__module__ = _PUBLIC_MODULE

    def __init__(
        self, message: str, *, near: Iterable[str] = (), hint: str = "", **fields: Any
    ) -> None:
        super().__init__(mask_credentials(message))
        for name, value in fields.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no field {name!r}.")
            setattr(self, name, value)
        self.message = mask_credentials(message)
        self.near = tuple(map(mask_credentials, near))
        self.hint = mask_credentials(hint)
        self.statement: str | None = None
        self.position: int | None = None

    def with_position(self, statement: str, position: int | None) -> Self:
        """Attach a statement and an offset in characters to this error, and return it."""
        self.statement, self.position = mask_credentials(statement), position
        return self

    @property
    def excerpt(self) -> str:
        """The line of the statement that the error is about, with a caret under the position. Empty
        when no position is known."""
        if self.statement is None or self.position is None:
            return ""
        # Mark a statement that ends too early at its end, not on an empty line after it.
        position = max(0, min(self.position, len(self.statement.rstrip())))
        start = self.statement.rfind("\n", 0, position) + 1
        end = self.statement.find("\n", position)
        line = self.statement[start : len(self.statement) if end < 0 else end]
        # Of a long line, show at most 60 characters before the position and 100 in all.
        shift = max(0, position - start - 60)
        line, column = line[shift : shift + 100], position - start - shift
        if shift:
            line = f"…{line[1:]}"  # in place of a character, so that the caret keeps its column
        return f"{line}\n{_padding(line[:column])}^"

    def lines(self) -> list[str]:
        """At most five lines: the message, the marked line with its caret, similar names, the
        hint."""
        lines = [self.message]
        if self.excerpt:
            lines += self.excerpt.split("\n")
        return [*lines, *advice_of(self)]

    def rendered_lines(self) -> list[str]:
        """At most five printable lines of at most `MAX_LINE_CHARACTERS`, the first with the class
        name, as a notebook shows them."""
        first, *details = self.lines()
        lines = [f"{type(self).__name__}: {' '.join(first.split())}", *details]
        return [_printable(line) for line in lines[:5]]

    def _render_traceback_(self) -> list[str]:
        """Called by IPython. Returns the five lines, or the full traceback when the same error is
        rendered again (`%tb`) or `full_traceback` is set."""
        # A second rendering of the same raise comes from `%tb`, which asks for the whole stack.
        asked_again = self._rendered_traceback_id == id(self.__traceback__)
        self._rendered_traceback_id = id(self.__traceback__)
        if self.full_traceback or asked_again:
            return "".join(traceback.format_exception(self)).rstrip("\n").split("\n")
        return self.rendered_lines()

    def __str__(self) -> str:
        text = "\n".join(self.lines())
        return text.encode("utf-8", "backslashreplace").decode()  # it can be printed

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def of_catalog(error: JammiError) -> JammiError:
    """Mark an error as one of the workspace's own database, not of what was asked of it."""
    error._is_of_catalog = True
    return error


def is_of_machine(error: JammiError) -> bool:
    """Whether what failed is the machine or the workspace's database, and not what was asked of
    it."""
    return error._is_of_catalog or isinstance(error, ResourceExhausted)


MAX_LINE_CHARACTERS = 1_000
"""Of a name or a value of any length that an error repeats, its beginning is shown."""
_WIDE_SPACE = "\u3000"
"""The ideographic space: as wide as an East Asian character in terminals and browsers."""


JammiError.__module__ = _PUBLIC_MODULE


def _printable(line: str) -> str:
    end = "…" if len(line) > MAX_LINE_CHARACTERS else ""
    shown = line[: MAX_LINE_CHARACTERS - len(end)] + end
    return "".join(c if c.isprintable() or c == _WIDE_SPACE else " " for c in shown)


def _padding(text: str) -> str:
    """White space as wide as the text, so that what follows it is aligned with the text's end.
    Combining characters have no width."""
    return "".join(map(_padding_character, text))


def _padding_character(character: str) -> str:
    if character.isascii():
        return "\t" if character == "\t" else " "
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    return _WIDE_SPACE if unicodedata.east_asian_width(character) in "WF" else " "


def shorten_interrupt(
    interrupt: KeyboardInterrupt, subject: str = "The statement"
) -> KeyboardInterrupt:
    """The same interrupt, shown by a notebook as one line instead of a traceback: its notes, or
    else that `subject` was stopped."""

    def render() -> list[str]:
        notes = " ".join(" ".join(getattr(interrupt, "__notes__", ())).split())
        return [f"Interrupted. {notes or f'{subject} was stopped; nothing was left behind.'}"]

    interrupt._render_traceback_ = render  # type: ignore[attr-defined]  # IPython asks the exception itself
    return interrupt


def _rebuild(cls: type[JammiError], args: tuple[Any, ...], state: dict[str, Any]) -> JammiError:
    # Without `__init__`, whose signature differs from class to class.
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidArgument(JammiError, ValueError):
    """An argument has a value that the call cannot take."""


class NameInvalid(JammiError, ValueError):
    """A name is not allowed."""

    name: str = ""


class NameTooLong(NameInvalid):
    """A name exceeds the length allowed for its kind of object."""

    max: int = 0

    def __init__(self, name: str, max: int) -> None:
        super().__init__(
            f"The name {name[:40]!r} has {len(name)} characters; at most {max} are allowed.",
            name=name,
            max=max,
        )


class SourceNotFound(JammiError, KeyError):
    """No source has that name."""


class TableNotFound(JammiError, KeyError):
    """No recipe, result table or source table has that name, or none of its versions is ready."""


class UnknownTable(JammiError, KeyError):
    """A session has no table with that name."""

    name: str = ""


class RowNotFound(JammiError, KeyError):
    """A table has no row with that key."""


class ModelNotFound(JammiError, KeyError):
    """No model has that name and version."""


class TopicNotFound(JammiError, KeyError):
    """No topic has that name."""


class CheckNotFound(JammiError, KeyError):
    """No check has that name."""


class SourceExists(JammiError, ValueError):
    """A source with that name is already registered."""


class DuplicateTable(JammiError, ValueError):
    """A table with that name already exists."""

    name: str = ""


class DependencyCycle(JammiError, ValueError):
    """A definition would derive from itself."""

    path: Sequence[str] = ()


class SqlError(JammiError):
    """A statement does not parse, does not bind, or failed while running."""


class StatementNotAllowed(JammiError):
    """A statement, or a part of it, is not allowed in a workspace."""


class ParameterMissing(JammiError, ValueError):
    """A `$parameter` of a statement has no value."""

    parameter: str = ""


class SchemaMismatch(JammiError, ValueError):
    """Data lack the required columns, types or keys. `key` is the key of the first offending row,
    if the mismatch is in single rows."""

    table: str = ""
    column: str = ""
    expected: str = ""
    actual: str = ""
    key: Any = None


class DuplicateKey(SchemaMismatch):
    """Two rows have the same key, or a key is NULL."""

    keys: Sequence[Any] = ()


class AmbiguousMatch(JammiError, ValueError):
    """Several rows or names match where exactly one is required."""


class NotRecomputable(JammiError):
    """The table cannot be recomputed here: its rows were supplied from outside, or the function
    that computes them is not defined in this kernel."""


class StepFailed(JammiError):
    """The function of a Python step raised an exception, which is the cause; or steps of
    `%jammi recompute` failed."""

    step: str = ""
    line: int | None = None


class SourceUnavailable(JammiError):
    """A source cannot be read: missing, unreadable, or not in the declared format."""


class ExtensionMissing(JammiError):
    """An optional dependency is not installed."""


class SecretMissing(JammiError):
    """A source needs a credential that is not available."""


class ResourceExhausted(JammiError):
    """Memory, temporary space or disk is full. Everything acknowledged before is safe."""


class WorkspaceNotFound(JammiError, KeyError):
    """There is no workspace at that location."""


class WorkspaceReadOnly(JammiError):
    """The workspace cannot be written to."""


class CatalogTooNew(JammiError):
    """The catalog was written by a newer release."""


class LostOwnership(JammiError):
    """Another kernel finished or discarded the computation, or dropped its recipe."""


class ForkedWorkspace(JammiError):
    """A workspace was used in a forked child process."""


_QUOTING_ERRORS = {"JammiError", "DataError", "IntegrityError", "ProgrammingError", "ValueError"}
"""Of the drivers of databases, and of Arrow, whose invalid data are a ValueError."""
_TOO_MANY_FILES = re.compile(r"(?:^|[:\]] )Too many open files")


def quotes_data(error: BaseException) -> bool:
    """Whether the message of an error may repeat rows, names or a statement: nothing is concluded
    from its words."""
    return any(kind.__name__ in _QUOTING_ERRORS for kind in type(error).__mro__)


def too_many_open_files(error: BaseException, subject: str) -> ResourceExhausted | None:
    """The error for an operation on `subject` that failed because this process, or the system, has
    no descriptor left; None for any other. The file itself may be whole."""
    if isinstance(error, OSError) and error.errno is not None:
        is_meant = error.errno in (errno.EMFILE, errno.ENFILE)
    else:
        is_meant = not quotes_data(error) and _TOO_MANY_FILES.search(message_of(error)) is not None
    if not is_meant:
        return None
    return ResourceExhausted(
        f"{subject} cannot be opened: too many open files.",
        hint="Close files that this kernel has open, or raise the limit (ulimit -n), and run it "
        "again.",
    )


def check_not_forked(opening_process: int) -> None:
    """Raise ForkedWorkspace in another process than the one that opened the workspace."""
    if os.getpid() != opening_process:
        raise ForkedWorkspace(
            "This workspace was opened before the process forked and cannot be used in the child.",
            hint="Open it again in the child: jammi_lab.open(path).",
        )


class VersionConflict(JammiError):
    """A change was retried, and each time another writer committed first."""


class TableDamaged(JammiError):
    """The bytes of a result table are missing or differ from those published."""

    table: str = ""


def invalid_row_error() -> TableDamaged:
    """The error for a row of the catalog with a value that no release stores."""
    return TableDamaged(
        "The catalog is damaged: a row contains invalid data.",
        hint="jammi_lab.rebuild(path) creates a new catalog from the manifests and keeps this one.",
    )


class ManifestUnsupported(JammiError):
    """A manifest has a version that this release cannot read."""


class CheckFailed(JammiError):
    """A blocking check did not pass. The version that it checked was rejected, and the name
    refers to the last version that passed. `failing` is None when the check could not be run;
    `sample` has the first failing rows, as dicts."""

    check: str = ""
    table: str = ""
    failing: int | None = None
    sample: Sequence[Any] = ()


class NoTenantBinding(JammiError):
    """The call requires a bound tenant."""


class TenantForbidden(JammiError):
    """A bound tenant may not change shared objects."""


class SessionClosed(JammiError):
    """The workspace or session is already closed."""


class PartialDeletionFailure(JammiError):
    """A session ended, but some of its tables could not be dropped."""

    session_id: str = ""
    failed: int = 0
    total: int = 0
    tables: Sequence[str] = ()


class ModelReferenced(JammiError):
    """A model cannot be deleted while it is referenced."""

    references: Sequence[Any] = ()

"""What several verbs share: checks of arguments, and the option `progress=`."""

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from jammi_lab.core.errors import InvalidArgument, WorkspaceReadOnly
from jammi_lab.core.records import OnProgress, ProgressOption
from jammi_lab.freshness.reports import progress_callback

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


def list_of_names(names: str | Iterable[T] | None) -> list[T | str]:
    """Names as a list: one name, several, or none. InvalidArgument for other types."""
    if not isinstance(names, str | Iterable | None):
        raise InvalidArgument(
            f"Names of columns and tables must be strings, got {type(names).__name__}."
        )
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    return [*names]


def check_writable(*, read_only: bool) -> None:
    """Raise WorkspaceReadOnly when the workspace is open read-only."""
    if read_only:
        raise WorkspaceReadOnly(
            "This workspace is open read-only; nothing can be created or changed.",
            hint="Open it without read_only=True.",
        )


def takes_no_name(hint: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: a positional argument raises InvalidArgument with this hint.

    Users pass a name to such a method by habit (`ws.status("papers")`). Python's TypeError would
    not name the method that takes one.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(method)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if len(args) > 1:
                raise InvalidArgument(
                    f"ws.{method.__name__} takes no name and no positional argument, got "
                    f"{args[1]!r}.",
                    hint=hint,
                )
            return method(*args, **kwargs)

        return wrapper

    return decorate


class ProgressReporter:
    """The default callback of a workspace, which the notebook sets."""

    def __init__(self) -> None:
        self.default: OnProgress | None = None
        """Receives progress where a call does not pass `progress=`."""

    def callback(self, option: ProgressOption) -> OnProgress | None:
        """The callback for the argument `progress=` of a verb. InvalidArgument."""
        return progress_callback(option, self.default)

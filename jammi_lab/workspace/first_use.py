"""Parts of a workspace that are built, and whose modules are imported, when they are first used."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from jammi_lab.core.errors import ResourceExhausted
from jammi_lab.core.module_imports import import_modules
from jammi_lab.store.storage_errors import reason_of

Part = TypeVar("Part")


@contextlib.contextmanager
def load_modules() -> Iterator[None]:
    """Import modules in the block, as `import_modules`. ResourceExhausted when one cannot be read,
    as without file descriptors; RuntimeError when the interpreter is shutting down."""
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is shutting down")
    try:
        with import_modules():
            yield
    except OSError as error:
        raise ResourceExhausted(
            f"A part of jammi_lab cannot be loaded: {reason_of(error)}.",
            hint="Nothing was changed. Close files that this kernel has open, or raise the "
            "limit (ulimit -n), and run it again.",
        ) from error


class first_use(Generic[Part]):  # noqa: N801  used as a decorator, like `property`
    """A part of a workspace that is built, and whose modules are imported, when it is first used;
    once, also where several threads ask for it."""

    def __init__(self, build: Callable[[Any], Part]) -> None:
        self._build, self._name = build, build.__name__
        self.__doc__ = build.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Part:
        """Raises as `load_modules`."""
        parts = vars(instance)  # it comes first from here on: this is no data descriptor
        with load_modules(), instance.building:
            if self._name not in parts:
                parts[self._name] = self._build(instance)
        part: Part = parts[self._name]
        return part

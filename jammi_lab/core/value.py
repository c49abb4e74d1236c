"""The base class of frozen values, with `to_dict()`, and shortened digests for messages."""

from typing import Any, ClassVar, Self

import msgspec

from jammi_lab.core.html import Rendered, escape, preformatted


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value that compares by its fields."""

    _volatile_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that differ from run to run. They are left out of the repr."""

    def __repr__(self) -> str:
        fields = (
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            if name not in self._volatile_fields
        )
        return f"{type(self).__name__}({', '.join(fields)})"

    def _repr_html_(self) -> str:
        return preformatted(escape(repr(self)))

    def with_values(self, **values: Any) -> Self:
        """The same with other values of some fields."""
        return msgspec.structs.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """The value as dicts, lists, strings and numbers. Tagged unions carry their tag under
        `kind`."""
        builtins: dict[str, Any] = tuples_to_lists(msgspec.to_builtins(self))
        return builtins


class DisplayedValue(Value, frozen=True):
    """A value that a notebook and a terminal show in a form of its own."""

    def _rendered(self) -> Rendered:
        raise TypeError(f"{type(self).__name__} has no form")

    def _repr_html_(self) -> str:
        return self._rendered().html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(self._rendered().text)


_CONTAINERS = (dict, list, tuple)


def tuples_to_lists(value: Any) -> Any:
    """The value with every tuple replaced by a list, as it would come back from JSON."""
    if isinstance(value, dict):
        return {
            key: tuples_to_lists(item) if isinstance(item, _CONTAINERS) else item
            for key, item in value.items()
        }
    return [tuples_to_lists(item) for item in value] if isinstance(value, list | tuple) else value


def short_digest(digest: str | None) -> str:
    """The first 12 characters of a digest, for messages."""
    return "none" if digest is None else digest[:12]

"""What all values share: `to_dict()` and short digests in sentences."""

from typing import Any, ClassVar

import msgspec

from jammi_lab.markup import escape, lines


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value that compares by its fields."""

    _untold: ClassVar[tuple[str, ...]] = ()
    """Fields that differ from run to run: no part of the repr."""

    def __repr__(self) -> str:
        told = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self._untold)
        return f"{type(self).__name__}({', '.join(told)})"

    def _repr_html_(self) -> str:
        return lines(escape(repr(self)))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, texts and numbers; sums carry their tag under `kind`."""
        plain: dict[str, Any] = _listed(msgspec.to_builtins(self))
        return plain


_HOLDING = (dict, list, tuple)


def _listed(value: Any) -> Any:
    """The same with lists in the place of tuples, as it would come back from JSON."""
    if isinstance(value, dict):
        return {key: _listed(each) if isinstance(each, _HOLDING) else each for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def short(digest: str | None) -> str:
    """The first 12 characters of a digest, for people."""
    return "none" if digest is None else digest[:12]

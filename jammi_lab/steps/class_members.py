"""Classes that a Python function names: which can be compared by their members, and these."""

import abc
import collections.abc
import numbers
import types
from typing import Any

_DERIVED = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"),
        *("__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__"),
        "__conditional_annotations__",
    }
)
"""Members that tell where a class was defined, follow from others, or are annotations."""
_SLOT_TYPES = (types.MemberDescriptorType, types.GetSetDescriptorType)
_WRITTEN_KINDS = {"dataclass": "__dataclass_fields__", "named tuple": "_field_defaults"}
"""Classes with methods that Python writes, each with a member that tells it."""
_ABSTRACT_CLASSES = [
    value
    for module in (collections.abc, numbers)
    for value in vars(module).values()
    if isinstance(value, abc.ABCMeta)
]
"""Python's own abstract classes for containers and numbers."""


def refusal_of_class(cls: type) -> str:
    """Why a class cannot be compared by its members, as a clause; empty when it can."""
    name = cls.__qualname__
    if type(cls) is not type:
        return f"the class {name} is made by {type(cls).__name__}"
    for word, mark in _WRITTEN_KINDS.items():
        if mark in vars(cls):
            return f"{name} is a {word}"
    if any(cls in _virtual_subclasses(each) for each in _ABSTRACT_CLASSES):
        return f"the class {name} has to do with ABCMeta.register"
    return ""


def _virtual_subclasses(cls: type) -> list[type | None]:
    """The virtual subclasses of an abstract class."""
    references = abc._get_dump(cls)[0]  # type: ignore[attr-defined]  # no public way
    return [reference() for reference in references]


def own_members(cls: type) -> dict[str, Any]:
    """The members of a class that do not follow from others, in the order of their names. The place
    of a field is its name."""
    members = dict[str, Any]()
    for name, value in sorted(vars(cls).items()):
        if name not in _DERIVED:
            is_slot = isinstance(value, _SLOT_TYPES)
            members[name] = (type(value), value.__name__) if is_slot else value
    return members

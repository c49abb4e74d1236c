"""Recipes as frozen values: what a person writes is what the catalog stores. The fields of a class
are those of its stored form, the descriptor; its definition hash covers what shapes the rows."""

import contextlib
import copy
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol, Self

import msgspec

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import (
    HASH_SCHEME,
    StepInput,
    decode_param,
    encode_param,
)
from jammi_lab.core.entry_points import RECIPES, load_package_entry, package_entries
from jammi_lab.core.errors import ExtensionMissing, JammiError, invalid_row_error
from jammi_lab.core.identifiers import fold
from jammi_lab.core.value import tuples_to_lists


class TableHandle(Protocol):
    """A table of the workspace, as a call returned it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


Table = str | TableHandle | StepInput
"""An input of a recipe: a name, a handle or SQL as written; once bound, with its statement."""


@dataclass(frozen=True)
class Stored:
    """How a field of a recipe is stored in its descriptor."""

    name: str = ""
    """Its name there; that of the field when empty."""
    type: Any = None
    """The type that it is read as; that of the field when None."""
    hashed: bool = True
    """Whether it defines the rows."""
    optional: bool = False
    """Whether None is left out."""
    write: Callable[[Any], Any] = msgspec.to_builtins
    """The value as JSON has it."""
    read: Callable[[Any], Any] = lambda value: value
    """The value of what was read."""


def encode_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Bound values by name, as JSON that preserves their types. Raises as `encode_param`."""
    return {name: encode_param(value) for name, value in sorted((params or {}).items())}


def decode_params(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `encode_params` encoded."""
    return {name: decode_param(value) for name, value in stored.items()}


PARAMS = Stored(type=dict[str, Any], write=encode_params, read=decode_params)
"""Bound values by name."""
NAMES = Stored(type=list[str])
"""Names of columns."""
AS_WRITTEN = Stored(hashed=False)
"""What records only how a definition was written or is run."""
"""The canonical form of a statement."""


class RecipeValue:
    """The inputs and settings of a table, without its name. Subclasses are frozen dataclasses."""

    kind: ClassVar[str] = ""
    """The kind of table that it makes; in descriptors, the producer."""
    stored_as: ClassVar[Mapping[str, Stored | None]] = {}
    """How fields are stored where the field does not tell it; None for fields that are not."""

    is_statement: ClassVar[bool] = False
    """Whether the engine alone computes its rows."""
    reuses_rows: ClassVar[bool] = False
    """Whether a run takes rows over from an earlier version."""
    resupply_hint: ClassVar[str] = ""
    """How the rows of a table `{0!r}` that come from outside are passed again; empty where they are
    computed here."""
    has_vectors: ClassVar[bool] = False
    """Whether its tables have the columns key and vector, and are searched by meaning."""
    has_words: ClassVar[bool] = False
    """Whether its tables are searched by words."""
    has_texts: ClassVar[bool] = False
    """Whether its rows are computed from texts of a source."""
    has_encoder: ClassVar[bool] = False
    """Whether a model computes its rows."""
    combines_vectors: ClassVar[bool] = False
    """Whether its vectors are combined from those of a table."""
    keeps_rows: ClassVar[bool] = False
    """Whether its rows are those of the table whose vectors it combines."""
    metric: ClassVar[str | None] = None
    """How its vectors are compared."""

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            _classes[cls.kind] = cls

    def to_descriptor(self) -> dict[str, Any]:
        """The stored form, which `from_descriptor` reads."""
        descriptor: dict[str, Any] = {"producer": self.kind}
        for field, stored in _stored_fields(type(self)).items():
            value = tuples_to_lists(stored.write(getattr(self, field)))
            if value is not None or not stored.optional:
                descriptor[stored.name] = value
        return descriptor

    @classmethod
    def from_descriptor(cls, descriptor: Mapping[str, Any]) -> Self:
        """The recipe of a stored form. Raises TableDamaged."""
        recipe = object.__new__(cls)
        try:
            for field, stored in _stored_fields(cls).items():
                value = None
                if stored.name in descriptor or not stored.optional:
                    value = msgspec.convert(descriptor[stored.name], stored.type)
                object.__setattr__(recipe, field, stored.read(value))
        except JammiError:
            raise
        except (msgspec.ValidationError, LookupError, TypeError, ValueError, ArithmeticError):
            raise invalid_row_error() from None
        return recipe

    def with_values(self, **values: Any) -> Self:
        """A copy with other values, also of fields that are set when it is bound."""
        changed = copy.copy(self)
        for field, value in values.items():
            object.__setattr__(changed, field, value)
        return changed

    def identity(self) -> dict[str, Any]:
        """What the definition hash covers."""
        return hashed_fields(self.to_descriptor())

    def to_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists, strings and numbers, with the class in snake_case under
        `kind`. Tables, functions and models are their names."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return {"kind": name} | {
            each.name: _to_plain(getattr(self, each.name)) for each in _written_fields(self)
        }

    def __str__(self) -> str:
        """What it computes, and the fields that differ from their defaults."""
        purpose = (type(self).__doc__ or "").split(".")[0].replace("`", "")
        settings = []
        for each in _written_fields(self):
            if (
                getattr(self, each.name) is not each.default
                and getattr(self, each.name) != each.default
            ):
                settings.append(f"{each.name} {_to_plain(getattr(self, each.name))!r}")
        return f"{purpose}: {', '.join(settings)}."


_classes: dict[str, type[RecipeValue]] = {}
"""The classes of recipes by kind."""
_importers: list[Callable[[], None]] = []
"""Import the modules of further classes."""


def import_with(importer: Callable[[], None]) -> None:
    """Have further classes imported when one is looked up."""
    _importers.append(importer)


def recipe_classes() -> Mapping[str, type[RecipeValue]]:
    """All classes of recipes by kind."""
    for import_classes in _importers:
        import_classes()
    return _classes


def recipe_class(kind: Any) -> type[RecipeValue]:
    """The class of the recipes of a kind; RecipeValue itself for a kind that this kernel does not
    know, such as one of a package that is not installed."""
    if not isinstance(kind, str):
        return RecipeValue
    found = _classes.get(kind) or recipe_classes().get(kind)
    if found is None and fold(kind) in package_entries(RECIPES):
        with contextlib.suppress(ExtensionMissing):  # the package cannot be imported
            load_package_entry(RECIPES, kind)
        found = _classes.get(kind)
    return found or RecipeValue


def parse_descriptor(descriptor: Mapping[str, Any]) -> RecipeValue:
    """The recipe in a dict from a manifest or the catalog. Raises TableDamaged for anything
    else."""
    found = recipe_class(descriptor.get("producer"))
    if found is RecipeValue:
        raise invalid_row_error()
    return found.from_descriptor(descriptor)


def hashed_fields(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored descriptor that define its output, without those that record only how
    it was written."""
    found = recipe_class(descriptor.get("producer"))
    fields = {} if found is RecipeValue else _stored_fields(found)
    unhashed = {stored.name for stored in fields.values() if not stored.hashed}
    return {name: _canonical(value) for name, value in descriptor.items() if name not in unhashed}


def definition_hash(recipe: RecipeValue, environment: Mapping[str, Any]) -> str:
    """SHA-256 over the identity of a recipe and the environment that shapes its output."""
    return digest_of(
        {
            "scheme": HASH_SCHEME,
            "descriptor": recipe.identity(),
            "environment": dict(environment),
        }
    )


def _canonical(value: Any) -> Any:
    """A stored value with the canonical form of each input in place of the input."""
    if isinstance(value, Mapping) and value.keys() == {"asked", "statement", "canonical"}:
        return value["canonical"]
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def is_number(value: Any, *, whole: bool = False, optional: bool = False) -> bool:
    """Whether a value is a finite number, of Python or numpy, and no boolean. `whole`: an integer;
    `optional`: or None."""
    if value is None:
        return optional
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    if getattr(getattr(value, "dtype", None), "kind", "") == "m":  # a duration is an Integral
        return False
    with contextlib.suppress(OverflowError, TypeError):  # too large for float
        return math.isfinite(value)
    return False


_stored: dict[type, dict[str, Stored]] = {}


def _stored_fields(cls: type[Any]) -> dict[str, Stored]:
    """How the fields of a class are stored, by field."""
    if cls in _stored:
        return _stored[cls]
    found: dict[str, Stored] = {}
    for each in dataclasses.fields(cls):
        stored = cls.stored_as.get(each.name, Stored())
        if stored is not None:
            found[each.name] = dataclasses.replace(
                stored, name=stored.name or each.name, type=stored.type or each.type
            )
    _stored[cls] = found
    return found


def _written_fields(value: Any) -> "list[dataclasses.Field[Any]]":
    """The fields that a person passes."""
    return [each for each in dataclasses.fields(value) if each.init]


def _to_plain(value: Any) -> Any:
    """A field as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    for attribute in ("asked", "name", "__qualname__"):  # an input; a table, a model; a function
        name = getattr(value, attribute, None)
        if isinstance(name, str):
            return name
    return str(value)

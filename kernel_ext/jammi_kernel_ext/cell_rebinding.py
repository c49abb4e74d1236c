"""Names that held other values while a cell ran than they hold at its end: `f = change; f(df);
f = len`. Cells are analysed at their end, so a name that is assigned several times stands for a
value that may change whatever it is used with, unless what it was assigned is known not to."""

import ast
import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jammi_kernel_ext.cell_syntax import LATE_BODIES, NamesOfCell, loaded_names, stored_names, walk
from jammi_kernel_ext.cell_values import (
    PLAIN_CONTAINERS,
    function_module,
    holds_code,
    is_data,
    is_data_type,
    is_immutable_type,
    is_installed,
    is_module,
    keeps_arguments,
    module_value,
)
from jammi_kernel_ext.cell_words import IN_PLACE, VALUE_LIBRARIES

MAX_EXAMINED_ELEMENTS = 1000
"""Elements of a container that are examined; one with more counts as unknown."""
_SIMPLE = frozenset((ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Delete, ast.Assert))
"""Statements that read their names before they assign any."""


class _Unknown:
    """A value of which nothing is known: it may change all that it is used with."""

    def __call__(self) -> None:
        raise NotImplementedError


_Unknown.__module__ = "__main__"
_UNKNOWN = _Unknown()


class Rebinding:
    """What is known of the names that a cell assigns, from statement to statement. `before`: the
    types of what the names held when it began, `replaced`: those that hold another object since,
    which functions and IPython itself assign, too."""

    def __init__(
        self,
        values: Mapping[str, Any],
        before: Mapping[str, type],
        replaced: Collection[str],
        parts: Sequence[Sequence[NamesOfCell]],
    ) -> None:
        self._values, self._before = values, before
        self._known: dict[str, bool] = {}
        """Whether what the names hold is known, of those that were assigned so far."""
        self._last = {
            name: at for at, each in enumerate(parts) for names in each for name in names.stored
        }
        self._unseen = set(replaced) - self._last.keys()
        self._at = -1
        self._is_needed = not _are_names_assigned_first(parts, self._unseen)

    def values_for(
        self, statements: Sequence[ast.stmt], parts: Sequence[NamesOfCell]
    ) -> Mapping[str, Any] | None:
        """The values with which the next statements are to be analysed, instead of those that the
        names hold at the end of the cell; None when these will do."""
        self._at += 1
        if not self._is_needed:
            return None
        stored = set[str]().union(*(names.stored for names in parts))
        loaded = set[str]().union(*(names.loaded for names in parts))
        suspects = {name for name in loaded if self._last.get(name, -1) >= self._at}
        suspects |= loaded & self._unseen
        if not suspects and all(self._last[name] == self._at for name in stored):
            return None
        assigned = dict[str, list[ast.AST | None]]()
        for target, value in _assignments(statements, parts):
            for name in target:
                assigned.setdefault(name, []).append(value)
        known = {name for name in stored | suspects if self._is_known(name)}
        is_simple = len(statements) == 1 and type(statements[0]) in _SIMPLE
        hidden = suspects - known
        if not is_simple:
            known = self._known_throughout(stored, known, assigned)
            hidden = suspects - known
        hidden = {name for name in hidden if not self._is_used_as_data(name, statements)}
        unknown = hidden if is_simple else (stored - known) | hidden
        for name in stored:
            self._known[name] = name in assigned and all(
                self._is_known_result(value, unknown) for value in assigned[name]
            )
        return {**self._values, **dict.fromkeys(hidden, _UNKNOWN)} if hidden else None

    def _known_throughout(
        self, stored: set[str], known: set[str], assigned: Mapping[str, list[ast.AST | None]]
    ) -> set[str]:
        """The names that hold known values at any time during a compound statement."""
        while True:
            unknown = {
                name
                for name in stored & known
                if name not in assigned
                or not all(self._is_known_result(v, stored - known) for v in assigned[name])
            }
            if not unknown:
                return known
            known = known - unknown

    def _is_known(self, name: str) -> bool:
        """Whether it is known what a name holds before the statement."""
        if name in self._known:
            return self._known[name]
        kind: Any = self._before.get(name)
        return kind is None or is_data_type(kind) or is_immutable_type(kind)

    def _is_known_result(self, value: ast.AST | None, unknown: set[str]) -> bool:
        """Whether the value of an expression is known to change nothing that it is used with."""
        if value is None or not all(map(self._gives_value, walk([value]))):
            return False
        for name in loaded_names(value):
            if name in unknown:
                return False
            if name in self._values:
                if not _is_harmless(self._values[name]):
                    return False
            elif not hasattr(builtins, name):
                return False
        return True

    def _gives_value(self, node: ast.AST) -> bool:
        """Whether a part of an expression makes no function or other object that changes what it is
        used with, given that the names in it do not. Methods of frames and numbers do not."""
        if type(node) in LATE_BODIES:
            return False
        if type(node) is ast.Attribute:
            value = module_value(node, self._values)
            return value is None or _is_harmless(value) or not callable(value)
        if type(node) is not ast.Call:
            return True
        called = node.func
        function = (
            self._values.get(called.id)
            if isinstance(called, ast.Name)
            else module_value(called, self._values)
        )
        return function is None or function_module(function).partition(".")[0] in VALUE_LIBRARIES

    def _is_used_as_data(self, name: str, statements: Sequence[ast.stmt]) -> bool:
        """Whether a name that holds a frame at the end is only used as one: functions of the user
        mostly give frames, and another object would have other methods."""
        value = self._values.get(name)
        if not is_data(value):
            return False
        for node in walk(list(statements)):
            if type(node) is ast.Call:
                match node.func:
                    case ast.Name(id=called) if called == name:
                        return False
                    case ast.Attribute(value=ast.Name(id=owner), attr=method) if (
                        owner == name and not hasattr(type(value), method)
                    ):
                        return False
        return True


def _are_names_assigned_first(
    parts: Sequence[Sequence[NamesOfCell]], unseen: Collection[str]
) -> bool:
    """Whether each name that a cell assigns is assigned by one statement, after which alone it is
    read, and no name is read that is replaced `unseen`: all hold one value while they are used."""
    later = set[str]()
    for each in reversed(parts):
        for names in each:
            if not later.isdisjoint(names.stored):
                return False
        for names in each:
            later |= names.stored
        for names in each:
            if not (later.isdisjoint(names.loaded) and names.loaded.isdisjoint(unseen)):
                return False
    return True


def _assignments(
    statements: Sequence[ast.stmt], parts: Iterable[NamesOfCell]
) -> Iterator[tuple[set[str], ast.AST | None]]:
    """The names that statements assign, with the expressions; None for what is no expression."""
    for names in parts:
        for target, value in names.aliases:
            yield {n for node in walk([target]) for n in stored_names(node)}, value
    for node in walk(list(statements)):
        match node:
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                yield {name}, value
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield {name}, None
            case ast.alias(name=module, asname=alias):
                name = alias or module.partition(".")[0]
                yield {name}, ast.Name(id=name, ctx=ast.Load())
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield {name}, None


def _is_harmless(value: Any, depth: int = 2) -> bool:
    """Whether a value changes nothing that it is used with: a frame, a number, a function of a
    library that keeps its arguments, or a container of these."""
    kind: Any = type(value)
    if is_immutable_type(kind) or is_data_type(kind):
        return True
    if is_module(value):
        return is_installed(value.__name__)
    if kind in PLAIN_CONTAINERS:
        elements = list(value.values()) if kind is dict else list(value)
        return (
            depth > 0
            and 0 < len(elements) <= MAX_EXAMINED_ELEMENTS
            and all(_is_harmless(each, depth - 1) for each in elements)
        )
    if not callable(value) or holds_code(value) or type(value) is _Unknown:
        return False
    is_named = getattr(value, "__name__", "") not in IN_PLACE
    return is_named and is_installed(function_module(value)) and keeps_arguments(value)

"""What the statements of a cell pass on, one after the other: for each name that they assign or
change, the names whose values its value depends on."""

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jammi_kernel_ext.cell_calls import note_harmless
from jammi_kernel_ext.cell_names import names_of
from jammi_kernel_ext.cell_rebinding import Rebinding
from jammi_kernel_ext.cell_simple import simple_names
from jammi_kernel_ext.cell_syntax import NamesOfCell, walk

_FORMER = "former "
"""The beginning of what stands for the object that a name held before the cell replaced it."""


class CellStep(NamedTuple):
    """A statement of a cell, or the header or the body of a loop."""

    names: NamesOfCell
    line: int
    """The line of the statement."""
    assigned: frozenset[str] = frozenset()
    """Names that it replaces whatever happens."""


class LateNames(NamedTuple):
    """What the functions that a name holds use when they are called."""

    late: frozenset[str] = frozenset()
    late_changed: frozenset[str] = frozenset()


@dataclass
class Flow:
    """What the statements of a cell have passed on so far."""

    names: NamesOfCell = field(default_factory=NamesOfCell)
    """The names that they use together."""
    sources: dict[str, set[str]] = field(default_factory=dict)
    """The names whose former values each name depends on that they assigned or changed."""
    everything: set[str] = field(default_factory=set)
    """The names whose former values any of them read."""
    last: set[str] = field(default_factory=set)
    """The names whose former values the last of them read."""
    replaced: set[str] = field(default_factory=set)
    """Names of whose former values nothing is left."""
    rebound: set[str] = field(default_factory=set)
    """Those that no statement read before."""
    late: dict[str, LateNames] = field(default_factory=dict)
    """What the functions use that names hold which they assigned or changed."""
    shared: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Names that may share objects since the cell began."""
    libraries: set[str] = field(default_factory=set)
    """Modules that they changed, which all code may read."""

    def pass_on(self, step: CellStep, read: set[str], late: frozenset[str]) -> None:
        """Add what a statement passes on to the names that it assigns and changes. `read`: the
        former values that it reads, `late`: the names that the functions read which it uses."""
        names = step.names
        self.last = read
        self.everything |= read
        for name in names.stored | names.changed:
            if name in step.assigned:
                self.sources[name] = read
                self.replaced.add(name)
                if name not in names.loaded and name not in self.names.loaded:
                    self.rebound.add(name)
                self.late.pop(name, None)
            else:
                self.sources[name] = self.sources.get(name, set()) | read
            if late:
                known = self.late.get(name, LateNames())
                changed = known.late_changed | (late & names.changed)
                self.late[name] = LateNames(known.late | late, changed)
        self.names.add(names)

    def share(self, names: set[str], others: set[str]) -> None:
        """Note that each of the names may share objects with the others from now on."""
        for name in names:
            for other in others:
                if other != name:
                    self.shared[name].add(other)
                    self.shared[other].add(name)

    def sharing(self, name: str, links: Mapping[str, set[str]]) -> Iterator[str]:
        """What may share objects with a name, given what did before the cell. A name that the cell
        replaced shares nothing of that any more; its former object goes on to."""
        if name.startswith(_FORMER):
            before = links.get(name.removeprefix(_FORMER), set())
        else:
            yield from self.shared.get(name, ())
            before = set() if name in self.rebound else links.get(name, set())
        for other in before:
            yield _FORMER + other if other in self.rebound else other


def is_former(name: str) -> bool:
    """Whether a name stands for the object that a name held before."""
    return name.startswith(_FORMER)


def steps_of_cell(
    tree: ast.Module,
    values: Mapping[str, Any],
    before: Mapping[str, type],
    replaced: Collection[str],
) -> list[CellStep]:
    """The statements of a cell, given the values of the notebook's names, the types of those when
    it began, and which of them have been `replaced` since."""
    analysed = list[tuple[NamesOfCell, ...]]()
    for statement in tree.body:
        analysed.append(_parts_of(statement, values))
        if type(statement) is ast.FunctionDef:
            note_harmless(analysed[-1][0], values)  # later statements may call it
    rebinding, steps = Rebinding(values, before, replaced, analysed), list[CellStep]()
    for statement, found in zip(tree.body, analysed, strict=True):
        parts = found
        others = rebinding.values_for([statement], found)
        line, assigned = statement.lineno, _assigned_names(statement)
        if decorators := getattr(statement, "decorator_list", None):
            line = min(line, *(each.lineno for each in decorators))
        if others is not None:
            refined = _parts_of(statement, others)
            for names, former in zip(refined, found, strict=True):
                names.note_opaque(former.opaque, reads_any=former.reads_any)
            parts = refined
        for names in parts:
            steps.append(CellStep(names, line, assigned))
    return steps


def whole_cell(
    tree: ast.Module,
    values: Mapping[str, Any],
    before: Mapping[str, type],
    replaced: Collection[str],
) -> list[CellStep]:
    """A cell as one step, for when it is not known what ran of it or in which order."""
    names = names_of(tree.body, values)
    others = Rebinding(values, before, replaced, [[names]]).values_for(tree.body, [names])
    if others is not None:
        first, names = names, names_of(tree.body, others)
        names.note_opaque(first.opaque, reads_any=first.reads_any)
    return [CellStep(names, 0)]


def _parts_of(statement: ast.stmt, values: Mapping[str, Any]) -> tuple[NamesOfCell, ...]:
    """The names of a statement. Those of a loop come apart, since its target depends on nothing
    that the body reads; twice, since the body may change what the next round reads."""
    if type(statement) is not ast.For or any(
        type(node) is ast.Break for node in walk(statement.body)
    ):
        return (simple_names(statement, values) or names_of([statement], values),)
    header = names_of([statement.target, statement.iter], values)
    header.aliases.append((statement.target, statement.iter))
    body = names_of([*statement.body, *statement.orelse], values)
    body.loaded |= header.loaded
    return header, body, header, body


def _assigned_names(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement replaces whatever happens."""
    if type(statement) is ast.Expr:
        return frozenset()
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return frozenset((name,))
        case ast.Assign(targets=targets):
            return frozenset().union(*map(_target_names, targets))
        case ast.AnnAssign(target=target, value=ast.expr()):
            return _target_names(target)
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return frozenset(each.asname or each.name.partition(".")[0] for each in names)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset((name,))
    return frozenset()


def _target_names(target: ast.expr) -> frozenset[str]:
    match target:
        case ast.Name(id=name):
            return frozenset((name,))
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return frozenset().union(*map(_target_names, parts))
        case ast.Starred(value=value):
            return _target_names(value)
    return frozenset()

"""The producer `python`: a function over inputs. Its definition is its source with what it names, or a version that the caller gives."""

import importlib
import importlib.util
import inspect
import linecache
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.engine import passwords
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, JammiError, NotRecomputable, StepFailed
from jammi_lab.names import fold, quote
from jammi_lab.producers.addresses import address
from jammi_lab.producers.base import Bound, Job, OnProgress, Rows, Running
from jammi_lab.producers.functions import function_digest, is_library, of_library
from jammi_lab.producers.keys import key_columns
from jammi_lab.producers.returned import as_table
from jammi_lab.producers.sourcetree import NoSource, Written, text_of
from jammi_lab.sources.base import Relation
from jammi_lab.sources.scratch import sql_types
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Input, InputKind, Unknown
from jammi_lab.values.descriptors import PythonDescriptor, StepInput, decode_param, encode_param
from jammi_lab.values.records import Progress, TableKind

REVISION = 1
"""Raised when equal functions over equal inputs would give other rows than before: how rows are ordered, how frames become tables."""
ON_SOURCE = "on its source; imported modules are not followed"
"""What a verdict on a step rests on."""
_INSTALLED = "its module {} is an installed package, from which no function is run by name alone"


def environment() -> dict[str, Any]:
    """What else shapes the rows: how they are ordered and stored."""
    return {"revision": REVISION}


class Opened(Protocol):
    """One input as the function gets it."""

    def close(self) -> None:
        """Let go of what is still being read."""
        ...


@dataclass(frozen=True)
class Step:
    """A function as it was given, with its source where that is in no file."""

    function: Callable[..., Any]
    written: Written | None = None

    @property
    def place(self) -> str:
        """`module:qualified name`, or `cell:name` for the text of a cell."""
        if self.written is not None:
            return f"cell:{self.written.tree.name}"
        name = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        return f"{getattr(self.function, '__module__', None) or '?'}:{name}"

    @property
    def source(self) -> str:
        """Its source for people; empty when there is none."""
        return text_of(self.function, self.written) if isinstance(self.function, types.FunctionType) else ""


class Made:
    """Provides the rows that a step gave, under a name that nothing else has."""

    NAME = "__jammi_made"

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(input=Input(kind=InputKind.FRAME, name=self.NAME), frame=rows, columns=sql_types(rows.schema))

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The rows, when they are meant."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> list[str]:
        """None: nobody is to be offered it."""
        return []


class PythonProducer:
    """Binds functions to their inputs, and keeps those that this kernel was given."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope
        self._steps: dict[str, Step] = {}
        self.opened: Callable[[Prepared], Opened] | None = None
        """Makes of a bound input what the function gets."""

    def job(
        self,
        name: str,
        step: Step,
        inputs: Sequence[str],
        params: Mapping[str, Any],
        version: str | None,
        key: Sequence[str] = (),
        extra: Sequence[Provider] = (),
    ) -> Job:
        """The function over its inputs as a job for the recipe `name`.

        Raises InvalidArgument for a function that cannot be called so, or whose definition cannot be told without a version; StatementNotAllowed for
        a password in what is kept of it; TableNotFound and what binding SQL raises.
        """
        for each, value in params.items():
            passwords.refuse_text(f"The value of {each!r}", value)
        encoded = {n: encode_param(v) for n, v in sorted(params.items())}
        _check_call(step.function, len(inputs), list(encoded))
        asked = [(each, f"SELECT * FROM {address(self._engine, self._scope.current, each, extra)}") for each in inputs]
        return self._bound(name, step, asked, encoded, version, list(key), extra)

    def from_descriptor(self, name: str, descriptor: PythonDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over the inputs as they are now. NotRecomputable when the function is not in this kernel."""
        step = self._found(descriptor, importing=True)
        if isinstance(step, str):
            raise NotRecomputable(f"The Python step {name!r} cannot be run: {step}.", hint=_again(name))
        asked = [(i.asked, i.statement) for i in descriptor.inputs]
        return self._bound(name, step, asked, descriptor.params, descriptor.version, descriptor.key, extra)

    def digest_today(self, descriptor: PythonDescriptor, *, importing: bool) -> str | Unknown:
        """What takes the place of the recorded digest as the function and what it names are now; Unknown when it is not in this kernel."""
        step = self._found(descriptor, importing=importing)
        if isinstance(step, str):
            return Unknown(step)
        if descriptor.version is not None:
            return descriptor.digest
        try:
            return function_digest(step.function, step.written)
        except NoSource as why:
            return Unknown(f"what its function says cannot be told: {why}")

    def hindrance(self, descriptor: PythonDescriptor) -> str | None:
        """Why such a step cannot be run in this kernel, a clause; None when it can."""
        step = self._found(descriptor, importing=True)
        return step if isinstance(step, str) else None

    def bound_today(self, descriptor: PythonDescriptor, extra: Sequence[Provider] = ()) -> tuple[list[Bound], bool]:
        """What a recorded definition reads today, and whether its inputs still say the same; needs no function. Raises as binding does."""
        prepared = [self._prepared(i.statement, extra) for i in descriptor.inputs]
        return _united(prepared), all(p.canonical() == i.canonical for p, i in zip(prepared, descriptor.inputs, strict=True))

    # -- finding the function ------------------------------------------------------------------------------------------------------

    def _found(self, descriptor: PythonDescriptor, *, importing: bool) -> Step | str:
        """The function of a recorded definition as it is in this kernel, or why it is not here, a clause.

        A module's function is what its name means there today; one of the notebook, or made inside another, is the one that was given.
        """
        given = self._steps.get(digest_of(descriptor.identity()))
        module, _, name = descriptor.function.partition(":")
        if module == "cell":
            return given or "its cell was not run in this kernel"
        if module in sys.modules and is_library(module):
            return given or _INSTALLED.format(module)
        if module == "__main__" or "<" in name:
            return given or f"its function {name} was not given to ws.compute in this kernel"
        if module not in sys.modules and given is None:
            if not importing:
                return f"its function {module}.{name} is not loaded in this kernel; ws.status(deep=True) imports it"
            if (why := _imported(module)) is not None:
                return why
        found: object = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, types.FunctionType):
            return Step(found)
        return given or f"its function {module}.{name} is not there any more"

    # -- running it ----------------------------------------------------------------------------------------------------------------

    def _bound(
        self,
        name: str,
        step: Step,
        asked: Sequence[tuple[str, str]],
        params: dict[str, Any],
        version: str | None,
        key: list[str],
        extra: Sequence[Provider],
    ) -> Job:
        source = step.source
        passwords.refuse_step(name, source)
        passwords.refuse_text(f"The version of the Python step {name!r}", version)
        prepared = [self._prepared(statement, extra) for _, statement in asked]
        descriptor = PythonDescriptor(
            function=step.place,
            source=source,
            version=version,
            digest=fold(name) if version is not None else _digest_of(step),
            inputs=[StepInput(each, statement, p.canonical()) for (each, statement), p in zip(asked, prepared, strict=True)],
            params=params,
            key=key,
        )
        self._steps[digest_of(descriptor.identity())] = step

        def rows(on_progress: OnProgress | None) -> Running:
            if on_progress:
                on_progress(Progress(stage=f"compute {name}", done=0, total=None, unit="rows"))
            return Running(self._rows(self._called(name, step, prepared, params), key))

        return Job(
            kind=TableKind.PYTHON,
            descriptor=descriptor,
            environment=environment(),
            inputs=_united(prepared),
            rows=rows,
            again=lambda: self._bound(name, step, asked, params, version, key, extra),
            key=key,
            volatile=sorted({v for p in prepared for v in p.volatile}),
            clock=any(p.clock for p in prepared),
            order_sensitive=bool(prepared),  # what a function makes of the order of rows is not known
        )

    def _prepared(self, statement: str, extra: Sequence[Provider]) -> Prepared:
        [prepared] = self._engine.prepare(statement, tenant=self._scope.current, extra=extra)
        return prepared

    def _called(self, name: str, step: Step, prepared: Sequence[Prepared], params: Mapping[str, Any]) -> pa.Table:
        """The rows that the function gives. StepFailed with what it raised as the cause; SchemaMismatch for what are no rows."""
        assert self.opened is not None, "the workspace says how an input is opened"
        inputs: list[Opened] = []

        def guarded(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except JammiError:  # an input that cannot be read says so itself
                raise
            except Exception as error:
                raise _failure(name, step, error) from error

        try:
            for each in prepared:
                inputs.append(self.opened(each))  # noqa: PERF401  those already open are closed when one fails
            given = {n: decode_param(v) for n, v in params.items()}
            return as_table(guarded(lambda: step.function(*inputs, **given)), name, guarded)
        finally:
            for opened in inputs:
                opened.close()

    def _rows(self, table: pa.Table, key: Sequence[str]) -> Rows:
        """The rows in their total order: by the key, then by every other column."""
        spelt = key_columns(table.schema.names, key)
        first = ", ".join(map(quote, spelt)) if spelt else "1"
        [prepared] = self._engine.prepare(f"SELECT * FROM {Made.NAME} ORDER BY {first}", tenant=self._scope.current, extra=[Made(table)])
        return prepared.run_ordered(spelt)


def _united(prepared: Sequence[Prepared]) -> list[Bound]:
    """All that is read, each input once with its columns united."""
    found: dict[tuple[str, str, str], Bound] = {}
    for each in (b for p in prepared for b in p.inputs):
        known = found.get(each.relation.input.identity)
        columns = {*each.columns, *(known.columns if known else ())}
        found[each.relation.input.identity] = Bound(known.relation if known else each.relation, tuple(sorted(columns)))
    return list(found.values())


def _digest_of(step: Step) -> str:
    try:
        return function_digest(step.function, step.written)
    except NoSource as why:
        said = str(why)
        raise InvalidArgument(
            f"What the function does cannot be told: {said}.",
            hint='Pass version="1", and another one whenever it should count as changed; or write it with def, in a file or cell, on plain values.',
        ) from None


def _check_call(function: Callable[..., Any], inputs: int, params: Sequence[str]) -> None:
    """Nothing, when the function can be called with so many inputs and these keywords. InvalidArgument."""
    if not callable(function):
        raise InvalidArgument(f"A Python step is a function, not a {type(function).__name__}.")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidArgument("A Python step is an ordinary function, not an async one.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C: it says itself what it does not take
    try:
        signature.bind(*range(inputs), **dict.fromkeys(params))
    except TypeError as error:
        given = f"{inputs} input{'' if inputs == 1 else 's'}" + (f" and {', '.join(params)}" if params else "")
        raise InvalidArgument(
            f"The function {getattr(function, '__name__', '')}{signature} cannot be called with {given}: {error}.",
            hint="It gets one Result for each of inputs=, in their order, and params= as keyword arguments.",
        ) from None


def _imported(module: str) -> str | None:
    """Nothing when a module of the person's own could be imported, else why not. What is installed is not run because a catalog names it."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is None:
            return f"its module {module} is not on the path of this kernel"
        if of_library(spec.origin or next(iter(spec.submodule_search_locations or []), None)):
            return _INSTALLED.format(module)
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 — a module of a person may raise anything while it is imported
        return f"its module {module} cannot be imported ({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''})"
    return None


def _again(name: str) -> str:
    return f"Define it and call ws.compute({name!r}, …) again; if nothing has moved, its table is taken over."


def _failure(name: str, step: Step, error: Exception) -> StepFailed:
    """The error for what a step raised, with the line of the step's own file or cell that it came from."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200].rstrip(".")
    code = getattr(step.function, "__code__", None)
    trace, at = error.__traceback__, None
    while trace is not None:
        if code is not None and trace.tb_frame.f_code.co_filename == code.co_filename:
            at = trace
        trace = trace.tb_next
    line = None if at is None else at.tb_lineno
    failed = StepFailed(
        f"The Python step {name!r} raised {type(error).__name__}{f': {said}' if said else ''}.",
        step=name,
        line=line,
        hint="" if line is None or code is None else _where(step, code.co_filename, line),
    )
    if at is None or line is None:
        return failed
    text = step.written.text if step.written is not None else linecache.getline(at.tb_frame.f_code.co_filename, line, at.tb_frame.f_globals)
    lines = text.split("\n")
    row = line - 1 if step.written is not None else 0
    if not 0 <= row < len(lines):
        return failed
    column = _column(at, lines[row])
    failed.at(text.rstrip("\n"), sum(len(each) + 1 for each in lines[:row]) + column)
    return failed


def _where(step: Step, filename: str, line: int) -> str:
    if step.written is not None:
        return f"Line {line + step.written.first_line - 1} of the cell."
    if filename.startswith("<") or "ipykernel" in filename:
        return f"Line {line} of the cell."
    return f"Line {line} of {filename.rsplit('/', 1)[-1]}."


def _column(trace: types.TracebackType, text: str) -> int:
    """Where in its line, in characters, what raised begins."""
    places = [*trace.tb_frame.f_code.co_positions()]
    at = trace.tb_lasti // 2
    column = places[at][2] if 0 <= at < len(places) else None
    indent = len(text) - len(text.lstrip())
    return indent if column is None else len(text.encode()[:column].decode(errors="ignore"))

"""The producer `python`: a function over inputs. Its definition is the digest of the function, or a
version that the caller gives."""

import importlib
import importlib.util
import inspect
import linecache
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from jammi_lab.core.anchors import Input, InputKind, Unknown
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import PythonDescriptor, StepInput, decode_param, encode_param
from jammi_lab.core.errors import InvalidArgument, JammiError, NotRecomputable, StepFailed
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.core.records import OnProgress, Progress, TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import credential_check
from jammi_lab.producers.from_clause import from_text
from jammi_lab.producers.function_digest import function_digest
from jammi_lab.producers.function_source import (
    InlineSource,
    NoSource,
    display_source,
    is_library,
    is_library_file,
)
from jammi_lab.producers.key_check import key_columns
from jammi_lab.producers.run import BoundInput, Job, RowStream, RunningJob
from jammi_lab.producers.step_output import to_table
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import sql_types

OUTPUT_VERSION = 1
"""Increment when equal functions over equal inputs would give other rows than before: how rows are
ordered, how frames become tables."""
SOURCE_BASIS = "on its source; imported modules are not followed"
"""The basis of a verdict on a step without a version."""
_FILE_CALL = re.compile(
    r"\bopen\(|\.(?:read|scan|load)(?:_\w+|txt|s)?\(|\.(?:fromfile|genfromtxt|connect|urlopen)\("
)
"""Calls that may read a file or an address."""
_INSTALLED_PACKAGE = (
    "its module {} is an installed package; jammi_lab does not run package functions by name alone"
)


def unwatched_files(source: str) -> list[str]:
    """The ground of a verdict on a step whose source may open files itself; otherwise empty."""
    return ["files that it opens are not watched"] if _FILE_CALL.search(source) else []


def environment() -> dict[str, Any]:
    """Everything besides the descriptor that shapes the rows: how they are ordered and stored."""
    return {"revision": OUTPUT_VERSION}


class OpenInput(Protocol):
    """One input as the function receives it."""

    def close(self) -> None:
        """Release the input."""
        ...


@dataclass(frozen=True)
class StepFunction:
    """A function, with its source when that is in no file."""

    function: Callable[..., Any]
    inline_source: InlineSource | None = None

    @property
    def qualified_name(self) -> str:
        """`module:qualified name`, or `cell:name` for a function from a notebook cell."""
        if self.inline_source is not None:
            return f"cell:{self.inline_source.tree.name}"
        name = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        return f"{getattr(self.function, '__module__', None) or '?'}:{name}"

    @property
    def source(self) -> str:
        """The source for display; empty when there is none."""
        return (
            display_source(self.function, self.inline_source)
            if isinstance(self.function, types.FunctionType)
            else ""
        )


class StepRows:
    """A name provider for the rows of a step, under a name that no user table has."""

    NAME = "__jammi_made"

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(
            Input(kind=InputKind.FRAME, name=self.NAME),
            ReadPlan(frame=rows),
            columns=sql_types(rows.schema),
        )

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of the rows, when `parts` is their name."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> list[str]:
        """Empty, so that the name is never suggested."""
        return []


class PythonProducer:
    """Binds functions to their inputs, and remembers the functions given to this kernel."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope
        self._steps: dict[str, StepFunction] = {}
        self.open_input: Callable[[PreparedStatement], OpenInput] | None = None
        """Opens a bound input as the object that the function receives; set by the workspace."""

    def job(
        self,
        name: str,
        step: StepFunction,
        inputs: Sequence[str],
        params: Mapping[str, Any],
        version: str | None,
        key: Sequence[str] = (),
        resolvers: Sequence[NameResolver] = (),
    ) -> Job:
        """The job of a function over its inputs, for the recipe `name`.

        Raises InvalidArgument when the function cannot be called with these arguments, or cannot be
        fingerprinted and has no version; StatementNotAllowed when a recorded text contains a
        password; TableNotFound and what binding SQL raises.
        """
        for name_or_input, value in params.items():
            credential_check.check_text(f"The value of {name_or_input!r}", value)
        encoded = {n: encode_param(v) for n, v in sorted(params.items())}
        _check_call(step.function, len(inputs), list(encoded))
        references = [
            (
                name_or_input,
                (
                    "SELECT * FROM "
                    f"{from_text(self._engine, self._scope.current, name_or_input, resolvers)}"
                ),
            )
            for name_or_input in inputs
        ]
        return self._bind(name, step, references, encoded, version, list(key), resolvers)

    def from_descriptor(
        self, name: str, descriptor: PythonDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises NotRecomputable when the
        function is not in this kernel."""
        step = self._find_function(descriptor, import_module=True)
        if isinstance(step, str):
            raise NotRecomputable(
                f"The Python step {name!r} cannot be run: {step}.", hint=_rerun_hint(name)
            )
        references = [recorded.reference for recorded in descriptor.inputs]
        return self._bind(
            name, step, references, descriptor.params, descriptor.version, descriptor.key, resolvers
        )

    def current_digest(self, descriptor: PythonDescriptor, *, import_module: bool) -> str | Unknown:
        """The digest of a recorded step's function as it is now; Unknown when the function is not
        in this kernel. `import_module`: import its module if needed."""
        step = self._find_function(descriptor, import_module=import_module)
        if isinstance(step, str):
            return Unknown(step)
        if descriptor.version is not None:
            return descriptor.digest
        try:
            return function_digest(step.function, step.inline_source)
        except NoSource as error:
            return Unknown(f"its function cannot be fingerprinted: {error}")

    def missing_requirement(self, descriptor: PythonDescriptor) -> str | None:
        """Why a recorded step cannot run in this kernel, as a clause; None when it can."""
        step = self._find_function(descriptor, import_module=True)
        return step if isinstance(step, str) else None

    def current_inputs(
        self, descriptor: PythonDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> tuple[list[BoundInput], bool]:
        """The inputs of a recorded definition with the columns read today, and whether their
        statements still mean the same. Does not need the function. Raises what binding raises."""
        prepared = [self._prepare(i.statement, resolvers) for i in descriptor.inputs]
        return _merged_inputs(prepared), all(
            p.canonical() == i.canonical for p, i in zip(prepared, descriptor.inputs, strict=True)
        )

    # -- finding the function

    def _find_function(
        self, descriptor: PythonDescriptor, *, import_module: bool
    ) -> StepFunction | str:
        """The function of a recorded definition, or the reason why it is not in this kernel, as a
        clause.

        A function of a module is looked up by name in the module as it is today. A function of the
        notebook, or one defined inside another function, must have been given to this kernel.
        """
        known_step = self._steps.get(digest_of(descriptor.identity()))
        module, _, name = descriptor.function.partition(":")
        if module == "cell":
            return known_step or "its cell was not run in this kernel"
        if module in sys.modules and is_library(module):
            return known_step or _INSTALLED_PACKAGE.format(module)
        if module == "__main__" or "<" in name:
            return known_step or f"its function {name} was not given to ws.compute in this kernel"
        if module not in sys.modules and known_step is None:
            if not import_module:
                return (
                    f"its function {module}.{name} is not loaded in this kernel; "
                    "ws.status(deep=True) imports it"
                )
            if (reason := _import_error(module)) is not None:
                return reason
        target: object = sys.modules.get(module)
        for part in name.split("."):
            target = getattr(target, part, None)
        if isinstance(target, types.FunctionType):
            return StepFunction(target)
        return known_step or f"its function {module}.{name} no longer exists"

    # -- running it

    def _bind(
        self,
        name: str,
        step: StepFunction,
        references: Sequence[tuple[str, str]],
        params: dict[str, Any],
        version: str | None,
        key: list[str],
        resolvers: Sequence[NameResolver],
    ) -> Job:
        source = step.source
        credential_check.check_step(name, source)
        credential_check.check_text(f"The version of the Python step {name!r}", version)
        prepared = [self._prepare(statement, resolvers) for _, statement in references]
        descriptor = PythonDescriptor(
            function=step.qualified_name,
            source=source,
            version=version,
            digest=fold(name) if version is not None else _required_digest(step),
            inputs=[
                StepInput(reference, statement, p.canonical())
                for (reference, statement), p in zip(references, prepared, strict=True)
            ],
            params=params,
            key=key,
        )
        self._steps[digest_of(descriptor.identity())] = step

        def rows(on_progress: OnProgress | None) -> RunningJob:
            if on_progress:
                on_progress(Progress(stage=f"compute {name}", done=0, total=None, unit="rows"))
            return RunningJob(
                self._sorted_rows(self._call_function(name, step, prepared, params), key)
            )

        return Job(
            kind=TableKind.PYTHON,
            descriptor=descriptor,
            environment=environment(),
            inputs=_merged_inputs(prepared),
            start=rows,
            rebind=lambda: self._bind(name, step, references, params, version, key, resolvers),
            key=key,
            volatile=sorted({v for p in prepared for v in p.volatile}),
            reads_date=any(p.reads_clock for p in prepared),
            # a function may depend on the order of its input rows in any way
            order_sensitive=bool(prepared),
        )

    def _prepare(self, statement: str, resolvers: Sequence[NameResolver]) -> PreparedStatement:
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=resolvers
        )
        return prepared

    def _call_function(
        self,
        name: str,
        step: StepFunction,
        prepared: Sequence[PreparedStatement],
        params: Mapping[str, Any],
    ) -> pa.Table:
        """Call the function and return its rows. Raises StepFailed, with the function's own
        exception as the cause, and SchemaMismatch when it returns no rows."""
        assert self.open_input is not None, "set by the workspace"
        inputs: list[OpenInput] = []

        def call_step(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except JammiError:  # an unreadable input has an error of its own
                raise
            except Exception as error:
                raise _step_failure(name, step, error) from error

        try:
            for statement in prepared:
                # not a comprehension: the inputs opened so far are closed when one fails
                inputs.append(self.open_input(statement))  # noqa: PERF401
            arguments = {n: decode_param(v) for n, v in params.items()}
            return to_table(call_step(lambda: step.function(*inputs, **arguments)), name, call_step)
        finally:
            for open_input in inputs:
                open_input.close()

    def _sorted_rows(self, table: pa.Table, key: Sequence[str]) -> RowStream:
        """The rows in total order: by the key, then by all other columns."""
        key_names = key_columns(table.schema.names, key)
        order = ", ".join(map(quote_identifier, key_names)) if key_names else "1"
        [prepared] = self._engine.prepare(
            f"SELECT * FROM {StepRows.NAME} ORDER BY {order}",
            tenant=self._scope.current,
            extra_resolvers=[StepRows(table)],
        )
        return prepared.run_ordered(key_names)


def _merged_inputs(prepared: Sequence[PreparedStatement]) -> list[BoundInput]:
    """The bound inputs, each once with the union of its columns."""
    merged: dict[tuple[str, str, str], BoundInput] = {}
    for bound_input in (b for p in prepared for b in p.inputs):
        existing = merged.get(bound_input.relation.input.identity)
        columns = {*bound_input.columns, *(existing.columns if existing else ())}
        merged[bound_input.relation.input.identity] = BoundInput(
            existing.relation if existing else bound_input.relation, tuple(sorted(columns))
        )
    return list(merged.values())


def _required_digest(step: StepFunction) -> str:
    try:
        return function_digest(step.function, step.inline_source)
    except NoSource as error:
        reason = str(error)
        raise InvalidArgument(
            f"The function cannot be fingerprinted: {reason}.",
            hint='Pass version="1", and another version whenever the function changes; or define '
            "it with def, in a file or cell, on plain values.",
        ) from None


def _check_call(function: Callable[..., Any], inputs: int, params: Sequence[str]) -> None:
    """Raise InvalidArgument when the function cannot be called with this many inputs and these
    keyword arguments."""
    if not callable(function):
        raise InvalidArgument(f"A Python step must be a function, got {type(function).__name__}.")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidArgument("A Python step must not be an async function.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a C function checks its own arguments
    try:
        signature.bind(*range(inputs), **dict.fromkeys(params))
    except TypeError as error:
        arguments = f"{inputs} input{'' if inputs == 1 else 's'}" + (
            f" and {', '.join(params)}" if params else ""
        )
        raise InvalidArgument(
            f"The function {getattr(function, '__name__', '')}{signature} cannot be called "
            f"with {arguments}: {error}.",
            hint="It receives one Result per input, in the order of inputs=, and params= as "
            "keyword arguments.",
        ) from None


def _import_error(module: str) -> str | None:
    """Import a module of the user's own code; the reason as a clause when that is not possible.
    Installed packages are refused: a name in a catalog is not a reason to run their code."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is None:
            return f"its module {module} is not on the path of this kernel"
        if is_library_file(spec.origin or next(iter(spec.submodule_search_locations or []), None)):
            return _INSTALLED_PACKAGE.format(module)
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001  user modules may raise anything on import
        return (
            f"its module {module} cannot be imported ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:120] if str(error) else ''})"
        )
    return None


def _rerun_hint(name: str) -> str:
    return (
        f"Define it and call ws.compute({name!r}, …) again; if nothing changed, its table is "
        "reused."
    )


def _step_failure(name: str, step: StepFunction, error: Exception) -> StepFailed:
    """The StepFailed for an exception, with the line of the step's own file or cell."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[
        :200
    ].rstrip(".")
    code = getattr(step.function, "__code__", None)
    trace, frame = error.__traceback__, None
    while trace is not None:
        if code is not None and trace.tb_frame.f_code.co_filename == code.co_filename:
            frame = trace
        trace = trace.tb_next
    line = None if frame is None else frame.tb_lineno
    failed = StepFailed(
        f"The Python step {name!r} raised {type(error).__name__}{f': {reason}' if reason else ''}.",
        step=name,
        line=line,
        hint="" if line is None or code is None else _line_hint(step, code.co_filename, line),
    )
    if frame is None or line is None:
        return failed
    text = (
        step.inline_source.text
        if step.inline_source is not None
        else linecache.getline(frame.tb_frame.f_code.co_filename, line, frame.tb_frame.f_globals)
    )
    lines = text.split("\n")
    row = line - 1 if step.inline_source is not None else 0
    if not 0 <= row < len(lines):
        return failed
    column = _error_column(frame, lines[row])
    failed.with_position(
        text.rstrip("\n"), sum(len(text_line) + 1 for text_line in lines[:row]) + column
    )
    return failed


def _line_hint(step: StepFunction, filename: str, line: int) -> str:
    if step.inline_source is not None:
        return f"Line {line + step.inline_source.first_line - 1} of the cell."
    if filename.startswith("<") or "ipykernel" in filename:
        return f"Line {line} of the cell."
    return f"Line {line} of {filename.rsplit('/', 1)[-1]}."


def _error_column(trace: types.TracebackType, text: str) -> int:
    """The column, in characters, at which the failing expression begins."""
    positions = [*trace.tb_frame.f_code.co_positions()]
    instruction = trace.tb_lasti // 2
    column = positions[instruction][2] if 0 <= instruction < len(positions) else None
    indent = len(text) - len(text.lstrip())
    return indent if column is None else len(text.encode()[:column].decode(errors="ignore"))

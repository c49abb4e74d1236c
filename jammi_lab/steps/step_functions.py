"""Functions of recipes: how a recorded function is found again in this kernel, fingerprinted, and
how its exceptions are reported."""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.entry_points import PRODUCERS, load_package_entry, package_producer
from jammi_lab.core.errors import InvalidArgument, NotRecomputable, StepFailed, message_of
from jammi_lab.core.identifiers import fold
from jammi_lab.core.recipes import PARAMS, Stored, decode_params, encode_params
from jammi_lab.engine.parameters import merge_params
from jammi_lab.engine.sql import credential_check
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.steps.function_digest import function_digest
from jammi_lab.steps.function_source import (
    InlineSource,
    NoSource,
    display_source,
    is_library,
    is_library_file,
)
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

SOURCE_BASIS = "on its source; imported modules and files that it opens are not followed"
"""The basis of a verdict on a step without a version."""
_OF_NOTEBOOKS = ("cell", "__main__")
"""The modules of functions that a notebook defines."""
_INSTALLED_PACKAGE = (
    "its module {} is an installed package; jammi_lab does not run package functions by name alone"
)


def package_of(qualified_name: str) -> str | None:
    """The package, with its version, that added a function as a producer, by `module:qualified
    name`; None for any other function."""
    module, _, name = qualified_name.partition(":")
    producer = None if module in _OF_NOTEBOOKS else package_producer(module, name)
    return None if producer is None else producer[0]


@dataclass(frozen=True)
class StepFunction:
    """A function, with its source when that is in no file."""

    function: Callable[..., Any]
    inline_source: InlineSource | None = None

    @functools.cached_property
    def package(self) -> str | None:
        """The package, with its version, that added the function as a producer; None for any other
        function."""
        return package_of(self.qualified_name)

    def digest(self) -> str:
        """The digest of its definition: of the package that added it, else of its source. Raises
        NoSource when it cannot be fingerprinted."""
        if self.package is not None:
            return digest_of({"package": self.package, "function": self.qualified_name})
        return function_digest(self.function, self.inline_source)

    @functools.cached_property
    def qualified_name(self) -> str:
        """`module:qualified name`, or `cell:name(inputs)` for a function from a notebook cell.

        A decorator may give several functions one name. Where it leads to another function than
        this one when this one is given, it ends in `<another>`, by which none is found.
        """
        if self.inline_source is not None:
            inputs = ", ".join(each.arg for each in self.inline_source.tree.args.args)
            return f"cell:{self.inline_source.tree.name}({inputs})"
        name = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        module = getattr(self.function, "__module__", None) or "?"
        named = _defined_function(module, name)
        is_another = not isinstance(named, str) and named is not self.function
        return f"{module}:{name}{'.<another>' if is_another else ''}"

    @property
    def source(self) -> str:
        """The source for display; empty when there is none."""
        return (
            display_source(self.function, self.inline_source)
            if isinstance(self.function, types.FunctionType)
            else ""
        )


def cell_inputs(qualified_name: str) -> list[str]:
    """The names that a cell has for its inputs, by the name of its function."""
    names = qualified_name.partition("(")[2].rstrip(")").split(", ")
    return [name for name in names if name.isidentifier()]


def _qualified_name(function: Any) -> Any:
    """How a function is stored: by its name, which is what a recorded recipe has."""
    return function.qualified_name if isinstance(function, StepFunction) else function


class FunctionRecipe(RunnableRecipe):
    """A recipe that calls a function. The fields are those of its subclasses, which are
    dataclasses."""

    VERB: ClassVar[str] = ""
    """The verb that runs it."""
    stored_function: ClassVar[Mapping[str, Stored]] = {
        "function": Stored(type=str, hashed=False, write=_qualified_name),
        "_source": Stored("source", hashed=False),
        "_digest": Stored("digest"),
        "params": PARAMS,
    }
    """How the fields of the function are stored."""
    function: Any
    version: str | None
    params: Mapping[str, Any] | None
    _source: str
    """The source code, for display."""
    _digest: str
    """Digest of the source code and of what that refers to; with a version, the name of the
    versioned recipe. Empty until the recipe is bound."""

    def with_function(self, ctx: BindContext) -> Self:
        """The recipe with its function, checked. Raises InvalidArgument for a version or a function
        that cannot be recorded, StatementNotAllowed when a recorded text contains a password,
        ExtensionMissing, and NotRecomputable when a recorded function is not in this kernel."""
        functions = ctx.part(StepFunctions)
        if self._digest:
            step: StepFunction | str = self.function
            if isinstance(step, str):
                step = functions.find(self, import_module=True)
                if isinstance(step, str):
                    raise self.missing_function_error(ctx.name, step)
            return self.with_values(
                function=step,
                _source=step.source,
                _digest=self._digest if self.version is not None else required_digest(step),
            )
        if self.version is not None and not isinstance(self.version, str):
            raise InvalidArgument(f"A version must be a string, got {self.version!r}.")
        for name, value in merge_params(self.params).items():
            credential_check.check_text(f"The value of {name!r}", value)
        params = decode_params(encode_params(self.params))
        step = _step_function(self.function)
        self.with_values(params=params).check_function(step)
        credential_check.check_step(ctx.name, step.source)
        credential_check.check_text(f"The version of {ctx.name!r}", self.version)
        digest = fold(ctx.name) if self.version is not None else required_digest(step)
        functions.give(step)
        return self.with_values(function=step, params=params, _source=step.source, _digest=digest)

    def is_defined_by(self, step: StepFunction) -> bool:
        """Whether a recorded definition is that of this function: by its source and what that
        names; with a version, by its text."""
        if self.version is not None:
            return step.source.strip() == self._source.strip()
        try:
            return step.digest() == self._digest
        except NoSource:
            return False

    def check_function(self, step: StepFunction) -> None:
        """Raise InvalidArgument when the function cannot be called with the inputs."""
        raise NotImplementedError

    def missing_function_error(self, name: str, reason: str) -> NotRecomputable:
        """The error for a recorded function that is not in this kernel."""
        raise NotImplementedError

    def current(self, ctx: BindContext, import_modules: bool) -> Self | Unknown:
        """With the digest of the function as it is now."""
        functions = ctx.part(StepFunctions)
        step = functions.find(self, import_module=import_modules)
        if isinstance(step, str):
            return self if functions.built_from_text(self) is not None else Unknown(step)
        if self.version is not None:
            return self
        try:
            return self.with_values(_digest=step.digest())
        except NoSource as error:
            return Unknown(f"its function cannot be fingerprinted: {error}")

    def missing_requirement(self, ctx: BindContext) -> str | None:
        """Why the function is not in this kernel, as a clause."""
        step = ctx.part(StepFunctions).find(self, import_module=True)
        return step if isinstance(step, str) else None

    def verdict_grounds(self) -> list[str]:
        """What of the function is compared."""
        if self.version is not None:
            return [f"on its version {self.version}"]
        if (package := package_of(self.function)) is not None:
            return [f"on the version of its package, {package}"]
        return [SOURCE_BASIS]


def _step_function(function: Any) -> StepFunction:
    """The function of a recipe. A cell passes a StepFunction with the text of the cell; Python code
    passes a function, or the name of a producer of an installed package. Raises InvalidArgument for
    a text that is no name; ExtensionMissing."""
    if isinstance(function, str):
        if any(character.isspace() for character in function):
            raise InvalidArgument(
                f"A step must be a function or the name of a producer, got {function!r}.",
                hint="ws.materialize(name, sql) runs a statement.",
            )
        function = load_package_entry(PRODUCERS, function)
    return function if isinstance(function, StepFunction) else StepFunction(function)


class StepFunctions:
    """The functions that were given to this kernel, by the definitions that they belong to."""

    def __init__(self, outside: OutsideAccess, build_cell: Callable[..., StepFunction]) -> None:
        """`build_cell` makes the function of a cell's text (`steps/cell_step.py`)."""
        self._outside, self._build_cell = outside, build_cell
        self.runs_cells = False
        """Whether steps of cells that need only their inputs run by the text in their recipes."""
        self._steps: dict[str, StepFunction] = {}
        self._given: dict[int, Callable[..., Any]] = {}
        """Functions that a call named for a recipe, by identity."""

    def give(self, step: StepFunction) -> None:
        """Note that a call names this function for its recipe: recipes that know their function by
        its name alone do not take it."""
        self._given[id(step.function)] = step.function

    def remember(self, recipe: FunctionRecipe) -> None:
        """Keep the function that a definition is run with."""
        assert isinstance(recipe.function, StepFunction), "it is bound"
        self._steps[digest_of(recipe.identity())] = recipe.function

    def find(self, recipe: FunctionRecipe, *, import_module: bool) -> StepFunction | str:
        """The function of a recorded definition, or the reason why it is not in this kernel, as a
        clause.

        A function of a module or of the notebook is looked up by name, as it is today. One defined
        inside another function, and a cell, must have been given to this kernel; so must every
        function of a workspace in a folder that is not trusted.
        """
        known_step = self._steps.get(digest_of(recipe.identity()))
        module, _, name = recipe.function.partition(":")
        if not self._outside.trusts_folder:
            return known_step or (
                f"its function {name} was recorded by somebody else, and "
                f"{self._outside.untrusted_clause()}"
            )
        if module == "cell":
            return known_step or self._of_cell(recipe)
        if module != "__main__" and (producer := package_producer(module, name)) is not None:
            return StepFunction(producer[1])
        if module in sys.modules and is_library(module):
            return known_step or _INSTALLED_PACKAGE.format(module)
        if "<" in name:
            return (
                known_step or f"its function {name} was not passed to {recipe.VERB} in this kernel"
            )
        if module == "__main__":
            return self._of_notebook(recipe, known_step, name)
        if module not in sys.modules and known_step is None:
            if not import_module:
                return (
                    f"its function {module}.{name} is not loaded in this kernel; "
                    "ws.status(deep=True) imports it"
                )
            if (reason := _import_error(module)) is not None:
                return reason
        target = _defined_function(module, name)
        if isinstance(target, str):
            return known_step or target
        return StepFunction(target)

    def built_from_text(self, recipe: FunctionRecipe) -> StepFunction | None:
        """The function of the text that the recipe of a cell keeps, in a trusted folder; None where
        it needs more than its inputs. Building it runs none of it."""
        module, _, name = recipe.function.partition(":")
        if module != "cell" or not self._outside.trusts_folder:
            return None
        inputs = cell_inputs(name)
        with contextlib.suppress(InvalidArgument):  # another release of Python may refuse it
            step = self._build_cell(name.partition("(")[0], inputs, recipe._source, {})
            return step if recipe.is_defined_by(step) else None
        return None

    def _of_cell(self, recipe: FunctionRecipe) -> StepFunction | str:
        """The function of a cell that was not run in this kernel."""
        step = self.built_from_text(recipe)
        if self.runs_cells:
            return step or "its cell needs more than its inputs; run it in its notebook"
        reason = "its cell was not run in this kernel; %jammi edit NAME shows it"
        return reason if step is None else f"{reason}, jammi-lab recompute --allow-python runs it"

    def _of_notebook(
        self, recipe: FunctionRecipe, known_step: StepFunction | None, name: str
    ) -> StepFunction | str:
        """The notebook's function of a name as it is now. Names such as `step` are used again: one
        that a call named for other recipes is left to them, and this one keeps its own."""
        target = _defined_function("__main__", name)
        if isinstance(target, str):
            return (
                known_step
                or f"run the cell that defines its function {name}; %jammi edit NAME shows it"
            )
        current = StepFunction(target)
        if known_step is None:
            is_same = recipe.version is None and recipe.is_defined_by(current)
            is_free = id(target) not in self._given or is_same
            return current if is_free else f"the function {name} was passed to another recipe"
        return known_step if id(target) in self._given else current


def _defined_function(module: str, name: str) -> types.FunctionType | str:
    """The function of a qualified name that a loaded module of the user's own code defines itself,
    or the reason why there is none, as a clause. What a module only imports is not run because a
    catalog names it, and nothing of it is looked at."""
    target: object = sys.modules.get(module)
    parts = name.split(".")
    for count, part in enumerate(parts, 1):
        target = vars(target).get(part) if isinstance(target, type | types.ModuleType) else None
        if isinstance(target, staticmethod):
            target = target.__func__
        if target is None:
            return f"its function {module}.{name} no longer exists"
        names = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
        if names != (module, ".".join(parts[:count])):
            return (
                f"{module}.{name} is not defined in {module}, and only functions defined there run"
            )
    if not isinstance(target, types.FunctionType):
        return f"its function {module}.{name} no longer exists"
    code = getattr(inspect.unwrap(target), "__code__", None)
    if is_library_file(getattr(code, "co_filename", None)):
        return _INSTALLED_PACKAGE.format(module)
    return target


def check_call(
    function: Callable[..., Any], positional: int, keywords: Collection[str], hint: str
) -> None:
    """Raise InvalidArgument, with `hint`, when the function cannot be called with this many
    positional arguments and these keyword arguments."""
    if not callable(function):
        raise InvalidArgument(
            f"A Python step must be a function, got {type(function).__name__}.",
            hint="Pass the function itself, not what it returns. ws.register(name, frame, "
            "producer=…) stores a frame.",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a C function checks its own arguments
    try:
        signature.bind(*range(positional), **dict.fromkeys(keywords))
    except TypeError as error:
        arguments = " and ".join(
            [
                *([f"{positional} input{'' if positional == 1 else 's'}"] if positional else []),
                *([", ".join(keywords)] if keywords else []),
            ]
        )
        raise InvalidArgument(
            f"The function {getattr(function, '__name__', '')}{signature} cannot be called "
            f"with {arguments or 'no input'}: {error}.",
            hint=hint,
        ) from None


def is_async(function: Any) -> bool:
    """Whether calls of the function return coroutines or asynchronous iterators."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004  its own code
    )


def required_digest(step: StepFunction) -> str:
    """The digest of a function. Raises InvalidArgument when it cannot be fingerprinted."""
    try:
        return step.digest()
    except NoSource as error:
        raise InvalidArgument(
            f'The function cannot be fingerprinted: {error}; pass version="…".',
            hint="Give another version whenever the function changes, or define it with def, in a "
            "file or cell, on plain values.",
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
    except (Exception, SystemExit) as error:  # noqa: BLE001  user modules may raise anything
        return (
            f"its module {module} cannot be imported ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:120] if str(error) else ''})"
        )
    return None


def step_failure(name: str, step: StepFunction, error: Exception, row: str = "") -> StepFailed:
    """The StepFailed for an exception, with the line of the step's own file or cell. `row`: where
    it was raised, as ` for the row …`."""
    message_lines = (part.strip() for part in message_of(error).splitlines())
    reason = next(filter(None, message_lines), "")[:200].rstrip(".")
    file = getattr(getattr(step.function, "__code__", None), "co_filename", "")
    frame, line = None, 0
    for each, its_line in traceback.walk_tb(error.__traceback__):
        if each.f_code.co_filename == file:
            frame, line = each, its_line
    failed = StepFailed(
        f"The Python step {name!r} raised {type(error).__name__}{row}"
        f"{f': {reason}' if reason else ''}.",
        step=name,
    )
    if frame is None:
        return failed
    failed.line = line
    failed.hint = _line_hint(step, file, line)
    if type(error) is NameError:
        failed.hint += f" If it is a source or table, read it with inputs=['{error.name}']."
    text = (
        step.inline_source.text
        if step.inline_source is not None
        else linecache.getline(file, line, frame.f_globals)
    )
    lines = text.split("\n")
    line_index = line - 1 if step.inline_source is not None else 0
    if not 0 <= line_index < len(lines):
        return failed
    indent = len(lines[line_index]) - len(lines[line_index].lstrip())
    line_start = sum(len(text_line) + 1 for text_line in lines[:line_index])
    failed.with_position(text.rstrip("\n"), line_start + indent)
    return failed


def _line_hint(step: StepFunction, filename: str, line: int) -> str:
    if step.inline_source is not None:
        return f"Line {line + step.inline_source.first_line - 1} of the cell."
    if filename.startswith("<") or "ipykernel" in filename:
        return f"Line {line} of the cell."
    return f"Line {line} of {filename.rsplit('/', 1)[-1]}."

"""The recipe of a Python step: a function over inputs. Its definition is the digest of the
function, or a version that the caller gives."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument, NotRecomputable
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.recipes import NAMES, Stored
from jammi_lab.core.records import OnProgress
from jammi_lab.steps.recipe import BindContext
from jammi_lab.steps.step_functions import (
    FunctionRecipe,
    StepFunction,
    StepFunctions,
    check_call,
    is_async,
)

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


class OpenInput(Protocol):
    """One input as the function receives it."""

    def close(self) -> None:
        """Release the input."""
        ...


@dataclass(frozen=True)
class InputOpener:
    """Opens a bound input as the object that a function receives."""

    open: "Callable[[PreparedStatement], OpenInput]"


@dataclass(frozen=True)
class PythonStep(FunctionRecipe):
    """The rows that a Python function returns."""

    kind = "python"
    VERB = "ws.compute"
    reads_sql = True
    stored_as = {
        **FunctionRecipe.stored_function,
        "inputs": Stored(type=list[StepInput]),
        "key": NAMES,
    }

    function: Callable[..., Any] | StepFunction | str
    """Takes a Result for each input and `params` as keywords; returns a frame, a list of dicts, or
    an iterator of these. As text: the name of a producer of an installed package."""
    _: KW_ONLY
    inputs: str | Sequence[str | StepInput] = ()
    """Sources, tables or SQL."""
    params: Mapping[str, Any] | None = None
    """Keyword arguments of the function."""
    version: str | None = None
    """The definition; that of the function's source when None."""
    key: str | Sequence[str] | None = None
    """Columns that identify a row; checked."""
    _source: str = field(default="", init=False)
    _digest: str = field(default="", init=False)

    def bind(self, ctx: BindContext) -> "Job":
        """Raises InvalidArgument when the function cannot be called with these arguments, or cannot
        be fingerprinted and has no version; StatementNotAllowed when a recorded text contains a
        password; NotRecomputable when a recorded function is not in this kernel; TableNotFound and
        what binding SQL raises."""
        called = self.with_function(ctx)
        tables = [ctx.load_whole(each) for each in list_of_names(self.inputs)]
        key = list_of_names(self.key)
        recipe = called.with_values(inputs=[table.step_input for table in tables], key=key)
        ctx.part(StepFunctions).remember(recipe)
        return ctx.job(
            recipe,
            [table.prepared for table in tables],
            start=lambda on_progress: recipe._start(ctx, tables, on_progress),
            key=key,
            order_sensitive=bool(tables),  # a function may depend on the order in any way
        )

    def check_function(self, step: StepFunction) -> None:
        """Raise InvalidArgument when the function cannot be called with the inputs."""
        if is_async(step.function):
            raise InvalidArgument("A Python step must not be an async function.")
        check_call(
            step.function,
            len(list_of_names(self.inputs)),
            self.params or (),
            "It receives one Result per input, in the order of inputs=, and params= as keyword "
            "arguments.",
        )

    def missing_function_error(self, name: str, reason: str) -> NotRecomputable:
        """The error for a recorded function that is not in this kernel."""
        return NotRecomputable(
            f"The Python step {name!r} cannot be run: {reason}.",
            hint=f"Define it and call ws.compute({name!r}, …) again; if nothing changed, its table "
            "is reused.",
        )

    def recorded_inputs(self) -> list[StepInput]:
        """The positional arguments, in order."""
        return [each for each in self.inputs if isinstance(each, StepInput)]

    def _start(
        self, ctx: BindContext, tables: "Sequence[InputTable]", on_progress: OnProgress | None
    ) -> "RunningJob":
        """Call the function. Runs on a recipe that is bound."""
        from jammi_lab.steps.python_rows import run_step

        step, opener = self.function, ctx.part(InputOpener)
        assert isinstance(step, StepFunction), "it is bound"
        with contextlib.ExitStack() as opened:
            inputs = [
                opened.enter_context(contextlib.closing(opener.open(table.prepared)))
                for table in tables
            ]
            call = functools.partial(step.function, *inputs, **(self.params or {}))
            return run_step(ctx, step, call, list_of_names(self.key), on_progress)

"""The base of recipes that compute a table from tables: a class of another package, or of one file,
has its fields, their checks and its rows, and nothing else."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from jammi_lab.core.definitions import StepInput
from jammi_lab.core.recipes import Stored, Table
from jammi_lab.core.records import OnProgress
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

if TYPE_CHECKING:
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


class TableRecipe(RunnableRecipe):
    """A recipe whose fields of type `Table` are its inputs. The fields are those of its subclasses,
    which are frozen dataclasses; all but the inputs are numbers, texts, and lists and dicts of
    these."""

    key: ClassVar[Sequence[str]] = ()
    """The columns that identify a row; checked."""

    def __init_subclass__(cls) -> None:
        annotations = inspect.get_annotations(cls)
        inputs = {
            name: Stored(type=StepInput) for name, kind in annotations.items() if kind == Table
        }
        cls.stored_as = {**cls.stored_as, **inputs}
        super().__init_subclass__()

    def check(self) -> None:
        """Raise InvalidArgument for a field that is not possible."""

    def rows(self, *inputs: Any) -> Any:
        """The rows, from the inputs as Arrow tables, in the order of the fields: a frame, a list of
        dicts, or an iterator of these."""
        raise NotImplementedError

    def bind(self, ctx: BindContext) -> "Job":
        """Raises what `check` raises, TableNotFound and what binding SQL raises."""
        self.check()
        names = [each.name for each in fields(self) if each.type == Table]
        tables = [ctx.load_whole(getattr(self, name)) for name in names]
        recipe = self.with_values(
            **{name: table.step_input for name, table in zip(names, tables, strict=True)}
        )
        return ctx.job(
            recipe,
            [table.prepared for table in tables],
            start=lambda on_progress: recipe._start(ctx, tables, on_progress),
            key=list(self.key),
            order_sensitive=bool(tables),  # the rows may depend on the order in any way
        )

    def verdict_grounds(self) -> list[str]:
        """The code of the class is not compared."""
        return [f"on revision {self.revision} of {type(self).__module__}.{type(self).__name__}"]

    def _start(
        self, ctx: BindContext, tables: "Sequence[InputTable]", on_progress: OnProgress | None
    ) -> "RunningJob":
        """Compute the rows. Runs on a recipe that is bound."""
        from jammi_lab.steps.python_rows import run_step
        from jammi_lab.steps.step_functions import StepFunction

        inputs = [table.prepared.run().table() for table in tables]
        call = functools.partial(self.rows, *inputs)
        return run_step(ctx, StepFunction(self.rows), call, list(self.key), on_progress)

"""Calls of a row map's function."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.core.errors import StepFailed
from jammi_lab.producers.row_inputs import python_columns
from jammi_lab.producers.step_functions import StepFunction, step_failure

_MAX_KEY_CHARACTERS = 60


@dataclass(frozen=True)
class Failed:
    """The exception of a call, in place of its result."""

    error: Exception


@dataclass(frozen=True)
class RowCalls:
    """Calls a function for rows: for each one with its values as keywords, or for batches of rows
    with an Arrow table."""

    name: str
    step: StepFunction
    columns: Sequence[str]
    """The inputs, by the names that the function receives them under."""
    params: Mapping[str, Any]
    batched: bool = False
    batch: int = 1

    def run(self, inputs: pa.Table) -> Iterator[tuple[range, object]]:
        """Yield for each call the numbers of its rows and what the function returned, or Failed, as
        soon as it ends."""
        for numbers, argument in self._arguments(inputs):
            try:
                answer = self._call(argument)
            except Exception as error:  # noqa: BLE001  user functions may raise anything
                answer = Failed(error)
            yield numbers, answer

    def failure(self, error: Exception, keys: Sequence[object]) -> StepFailed:
        """The error to raise for an exception of the call for these rows."""
        first = repr(keys[0])[:_MAX_KEY_CHARACTERS]
        rows = f"the row {first}" if len(keys) == 1 else f"{len(keys):,} rows from {first}"
        return step_failure(self.name, self.step, error, f" for {rows}")

    def _arguments(self, inputs: pa.Table) -> Iterator[tuple[range, Any]]:
        if self.batched:
            for start in range(0, len(inputs), self.batch):
                rows = inputs.slice(start, self.batch)
                yield range(start, start + len(rows)), rows
            return
        for number, values in enumerate(zip(*python_columns(inputs), strict=True)):
            yield range(number, number + 1), dict(zip(self.columns, values, strict=True))

    def _call(self, argument: Any) -> Any:
        if self.batched:
            return self.step.function(argument, **self.params)
        return self.step.function(**argument, **self.params)

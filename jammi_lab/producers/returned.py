"""What a Python step gave back, as one Arrow table: a frame, rows as dicts, or an iterator of these, which goes through a file of the moment."""

import mmap
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from jammi_lab.errors import InvalidArgument, JammiError, ResourceExhausted, SchemaMismatch
from jammi_lab.names import fold
from jammi_lab.sources.frames import as_arrow, is_frame
from jammi_lab.storage.python_values import array_of

_WANTED = "a pandas, polars or pyarrow frame, a list of dicts, or an iterator of these"
_HINT = "Return a pandas, polars or pyarrow frame, a list of dicts, or yield such batches."


def as_table(value: Any, step: str, guarded: Callable[[Callable[[], Any]], Any]) -> pa.Table:
    """The rows that the step gave. SchemaMismatch for what is none; `guarded` runs the step's own code, for an iterator that still works."""
    if (
        isinstance(value, pa.RecordBatchReader)
        or (hasattr(value, "__next__") and not is_frame(value))
        or (isinstance(value, list | tuple) and value and all(is_frame(v) for v in value))
    ):
        table = _spooled(iter(value), step, guarded)
    else:
        table = _batch(value, step)
    seen: dict[str, str] = {}
    for name in table.schema.names:
        if (other := seen.setdefault(fold(name), name)) != name:
            raise SchemaMismatch(
                f"The Python step {step!r} gave the columns {other!r} and {name!r}, which are one name in SQL.",
                table=step,
                column=name,
                expected="different names",
                actual=name,
                hint="Rename one.",
            )
    return table


def _batch(value: Any, step: str) -> pa.Table:
    """A frame or a list of dicts as Arrow."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_rows(value, step)
    try:
        return as_arrow(value)
    except InvalidArgument:
        kind = "nothing" if value is None else f"a value of type {type(value).__name__}"
        raise SchemaMismatch(
            f"The Python step {step!r} gave {kind}, and no rows.", table=step, expected=_WANTED, actual=type(value).__name__, hint=_HINT
        ) from None
    except SchemaMismatch as error:
        raise _named(error, step) from None


def _from_rows(rows: list[dict[Any, Any]], step: str) -> pa.Table:
    """Dicts as rows; a key that a row lacks is NULL there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise SchemaMismatch(
            f"The Python step {step!r} gave a list without rows, which has no columns.",
            table=step,
            hint="Return a frame: it has columns without rows.",
        )
    columns = []
    for name in names:
        try:
            columns.append(array_of([row.get(name) for row in rows]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            said = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            sentence = f"The Python step {step!r} gave values in {str(name)!r} that have no common SQL type ({said})."
            raise SchemaMismatch(sentence, table=step, column=str(name), hint="Convert them to one type.") from None
    return _batch(pa.table(columns, names=[str(n) for n in names]), step)


def _spooled(parts: Iterator[Any], step: str, guarded: Callable[[Callable[[], Any]], Any]) -> pa.Table:
    """All batches, held in a file that has no name and not in memory; they are of the first one's columns and types."""
    end = object()
    with tempfile.TemporaryFile(prefix="jammi-") as file:
        first = guarded(lambda: next(parts, end))
        if first is end:
            raise SchemaMismatch(f"The Python step {step!r} gave no batch.", table=step, hint="Yield an empty frame: it has columns without rows.")
        batch = _batch(first, step)
        schema = batch.schema
        with _told(step), pa.ipc.new_file(file, schema) as sink:
            while True:
                sink.write_table(_cast(batch, schema, step))
                following = guarded(lambda: next(parts, end))
                if following is end:
                    break
                batch = _batch(following, step)
        with _told(step):
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def _cast(batch: pa.Table, schema: pa.Schema, step: str) -> pa.Table:
    if batch.schema == schema:
        return batch
    try:
        if sorted(batch.schema.names) == sorted(schema.names):
            return batch.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        reason = f" ({str(error).splitlines()[0][:160]})"
    else:
        reason = ""
    raise SchemaMismatch(
        f"The batches of the Python step {step!r} are not of one schema{reason}.",
        table=step,
        expected=", ".join(f"{f.name} {f.type}" for f in schema),
        actual=", ".join(f"{f.name} {f.type}" for f in batch.schema),
        hint="Give every batch the columns and types of the first.",
    )


class _told:  # noqa: N801  reads as a word at the `with`
    """A block in which a failing disk is told as such."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, JammiError):
            reason = error.strerror or type(error).__name__
            raise ResourceExhausted(
                f"The batches of the Python step {self._step!r} did not fit into the temporary folder: {reason}.", hint="Make room there."
            ) from error


def _named(error: SchemaMismatch, step: str) -> SchemaMismatch:
    sentence = f"The Python step {step!r} gave a frame that cannot be a table: {error.message[:1].lower()}{error.message[1:]}"
    return SchemaMismatch(sentence, table=step, column=error.column, expected=error.expected, actual=error.actual, hint=error.hint)

"""What a Parquet file's own end says that DuckDB does not heed: numbers that it would read as others, without a word."""

import collections
import os
import threading
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.errors import SchemaMismatch
from jammi_lab.sources.failures import is_damage, not_parquet
from jammi_lab.sources.places import Item, Place
from jammi_lab.storage.files import Stat
from jammi_lab.storage.parquet import MOST_DIGITS, parts_of

_MOST = 10_000
_lock = threading.Lock()
_heeded: collections.OrderedDict[tuple[str, str, Stat, str | None], None] = collections.OrderedDict()
"""Files whose ends were read and are right, by what their stats were."""


def check(place: Place, items: Sequence[Item]) -> None:
    """SchemaMismatch when a file holds decimals of more digits than DuckDB has; SourceUnavailable for what is no Parquet file; OSError."""
    for item in items:
        key = (place.realm, item.path, item.stat, item.mark)
        with _lock:
            if key in _heeded:
                continue
        try:
            with place.open(item) as file:
                schema = pq.read_schema(file)
        except pa.ArrowException:
            raise not_parquet(os.path.basename(item.path)) from None
        except OSError as error:
            if not is_damage(str(error)):
                raise
            raise not_parquet(os.path.basename(item.path)) from None
        for field in schema:
            for part in parts_of(field.type):
                if pa.types.is_decimal(part) and part.precision > MOST_DIGITS:
                    raise _wide(os.path.basename(item.path), field.name, part)
        with _lock:
            _heeded[key] = None
            while len(_heeded) > _MOST:
                _heeded.popitem(last=False)


def _wide(name: str, column: str, kind: pa.DataType) -> SchemaMismatch:
    return SchemaMismatch(
        f"Column {column!r} of {name} holds decimals of {kind.precision} digits; DuckDB has at most {MOST_DIGITS}, and would read other numbers.",
        column=column,
        expected=f"at most {MOST_DIGITS} digits",
        actual=str(kind),
        hint=f"Write the column as text, as DOUBLE or with at most {MOST_DIGITS} digits: pyarrow reads it as it is.",
    )

"""Copies of the rows of text files as Parquet, for files whose rows are read again.

DuckDB parses a text file with each statement. A copy of a file in one state has the same rows in
the same order, and of them a statement reads only the columns that it needs.
"""

import functools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import NO_REQUIREMENTS, ReadPlan, Relation
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.readers import path_literal
from jammi_lab.sources.files.snapshots import change_token
from jammi_lab.sources.locations import Unreachable
from jammi_lab.sources.temporary_copies import MAX_COPIES_BYTES, TemporaryCopy, load_copy
from jammi_lab.storage.files import CLOCK_SECONDS

MIN_COPIED_BYTES = 1 << 20
_EXACT_TYPE = re.compile(
    r"U?(TINY|SMALL|BIG)INT|U?INTEGER|DOUBLE|FLOAT|BOOLEAN|VARCHAR|DATE|"
    r"TIMESTAMP( WITH TIME ZONE)?|DECIMAL\(\d+,\d+\)"
)
"""Types of which Parquet holds every value; of others it changes some, as of HUGEINT."""
_MAX_NOTED_STATES = 1024
_states_read = BoundedCache[str, bool](_MAX_NOTED_STATES)


def with_copy(
    relation: Relation, source_files: Sequence[SourceFile], list_files: Callable[[], object]
) -> Relation:
    """The relation of local text files, over a copy from the second statement on that reads them in
    one state. `list_files` lists them as they are."""
    size = sum(source_file.stat.size for source_file in source_files)
    types = (relation.columns or {}).values()
    if not MIN_COPIED_BYTES <= size <= MAX_COPIES_BYTES or not all(
        map(_EXACT_TYPE.fullmatch, types)
    ):
        return relation
    key = digest_of([change_token(source_files), relation.read.body])
    if _states_read.get(key) is None:
        return replace(relation, acquire=functools.partial(_note_read, key))

    def write(path: Path) -> None:
        began_ns = time.time_ns()
        has_settled = all(file.is_proved(began_ns, CLOCK_SECONDS) for file in source_files)
        if has_settled:
            scratch_duckdb.write_parquet(relation, path)
        if not has_settled or list_files() != source_files:
            raise Unreachable("the files change")

    try:
        copy = load_copy(key, lambda: TemporaryCopy("rows.parquet", write))
    except (duckdb.Error, JammiError, OSError):
        return relation  # the statement says what is wrong with the files
    path = str(copy.path)
    plan = ReadPlan(
        body=f"SELECT * FROM read_parquet({path_literal(path)})",
        local_bytes=copy.nbytes,
    )
    return replace(
        relation,
        read=plan,
        requirements=NO_REQUIREMENTS,
        acquire=lambda: [copy].clear,
    )


def _note_read(key: str) -> Callable[[], None]:
    _states_read.put(key, True)
    return lambda: None

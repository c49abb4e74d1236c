"""Paths in SQL, the SELECT that reads whole texts, and the columns of `key=value` folders."""

import re
import urllib.parse
from collections.abc import Mapping, Sequence

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.formats import partitions
from jammi_lab.sources.files.text_types import ISO_DATE
from jammi_lab.sources.locations import escape
from jammi_lab.sources.read_errors import display_name

_DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DATE = re.compile(ISO_DATE)


def partition_types(source_files: Sequence[SourceFile]) -> dict[str, str]:
    """The columns of the `key=value` folders of a source and their types, decided from all values.
    A folder `year=2020` above a single file is not a partition of it. Raises SourceUnavailable for
    folders that do not all have the same keys."""
    if len(source_files) == 1 and not source_files[0].relative:
        return {}
    first = partitions(source_files[0].path)
    values: dict[str, set[str]] = {key: set() for key in first}
    for source_file in source_files:
        found = partitions(source_file.path)
        if found.keys() != first.keys():
            raise _partition_error(source_file, source_files[0], found, first)
        for key, value in found.items():
            values[key].add(urllib.parse.unquote(value))
    return {key: _type_of_partition(texts) for key, texts in values.items()}


def _type_of_partition(texts: set[str]) -> str:
    known = texts - {_DEFAULT_PARTITION}
    if known and all(_INTEGER.fullmatch(text) for text in known):
        return "BIGINT"
    return "DATE" if known and all(_DATE.fullmatch(text) for text in known) else "VARCHAR"


def partition_options(source_files: Sequence[SourceFile]) -> list[str]:
    """The options with which DuckDB reads the `key=value` folders of all files of a source. Raises
    as `partition_types`."""
    types = partition_types(source_files)
    if not types:
        return ["hive_partitioning=false"]
    typed = ", ".join(f"{quote_identifier(key)}: {kind}" for key, kind in types.items())
    return ["hive_partitioning=true", f"hive_types={{{typed}}}"]


def path_literal(address: str) -> str:
    """The SQL literal of a path. Raises SourceUnavailable for a name that is not UTF-8."""
    try:
        address.encode()
    except UnicodeEncodeError:
        raise SourceUnavailable(
            f"The file name {address!r} is not UTF-8, so SQL cannot refer to it.",
            hint="Rename the file.",
        ) from None
    return sql_literal(escape(address))


def place_of(source_file: SourceFile) -> str:
    """The path of a file below its source's folder, for display."""
    return "/".join(map(display_name, source_file.relative.split("/")))


def _partition_error(
    source_file: SourceFile,
    first: SourceFile,
    found: Mapping[str, str],
    expected: Mapping[str, str],
) -> SourceUnavailable:
    """The error for a file that lies in other `key=value` folders than the first one."""

    def shown_keys(keys: Mapping[str, str]) -> str:
        return ", ".join(f"{key}=" for key in keys) or "none"

    return SourceUnavailable(
        f"{place_of(source_file)} lies in other key=value folders than {place_of(first)}: "
        f"{shown_keys(found)} where {shown_keys(expected)} is expected.",
        hint="Put all files equally deep, or add a glob of those that are.",
    )

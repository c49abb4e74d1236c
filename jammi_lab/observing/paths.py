"""Files that a statement names by their path: `FROM 'data/x.parquet'`, `FROM read_csv('x.csv', delim=';')`.

Each is a source without a registration, whose name is its path and options written out, so that any later look finds the same files again. Only the
shared scope reads paths: what a tenant may see is said by who adds sources for it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jammi_lab.engine.calls import USAGE
from jammi_lab.errors import InvalidArgument, StatementNotAllowed
from jammi_lab.names import literal
from jammi_lab.sources.base import Relation
from jammi_lab.sources.kinds import FILE_KINDS, check_options, kind_of_name
from jammi_lab.sources.locations import literal_path, refuse_own_location, scheme_of, store_location
from jammi_lab.sources.registry import connector_for, infer_kind
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.records import SourceRecord

READERS = {"read_parquet": "parquet", "read_csv": "csv", "read_json": "json"}
"""The functions, and the kind that each reads unless the name says a nearer one."""
_NEARER = {"csv": ("csv", "tsv"), "json": ("json", "ndjson"), "parquet": ("parquet",)}
_TEXT = r"'(?:[^']|'')*'"
_NAME = re.compile(rf"(?:read_(?P<kind>\w+)\((?P<inner>{_TEXT})(?P<options>(?:, \w+=(?:{_TEXT}|true|false))*)\)|(?P<plain>{_TEXT}))", re.S)
_OPTION = re.compile(rf", (\w+)=({_TEXT}|true|false)", re.S)


def hint(path: str) -> str:
    """What to write instead of a path."""
    return f"Add it as a source: ws.sources.add('name', {_shortened(path)!r})."


def _shortened(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:77]}…"


def name_of(record: SourceRecord) -> str:
    """The name of such a source: its place, kind where the place does not tell it, and options, as SQL would write them."""
    options = "".join(f", {name}={literal(v) if isinstance(v, str) else str(v).lower()}" for name, v in sorted(record.options.items()))
    if not options and kind_of_name(literal_path(record.location) or record.location) == record.kind:
        return literal(record.location)
    return f"read_{record.kind}({literal(record.location)}{options})"


def record_of(name: str) -> SourceRecord | None:
    """The source that `name_of` named; None for any other name."""
    said = _NAME.fullmatch(name)
    if said is None:
        return None
    location = _plain(said["plain"] or said["inner"])
    kind = said["kind"] or kind_of_name(literal_path(location) or location)
    if kind not in FILE_KINDS or scheme_of(location) is not None:
        return None
    options: dict[str, Any] = {option: _plain(v) if v.startswith("'") else v == "true" for option, v in _OPTION.findall(said["options"] or "")}
    return SourceRecord(name=name, kind=kind, location=location, options=options)


def _named(function: str) -> list[str]:
    """The names of the arguments behind the path."""
    return [argument.name for argument in USAGE[function].arguments[1:]]


def _plain(text: str) -> str:
    return text[1:-1].replace("''", "'")


class Paths:
    """Answers quoted paths and the file functions. Asked after the sources: a registered name wins."""

    def __init__(self, scope: TenantScope, folder: Path | None) -> None:
        self._scope, self._folder = scope, folder

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a path; None for what is none, and under a tenant. SourceUnavailable; StatementNotAllowed for the workspace's own files,
        and where the kind cannot be told or is that of a database."""
        path = parts[0]
        if len(parts) != 1 or self._scope.current is not None or scheme_of(path) is not None or "\0" in path or not path.strip():
            return None
        kind = kind_of_name(path)
        if kind is None and "/" not in path and "*" not in path:
            return None
        if kind is None or os.path.isdir(path):
            try:
                kind = infer_kind(path)
            except InvalidArgument as error:
                say = (
                    f"Say it, FROM read_csv({literal(_shortened(path))}), read_json or read_parquet, or add it: ws.sources.add('name', path, kind=…)."
                )
                raise StatementNotAllowed(error.message, hint=say) from None
        if kind not in FILE_KINDS:
            raise StatementNotAllowed(f"{_shortened(path)!r} is of kind {kind}, and only files of rows are read by their path.", hint=hint(path))
        return self._relation(path, kind, {})

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `read_parquet`, `read_csv` or `read_json` with values written out; None for any other function.

        StatementNotAllowed under a tenant, for an address and for the workspace's own files; InvalidArgument for a bad option; SourceUnavailable.
        """
        kind = READERS.get(function)
        if kind is None:
            return None
        path, *rest = arguments
        if self._scope.current is not None or scheme_of(path) is not None:
            where = "while a tenant is bound" if self._scope.current is not None else "from an address"
            raise StatementNotAllowed(f"{function}() is not available {where}.", hint=hint(path))
        options = {name: value for name, value in zip(_named(function), rest, strict=True) if value is not None}
        told = kind_of_name(path)
        return self._relation(path, told if told in _NEARER[kind] else kind, options)

    def _relation(self, path: str, kind: str, options: Mapping[str, Any]) -> Relation:
        record = SourceRecord(name="", kind=kind, location=store_location(path, self._folder), options=check_options(kind, options))
        named = SourceRecord(name=name_of(record), kind=kind, location=record.location, options=record.options)
        try:
            refuse_own_location(record.location, self._folder)
            return connector_for(named, None, self._folder).relation(None)
        except InvalidArgument as error:
            raise StatementNotAllowed(error.message, hint=error.hint) from None

    def names(self) -> Iterable[str]:
        """None: files are not listed."""
        return []

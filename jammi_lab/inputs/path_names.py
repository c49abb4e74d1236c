"""Resolver of file paths in FROM: `FROM 'data/x.parquet'`, `FROM read_csv('x.csv', delim=';')`.

Each is an unregistered source. Its name contains the path and options, so that later observation
passes find the same files. Paths are not available while a tenant is bound: a tenant sees only the
sources that were added for it.
"""

import ast
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core import redaction
from jammi_lab.core.anchors import Input
from jammi_lab.core.errors import InvalidArgument, StatementNotAllowed
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.table_functions import USAGE
from jammi_lab.sources.base import Connector, Relation, SourceContext
from jammi_lab.sources.files.formats import FILE_KINDS, check_options, kind_of_name
from jammi_lab.sources.locations import (
    check_readable_location,
    full_location,
    literal_path,
    scheme_of,
    store_location,
)
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.sources.registry import connector_for, infer_kind
from jammi_lab.storage.digests import DigestCache

FILE_FUNCTIONS = {"read_parquet": "parquet", "read_csv": "csv", "read_json": "json"}
"""The kind of file each function reads, unless the file name indicates a more specific one."""
_WORKSPACE_PREFIX = "workspace://"
"""Begins a path in a recorded statement that is relative to the workspace's folder."""
PATHS_KEY = "paths"
"""The key of the folder of the workspace that was copied, in the metadata of the copy's catalog."""
_SPECIFIC_KINDS = {"csv": ("csv", "tsv"), "json": ("json", "ndjson"), "parquet": ("parquet",)}


def add_source_hint(path: str) -> str:
    """The hint to add a path as a source."""
    return f"Add it as a source: ws.sources.add('name', {_shortened(path)!r})."


def _shortened(path: str) -> str:
    return path if len(path) <= 240 else f"{path[:237]}…"


def name_of(record: SourceRecord) -> str:
    """The name of an unregistered source, which is an expression of Python: its location, its
    options, and its kind if the location does not imply it."""
    options = "".join(f", {name}={value!r}" for name, value in sorted(record.options.items()))
    if (
        not options
        and kind_of_name(literal_path(record.location) or record.location) == record.kind
    ):
        return repr(record.location)
    return f"read_{record.kind}({record.location!r}{options})"


def record_of(name: str) -> SourceRecord | None:
    """The source of a name made by `name_of`; None for any other name, which a stranger's catalog
    may hold."""
    if not name.startswith(("'", '"', "read_")):
        return None
    options = dict[str, Any]()
    try:
        match ast.parse(name, mode="eval").body:
            case ast.Constant(str(location)):
                kind = kind_of_name(literal_path(location) or location)
            case ast.Call(ast.Name(function), [ast.Constant(str(location))], keywords):
                kind = function.removeprefix("read_")
                options = {str(given.arg): ast.literal_eval(given.value) for given in keywords}
                options = json.loads(json.dumps(options))
            case _:
                return None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    if kind not in FILE_KINDS or scheme_of(location) is not None:
        return None
    record = SourceRecord(name=name, kind=kind, location=location, options=options)
    return record if name_of(record) == name else None


def bound_text(prepared: PreparedStatement) -> str:
    """The statement with each path as a source's location is stored, so that it means the same
    file from every current directory. StatementNotAllowed for a path that cannot be replaced."""

    def literal(source: Input) -> str | None:
        path = bound_path(source)
        return None if path is None else sql_literal(path)

    return prepared.text_with_names(literal, quoted=True)


def bound_path(source: Input) -> str | None:
    """The path in FROM of an unregistered source in a recorded statement; None for any other
    input."""
    record = record_of(source.name) if source.kind_class.is_stored else None
    if record is None:
        return None
    is_absolute = os.path.isabs(record.location)
    return record.location if is_absolute else _WORKSPACE_PREFIX + record.location


def _option_names(function: str) -> list[str]:
    """The names of a function's arguments after the path."""
    return [argument.name for argument in USAGE[function].arguments[1:]]


class PathFiles:
    """The files that the statements of a workspace name by path."""

    def __init__(
        self, catalog: Catalog, folder: Path | None, memo: DigestCache, outside: OutsideAccess
    ) -> None:
        """`outside`: what may be opened."""
        self.folder, self._catalog = folder, catalog
        self._memo, self._outside = memo, outside

    @functools.cached_property
    def base(self) -> Path | None:
        """The folder to which recorded paths are relative, which definitions and anchors hold: that
        of the workspace of which this one is a copy, else the own one."""
        original = self._catalog.metadata.get(PATHS_KEY) if self.folder else None
        return Path(original) if original and "\0" not in original else self.folder

    def locate(self, record: SourceRecord) -> SourceRecord:
        """An unregistered source with the location that it has for this folder."""
        if self.base == self.folder:
            return record
        return record.with_values(location=full_location(record.location, self.base))

    def connector(self, record: SourceRecord) -> Connector:
        """The connector of an unregistered source. SourceUnavailable for files that must not be
        opened."""
        located = self.locate(record)
        self._outside.check(located)
        return connector_for(located, None, SourceContext(self.folder, memo=self._memo))


class PathResolver(NameResolver):
    """Resolves quoted paths and the file functions. Registered after the sources, so that the name
    of a source wins."""

    def __init__(self, scope: TenantScope, files: PathFiles) -> None:
        self._scope, self._files = scope, files

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a path; None for a name that is not a path, and while a tenant is bound.
        SourceUnavailable; StatementNotAllowed for the workspace's own files, and when the kind is
        unknown or a database."""
        path = self._absolute(parts[0])
        if (
            len(parts) != 1
            or self._scope.current is not None
            or scheme_of(path) is not None
            or "\0" in path
            or not path.strip()
        ):
            return None
        redaction.remember_typed_credentials(path)
        kind = kind_of_name(path)
        if kind is None and "/" not in path and "*" not in path:
            return None
        if kind is None or os.path.isdir(path):
            try:
                kind = infer_kind(path)
            except InvalidArgument as error:
                message = (
                    f"Use FROM read_csv({sql_literal(_shortened(path))}), read_json or "
                    "read_parquet, or add it: ws.sources.add('name', path, kind=…)."
                )
                raise StatementNotAllowed(error.message, hint=message) from None
        if kind not in FILE_KINDS:
            raise StatementNotAllowed(
                f"{_shortened(path)!r} is of kind {kind}; only data files can be queried by path.",
                hint=add_source_hint(path),
            )
        return self._relation(path, kind, {})

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `read_parquet`, `read_csv` or `read_json`; None for any other function.

        StatementNotAllowed while a tenant is bound, for a URL and for the workspace's own files;
        InvalidArgument for a bad option; SourceUnavailable.
        """
        kind = FILE_FUNCTIONS.get(function)
        if kind is None:
            return None
        path, *option_values = arguments
        redaction.remember_typed_credentials(path)
        path = self._absolute(path)
        if self._scope.current is not None or scheme_of(path) is not None:
            condition = "while a tenant is bound" if self._scope.current is not None else "for URLs"
            raise StatementNotAllowed(
                f"{function}() is not available {condition}.", hint=add_source_hint(path)
            )
        options = {
            name: value
            for name, value in zip(_option_names(function), option_values, strict=True)
            if value is not None
        }
        kind_by_name = kind_of_name(path)
        return self._relation(
            path, kind_by_name if kind_by_name in _SPECIFIC_KINDS[kind] else kind, options
        )

    def _absolute(self, path: str) -> str:
        """A path of a recorded statement as an absolute one; any other as it is."""
        if self._files.folder is None or not path.startswith(_WORKSPACE_PREFIX):
            return path
        return full_location(path.removeprefix(_WORKSPACE_PREFIX), self._files.base)

    def _relation(self, path: str, kind: str, options: Mapping[str, Any]) -> Relation:
        record = SourceRecord(
            name="",
            kind=kind,
            location=store_location(path, self._files.base),
            options=check_options(kind, options),
        )
        record = record.with_values(name=name_of(record))
        try:
            check_readable_location(self._files.locate(record).location, self._files.folder)
            return self._files.connector(record).relation(None)
        except InvalidArgument as error:
            raise StatementNotAllowed(error.message, hint=error.hint) from None

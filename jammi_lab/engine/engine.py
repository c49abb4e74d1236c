"""The SQL engine: one DuckDB per tenant. Each statement is prepared and run in its own scratch
database.

A relation may need more than its body: extensions, an attached database, a filesystem. `Relation`
declares them, and `engine/attachments.py` loads them into the tenant's instance before the body is
described, queried or run.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.attachments import QueryTimeout
from jammi_lab.engine.duckdb_errors import StatementContext, to_jammi_error
from jammi_lab.engine.instance_pool import InstancePool, run_in_parser
from jammi_lab.engine.name_resolution import NameResolver, known_names, resolve
from jammi_lab.engine.parameters import bind_values
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql import function_list, parse
from jammi_lab.engine.sql.parse import StatementKind
from jammi_lab.engine.statement_binding import prepare
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources.attach import in_transaction
from jammi_lab.sources.base import Query, ReadPlan, Relation

T = TypeVar("T")
_LIBRARY_INPUT = source_input("")
"""The input of a body that the library wrote itself."""
_NOTHING_REQUIRED = Relation(_LIBRARY_INPUT, ReadPlan(body=""))


MAX_CACHED_TEXTS, MAX_CACHED_TEXT_LENGTH = 256, 16_384


def _parse(sql: str, time_zone: str, changing: bool) -> list[parse.ParsedStatement]:  # noqa: ARG001
    """The checked statements of a text. Bindings, which are kept with them, depend on the time zone
    and on no other setting."""
    try:
        return run_in_parser(lambda parser: parse.parse(parser, sql, allow_dml=changing))
    except (duckdb.Error, MemoryError) as error:  # of a text that is too large
        raise to_jammi_error(error, StatementContext(sql)) from None


_parse_cached = functools.lru_cache(MAX_CACHED_TEXTS)(_parse)
"""The same for all workspaces of this process, which are opened again."""


class Engine(InstancePool):
    """SQL over the names that resolvers provide, for any number of tenants."""

    def __init__(self, settings: Settings, spill: Path | None = None) -> None:
        """`spill` is that of `InstancePool`."""
        super().__init__(settings, spill)
        self._resolvers: list[NameResolver] = []
        self._environment = duckdb_instances.environment(settings)
        self._time_zone: str = settings["engine.timezone"]

    # -- names

    def register(self, resolver: NameResolver) -> None:
        """Add a name resolver; a resolver registered earlier takes precedence."""
        self._resolvers.append(resolver)

    def known_names(self, extra_resolvers: Sequence[NameResolver] = ()) -> list[str]:
        """All names that can be used in FROM now."""
        return known_names([*self._resolvers, *extra_resolvers])

    def function_names(self) -> list[str]:
        """The names of the functions that a statement may call."""
        return function_list.function_names()

    def environment(self) -> dict[str, Any]:
        """The settings that affect a statement's rows; part of every SQL definition. They are the
        same as long as the engine lives: do not modify the result."""
        return self._environment

    # -- statements

    def prepare(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        tenant: str | None = None,
        extra_resolvers: Sequence[NameResolver] = (),
        overriding_resolvers: Sequence[NameResolver] = (),
        allow_dml: bool = False,
    ) -> list[PreparedStatement]:
        """Parse, check and bind every statement of a text without running it.

        `extra_resolvers` come after the registered ones, `overriding_resolvers` before them.
        `allow_dml` allows INSERT, UPDATE and DELETE.

        Raises SqlError, StatementNotAllowed, TableNotFound, ParameterMissing, InvalidArgument,
        SourceUnavailable.
        """
        resolvers = [*overriding_resolvers, *self._resolvers, *extra_resolvers]
        parsed = self._parse(sql, allow_dml=allow_dml)
        values = bind_values(parsed, params)
        relations = [resolve(p, resolvers, values) for p in parsed]
        table_names = (
            known_names(resolvers)
            if any(p.kind is StatementKind.SHOW_TABLES for p in parsed)
            else []
        )
        with self._hold_instances(tenant) as instances:

            def work(cursor: duckdb.DuckDBPyConnection) -> list[PreparedStatement]:
                return [
                    prepare(self, instances, cursor, tenant, p, f, values, table_names)
                    for p, f in zip(parsed, relations, strict=True)
                ]

            return self._run_in_worker(tenant, instances, work)

    def describe(self, body: str | Relation, tenant: str | None = None) -> dict[str, str]:
        """Columns and SQL types of a body or a relation. Raises SourceUnavailable,
        ExtensionMissing."""
        relation = Relation(_LIBRARY_INPUT, ReadPlan(body=body)) if isinstance(body, str) else body
        return self.query_source(
            tenant, relation, lambda instances, cursor: instances.describe(cursor, relation)
        )

    def query(
        self,
        sql: str,
        tenant: str | None = None,
        requirement: Relation = _NOTHING_REQUIRED,
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT over sources, after loading what `requirement` asks for.

        Only for SQL that the library wrote: the allowlist is not applied. Raises SourceUnavailable,
        ExtensionMissing.
        """
        return self.run(requirement, lambda query: query(sql), tenant)

    def run(
        self,
        requirement: Relation,
        work: Callable[[Query], T],
        tenant: str | None = None,
        timeout: float | None = None,
    ) -> T:
        """Run `work` with a query function and return its result. All its queries run in one
        transaction of one cursor, after loading what `requirement` asks for.

        Raises SourceUnavailable, also after `seconds`, and at once while the server has not
        answered an earlier query; ExtensionMissing; errors of `Relation.explain`; errors of `work`.
        """
        query_timeout = QueryTimeout(requirement.requirements.attachment, timeout)

        def run(instances: TenantInstances, cursor: duckdb.DuckDBPyConnection) -> T:
            filesystem = requirement.requirements.filesystem
            with query_timeout, instances.attachments.use(cursor, requirement):
                if filesystem is not None:
                    instances.register_filesystem(filesystem)
                return in_transaction(cursor, work)

        return self.query_source(tenant, requirement, run, query_timeout)

    def select_text(self, sql: str) -> str:
        """The text of one SELECT, without a semicolon or comment behind it. Names in it are not
        looked up. Raises StatementNotAllowed for anything else, and as parsing does."""
        parsed = self._parse(sql)
        if [p.kind for p in parsed] != [StatementKind.SELECT]:
            raise StatementNotAllowed("Exactly one SELECT statement is required here.")
        return parsed[0].original_text

    def check_names(self, sql: str, resolver: NameResolver) -> None:
        """Parse a text and look up every name that it reads in one resolver only. Nothing else is
        looked up, opened or run. Raises as `prepare`."""
        parsed = self._parse(sql)
        values = bind_values(parsed, None)
        for statement in parsed:
            resolve(statement, [resolver], values)

    def parameters(self, sql: str) -> frozenset[str]:
        """The names of the parameters in a text. Raises as parsing does."""
        return frozenset[str]().union(*(p.parameters for p in self._parse(sql)))

    def _parse(self, sql: str, *, allow_dml: bool = False) -> list[parse.ParsedStatement]:
        """The checked statements of a text. Raises as `parse.parse` does."""
        self._check_open()
        if not isinstance(sql, str) or len(sql) > MAX_CACHED_TEXT_LENGTH:
            return _parse(sql, self._time_zone, allow_dml)
        return [each.copy() for each in _parse_cached(sql, self._time_zone, allow_dml)]


class EngineSourceAccess:
    """`sources.base.SourceAccess` implemented by the engine."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def __call__(
        self,
        requirement: Relation,
        work: Callable[[Query], T],
        *,
        seconds: float | None = None,
    ) -> T:
        """Run `work` in one transaction and return its result, as `Engine.run` does."""
        return self._engine.run(requirement, work, self._scope.current, seconds)

    def detach(self, key: str) -> None:
        """Detach the attachments of a key in every tenant's instance."""
        self._engine.detach(key)

"""The SQL engine: one DuckDB per tenant. Each statement is prepared and run in its own scratch
database.

A relation may need more than its body: extensions, an attached database, a filesystem. `Relation`
declares them, and `engine/attachments.py` loads them into the tenant's instance before the body is
described, queried or run.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import StatementNotAllowed
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine import dml_binding, duckdb_instances
from jammi_lab.engine.attachments import QueryTimeout
from jammi_lab.engine.duckdb_errors import StatementContext, to_jammi_error
from jammi_lab.engine.instance_pool import InstancePool, run_in_parser
from jammi_lab.engine.name_resolution import NameResolver, ResolvedNames, known_names, resolve
from jammi_lab.engine.parameters import bind_values, remaining_parameters
from jammi_lab.engine.prepared_statement import PreparedStatement, with_total_order
from jammi_lab.engine.sql import function_list, parse, row_order
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.engine.sql.read_set import Binding, bind, check_value_words
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources.attach import in_transaction
from jammi_lab.sources.base import InputRead, Query, ReadPlan, Relation, merged_reads

# --------------------------------------------------------------------------------------------------
# Binding of checked statements on empty replicas: inputs, output columns and determinism.

_OUTPUT = {
    StatementKind.EXPLAIN: [("explain_key", "VARCHAR"), ("explain_value", "VARCHAR")],
    StatementKind.PIVOT: [],
    StatementKind.DML: [("Count", "BIGINT")],
}
MAX_CACHED_BINDINGS = 8
MAX_KEY_VALUE_LENGTH = 256
_SIMPLE_TYPES = (bool, int, float, str, type(None))
"""Types of which equal texts are equal values."""
_TIME_OF_DAY = re.compile(r"\s*\d{1,2}:\d\d[:.\d\s]*$")
"""A time of day without an offset."""


def prepare(
    pool: InstancePool,
    instances: TenantInstances,
    cursor: duckdb.DuckDBPyConnection,
    tenant: str | None,
    parsed: ParsedStatement,
    relations: ResolvedNames,
    values: Mapping[str, Any],
    table_names: Sequence[str],
) -> PreparedStatement:
    """Bind one checked statement on the empty replicas of a tenant. `cursor` describes inputs
    whose columns are unknown. Runs in a worker."""
    schemas = _describe_inputs(pool, instances, cursor, tenant, parsed, relations)
    params = {name: values[name] for name in sorted(parsed.parameters)}
    if parsed.kind is StatementKind.SHOW_TABLES:
        binding = Binding([("name", "VARCHAR")])
        parsed.reads.volatile.add("show tables")
    else:
        binding = _bind_cached(
            pool, parsed, schemas, relations, remaining_parameters(params, parsed)
        )
    if _reads_offset_of_today(parsed, schemas, binding):
        parsed.reads.volatile.add("timezone")
    keeps_order = _promises_order(parsed, relations, binding)
    return PreparedStatement(
        statement=parsed.original_text,
        inputs=_merge_inputs(relations, schemas, binding),
        output=[*_OUTPUT.get(parsed.kind, binding.output)],
        volatile=tuple(sorted(parsed.reads.volatile)),
        reads_clock=parsed.reads.reads_clock,
        keeps_order=keeps_order,
        order_sensitive=parsed.dml_parts is None
        and _depends_on_order(pool, parsed, relations, binding, keeps_order=keeps_order),
        inferred_key=row_order.infer_key(parsed.tree, binding.output)
        if parsed.kind is StatementKind.SELECT
        else [],
        params=params,
        _pool=pool,
        _tenant=tenant,
        _parsed=parsed,
        _relations=relations,
        _schemas=schemas,
        _binding=binding,
        _table_names=tuple(table_names) if parsed.kind is StatementKind.SHOW_TABLES else (),
    )


def _reads_offset_of_today(
    parsed: ParsedStatement, schemas: Mapping[tuple[str, ...], dict[str, str]], binding: Binding
) -> bool:
    """Whether a time without a date may be moved to a time zone, or compared with a text without an
    offset."""
    kinds = {schemas[parts][name] for parts, read in binding.columns_read.items() for name in read}
    has_zoned_times = any(function_list.ZONED_TIME in kind for kind in kinds)
    if not (has_zoned_times or parsed.reads.has_zoned_times):
        return False
    return "timezone" in parsed.reads.functions or any(
        n.get("type") == "VALUE_CONSTANT" and _TIME_OF_DAY.match(str(n["value"].get("value")))
        for n in walk_nodes(parsed.tree)
    )


def _describe_inputs(
    pool: InstancePool,
    instances: TenantInstances,
    cursor: duckdb.DuckDBPyConnection,
    tenant: str | None,
    parsed: ParsedStatement,
    relations: ResolvedNames,
) -> dict[tuple[str, ...], dict[str, str]]:
    """The columns and SQL types of every relation; DuckDB describes those that are not known."""
    schemas = {}
    for parts, relation in relations.items():
        if relation.columns is not None:
            schemas[parts] = dict(relation.columns)
            continue
        try:
            schemas[parts] = instances.describe(cursor, relation)
        except (duckdb.Error, OSError) as error:
            raise pool.translate_error(
                error, tenant, instances, parsed.error_context((relation,))
            ) from None
    return schemas


def _promises_order(parsed: ParsedStatement, relations: ResolvedNames, binding: Binding) -> bool:
    """Whether the plan keeps the order of the statement's one input."""
    if parsed.kind is not StatementKind.SELECT:
        return parsed.kind is not StatementKind.PIVOT
    # A replica keeps the order of its rows, but a table of a database promises none.
    if any(
        r.requirements.attachment is not None or r.consistency.unordered for r in relations.values()
    ):
        return False
    return row_order.keeps_input_order(parsed.tree, binding.operators)


def _depends_on_order(
    pool: InstancePool,
    parsed: ParsedStatement,
    relations: ResolvedNames,
    binding: Binding,
    *,
    keeps_order: bool,
) -> bool:
    """Whether the rows may depend on the order of the inputs' rows, when run by `run_ordered`."""
    if keeps_order not in binding.order_sensitive:
        every_column = list(range(1, len(binding.output) + 1))
        # A LIMIT without its own order is decided by the total order that run_ordered adds.
        sorted_before_limit = (
            not keeps_order
            and row_order.has_limit(parsed.tree)
            and with_total_order(pool, parsed, every_column) is not None
        )
        binding.order_sensitive[keeps_order] = row_order.is_order_sensitive(
            parsed.tree, sorted_before_limit
        )
    # The state of an unordered input does not tell whether it contains 0.0 and -0.0. For other
    # inputs the comparison of rows does.
    return (
        binding.order_sensitive[keeps_order]
        or binding.merged.ambiguous
        or (
            binding.merged.stored_floats
            and any(r.consistency.unordered for r in relations.values())
        )
    )


def _bind_cached(
    pool: InstancePool,
    parsed: ParsedStatement,
    schemas: Mapping[tuple[str, ...], Mapping[str, str]],
    relations: ResolvedNames,
    params: Mapping[str, Any],
) -> Binding:
    """The binding of a statement, cached by the names and types of its inputs."""
    key = None if parsed.dml_parts is not None else _binding_key(schemas, params)
    known: Binding | None = parsed.bindings.get(key)
    if known is not None:
        check_value_words(parsed, known)
        return known
    bind_statement = bind if parsed.dml_parts is None else dml_binding.bind_change
    with pool.borrow_replicas() as replicas:
        binding = bind_statement(replicas, parsed, schemas, relations, params)
    if key is not None:
        if len(parsed.bindings) >= MAX_CACHED_BINDINGS:
            parsed.bindings.clear()
        parsed.bindings[key] = binding
    return binding


def _binding_key(
    schemas: Mapping[tuple[str, ...], Mapping[str, str]], params: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """The key of a cached binding: names and types of the inputs, and types and values of the
    parameters, which affect a binding too. None for values that are not short and simple."""
    values = []
    for name, value in params.items():
        # Equal values may bind differently (0.0 and -0.0, 1 and TRUE), so their texts count.
        text = repr(value) if type(value) in _SIMPLE_TYPES else None
        if text is None or len(text) > MAX_KEY_VALUE_LENGTH:
            return None
        values.append((name, type(value), text))
    inputs = tuple((parts, tuple(columns.items())) for parts, columns in schemas.items())
    return inputs, tuple(values)


def _merge_inputs(
    relations: ResolvedNames, schemas: Mapping[tuple[str, ...], dict[str, str]], binding: Binding
) -> tuple[InputRead, ...]:
    """One entry per input, with the columns read under all its names."""
    direct_reads: list[InputRead] = []
    computed_reads: list[InputRead] = []
    for parts, relation in relations.items():
        if relation.read.computed is None:
            direct_reads.append(
                InputRead(relation, tuple(binding.columns_read[parts]), schemas[parts])
            )
        else:
            first, *others = relation.read.computed.inputs(binding.columns_read[parts])
            direct_reads.append(first)
            computed_reads += others
    return tuple(merged_reads(direct_reads + computed_reads))


# --------------------------------------------------------------------------------------------------
# The engine of a workspace.

T = TypeVar("T")
_LIBRARY_INPUT = source_input("")
"""The input of a body that the library wrote itself."""


@functools.cache
def _parse_cache(time_zone: str) -> parse.ParseCache:  # noqa: ARG001  bindings depend on it
    """The parsed and bound statements of all workspaces of this process with that time zone. No
    other setting affects a binding, and workspaces are opened again."""

    def parse_text(sql: str, changing: bool) -> list[parse.ParsedStatement]:
        try:
            return run_in_parser(lambda parser: parse.parse(parser, sql, allow_dml=changing))
        except (duckdb.Error, MemoryError) as error:  # of a text that is too large
            raise to_jammi_error(error, StatementContext(sql)) from None

    return parse.ParseCache(parse_text)


class Engine(InstancePool):
    """SQL over the names that resolvers provide, for any number of tenants."""

    def __init__(self, settings: Settings, spill: Path | None = None) -> None:
        """`spill` is that of `InstancePool`."""
        super().__init__(settings, spill)
        self._resolvers: list[NameResolver] = []
        self._environment = duckdb_instances.environment(settings)
        self._parse_cache = _parse_cache(settings["engine.timezone"])

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
        self._check_open()
        resolvers = [*overriding_resolvers, *self._resolvers, *extra_resolvers]
        parsed = self._parse_cache.get(sql, allow_dml)
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
        self, sql: str, tenant: str | None = None, requirement: Relation | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT over sources, after loading what `requirement` asks for.

        Only for SQL that the library wrote: the allowlist is not applied. Raises SourceUnavailable,
        ExtensionMissing.
        """

        def work(
            instances: TenantInstances, cursor: duckdb.DuckDBPyConnection
        ) -> list[tuple[Any, ...]]:
            with instances.attachments.using(cursor, requirement):
                if requirement is not None and requirement.requirements.filesystem is not None:
                    instances.register_filesystem(requirement.requirements.filesystem)
                return cursor.execute(sql).fetchall()

        return self.query_source(tenant, requirement, work)

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
            with query_timeout, instances.attachments.using(cursor, requirement):
                return in_transaction(cursor, work)

        return self.query_source(tenant, requirement, run, query_timeout)

    def select_text(self, sql: str) -> str:
        """The text of one SELECT, without a semicolon or comment behind it. Names in it are not
        looked up. Raises StatementNotAllowed for anything else, and as parsing does."""
        self._check_open()
        parsed = self._parse_cache.get(sql, False)
        if [p.kind for p in parsed] != [StatementKind.SELECT]:
            raise StatementNotAllowed("Exactly one SELECT statement is required here.")
        return parsed[0].original_text

    def check_names(self, sql: str, resolver: NameResolver) -> None:
        """Parse a text and look up every name that it reads in one resolver only. Nothing else is
        looked up, opened or run. Raises as `prepare`."""
        self._check_open()
        parsed = self._parse_cache.get(sql, False)
        values = bind_values(parsed, None)
        for statement in parsed:
            resolve(statement, [resolver], values)

    def parameters(self, sql: str) -> frozenset[str]:
        """The names of the parameters in a text. Raises as parsing does."""
        self._check_open()
        return frozenset[str]().union(*(p.parameters for p in self._parse_cache.get(sql, False)))


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

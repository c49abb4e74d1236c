"""Binding of checked statements on empty replicas: inputs, output columns and determinism."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from jammi_lab.engine import dml_binding
from jammi_lab.engine.instance_pool import InstancePool
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.parameters import remaining_parameters
from jammi_lab.engine.prepared_statement import PreparedStatement, with_total_order
from jammi_lab.engine.sql import function_list, row_order
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.engine.sql.read_set import Binding, bind, check_value_words
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources.base import InputRead, merged_reads

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
        inferred_key=binding.inferred_key,
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

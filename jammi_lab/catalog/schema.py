"""The tables of the catalog: as SQLAlchemy Core objects, and as the statements that create them in
the common dialect of SQLite and PostgreSQL.

`tenant_id` NULL means
shared. Uniqueness per tenant is an index over `coalesce(tenant_id, '')`, because NULLs never
collide; it means the same on SQLite and PostgreSQL. A `…_fold` column holds the folded form
(`identifiers.fold`) of the name next to it, and every lookup by a user's spelling compares folds.
"""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()


class Bytes(sa.types.UserDefinedType[bytes]):
    """Bytes that are passed to the driver unchanged: SQLAlchemy's own type wraps each value, which
    for many small ones costs more than the rest."""

    cache_ok = True
    _type_affinity = sa.LargeBinary()._type_affinity

    def get_col_spec(self, **_: Any) -> str:
        return "BLOB"


_TYPES = {
    "text": (sa.Text, "TEXT"),
    "bigint": (sa.BigInteger, "BIGINT"),
    "double": (sa.Double, "DOUBLE PRECISION"),
    "blob": (sa.LargeBinary, "BLOB"),
}
CREATE_STATEMENTS: list[str] = []
"""The statements that create the tables, and their indexes, in order."""


def _table(name: str, columns: str, *indexes: str) -> sa.Table:
    """A table.

    A column is `name [type] [null | primary key]`: text, and not null, unless it says otherwise.
    An index is `[unique] name (expressions) [WHERE …]`.
    """
    table = sa.Table(name, metadata)
    definitions = []
    for definition in columns.split(", "):
        column_name, *words = definition.split()
        kind, type_name = next((_TYPES[word] for word in words if word in _TYPES), _TYPES["text"])
        is_nullable = "null" in words
        table.append_column(
            sa.Column(column_name, kind, primary_key="primary" in words, nullable=is_nullable)
        )
        definitions.append(f"{column_name} {type_name}" + ("" if is_nullable else " NOT NULL"))
    if key := ", ".join(column.name for column in table.primary_key):
        definitions.append(f"PRIMARY KEY ({key})")
    CREATE_STATEMENTS.append(f"CREATE TABLE {name} ({', '.join(definitions)})")
    for index in indexes:
        unique = "UNIQUE " if index.startswith("unique ") else ""
        index_name, expressions = index.removeprefix("unique ").split(" ", 1)
        CREATE_STATEMENTS.append(f"CREATE {unique}INDEX {index_name} ON {name} {expressions}")
    return table


FORMAT = "1"
"""The name of this format of the catalog."""

format_table = _table("catalog_format", "format primary key, created_at")
"""One row: the format, and when the catalog was created."""

metadata_table = _table("meta", "key primary key, value")

writers = _table(
    "writers",
    "writer_id primary key, host, boot_id, pid bigint, started_at, retired_at null",
    "writers_unretired (retired_at)",
)

observations = _table("observations", "key primary key, body")

sources = _table(
    "sources",
    "tenant_id null, name, name_fold, kind, location, options, anchor, tenant_column null, "
    "secret null, created_at",
    "unique sources_name (name_fold, coalesce(tenant_id, ''))",
)

recipes = _table(
    "recipes",
    "tenant_id null, name, name_fold, kind, descriptor, environment, definition_hash, inputs, "
    "created_at, updated_at",
    "unique recipes_name (name_fold, coalesce(tenant_id, ''))",
)

aliases = _table(
    "aliases",
    "tenant_id null, name, name_fold, target, target_fold",
    "unique aliases_name (name_fold, coalesce(tenant_id, ''))",
)
"""Former names of renamed recipes. No recipe of the same owner has the name of an alias."""

holds = _table(
    "holds",
    "tenant_id null, recipe_fold, held_at, held_by, note",
    "unique holds_recipe (recipe_fold, coalesce(tenant_id, ''))",
)

counters = _table(
    "version_counters",
    "tenant_id null, recipe, recipe_fold, last bigint",
    "unique version_counters_recipe (recipe_fold, coalesce(tenant_id, ''))",
)
"""The highest version number ever assigned: numbers are never reused, even after a drop."""

versions = _table(
    "versions",
    "tenant_id null, recipe, recipe_fold, version bigint, table_name, created_at, pinned bigint, "
    "note null, newest bigint",
    "unique versions_number (recipe_fold, coalesce(tenant_id, ''), version)",
    "versions_newest (recipe_fold) WHERE newest = 1",
    "versions_table (table_name)",
)
"""`newest` is 1 for the newest ready version of a recipe, else 0; maintained by
`newest_versions.py`."""

result_tables = _table(
    "result_tables",
    "table_name primary key, table_fold, tenant_id null, kind, status, writer_id, "
    "definition_hash null, row_count bigint null, recipe, version bigint, path, source_id null, "
    "model_id null, derived_from null, key_columns, dimensions bigint null, bytes bigint null, "
    "created_at, completed_at null, seconds double null, columns, anchors, digest null, "
    "manifest_digest null, order_sensitive bigint, flight bigint, error null",
    "unique result_tables_fold (table_fold)",
    "unique result_tables_flight (coalesce(tenant_id, ''), definition_hash) "
    "WHERE status = 'building' AND flight = 1",
    "result_tables_status (status, writer_id)",
    "result_tables_definition (definition_hash, status)",
    "result_tables_model (model_id) WHERE model_id IS NOT NULL",
)

manifests = _table("manifests", "table_name primary key, tenant_id null, body")

lineage = _table(
    "lineage",
    "tenant_id null, input, derived, kind, input_kind, input_table, input_physical bigint, "
    "node_fold, node_tenant",
    "unique lineage_up (derived, input_kind, input, input_table)",
    "lineage_down (node_fold, input_kind, derived)",
)
"""An edge: `derived` (a physical table) has an anchor on `input` (as it was named). `node_fold`
and `node_tenant` identify the node: the folded name of the recipe to which a physical name
(`input_physical` = 1) belongs, else of the name itself, and its owner when the table was
computed."""

models = _table(
    "models",
    "key primary key, tenant_id null, name, name_fold, version bigint, type, backend, task, "
    "dimensions bigint null, digest null, artifact null, artifact_digest null, base null, "
    "config null, status, created_at",
    "unique models_version (name_fold, coalesce(tenant_id, ''), version)",
)

trainings = _table(
    "model_training",
    "record_id primary key, tenant_id null, output, output_fold, base, created_at",
    "model_training_output (output_fold)",
    "model_training_base (base)",
)
"""`output` is a model's name, `base` a model's key."""

evaluations = _table(
    "model_evaluations",
    "record_id primary key, tenant_id null, model, metrics, created_at",
    "model_evaluations_model (model)",
)
"""`model` is a model's key."""


checks = _table(
    "checks",
    "tenant_id null, name, name_fold, recipe, recipe_fold, subject, severity, rule, statement, "
    "params, created_at, updated_at, kind",
    "unique checks_name (name_fold, coalesce(tenant_id, ''))",
    "checks_recipe (recipe_fold)",
)
"""`kind` is that of the input that is checked: result, source or mutable. `recipe` is its name and
follows renames; `subject` is the name in the statement, which does not."""

check_results = _table(
    "check_results",
    "tenant_id null, check_name, check_fold, table_name, definition_hash, anchors_digest, "
    "anchors, severity, outcome, failing bigint null, error null, checked_at, seconds double",
    "unique check_results_key (check_fold, coalesce(tenant_id, ''), table_name, "
    "definition_hash, anchors_digest)",
    "check_results_table (table_name)",
)
"""One row for each check, physical table, definition of the check, and state of what it read."""

logs = _table(
    "logs",
    "log_id bigint primary key, kind, tenant_id null, name, name_fold, arrow_schema blob, "
    "key_columns, first_position bigint, next_position bigint, row_count bigint, "
    "retention double null, session_id null, created_at, commit_id",
    "unique logs_name (kind, name_fold, coalesce(tenant_id, ''))",
    "logs_session (session_id) WHERE session_id IS NOT NULL",
)
"""Topics and mutable tables, by `kind`. `commit_id` is drawn anew by each entry: after a catalog
was restored from a backup, another entry gets the position of one that was written before. The
entries are in a table of their own, created and dropped with the record: `logs.py`."""

sessions = _table(
    "ephemeral_sessions",
    "session_id primary key, tenant_id null, writer_id, state, created_at, deadline null",
)
"""`state` is `open`; `ended` while deleted values may still be in the database's log; `partial`
when some tables could not be dropped. The row is deleted when nothing else is left."""


def owner(table: Any) -> sa.ColumnElement[str]:
    """The owner of a row as a comparable text: '' is shared. The unique indexes use the same
    expression."""
    return sa.func.coalesce(table.c.tenant_id, sa.literal_column("''"), type_=sa.Text)

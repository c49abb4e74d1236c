"""The tables of the catalog, in the common dialect of SQLite and PostgreSQL.

`tenant_id` NULL means shared. Uniqueness per tenant is an index over `coalesce(tenant_id, '')`,
because NULLs never collide; it means the same on SQLite and PostgreSQL. A `…_fold` column holds the
folded form (`identifiers.fold`) of the name next to it, and every lookup by a user's spelling
compares folds.
"""

from types import NoneType
from typing import NamedTuple

_TYPES: dict[str, tuple[str, set[type]]] = {
    "text": ("TEXT", {str}),
    "bigint": ("BIGINT", {int}),
    "double": ("DOUBLE PRECISION", {float, int}),
    "blob": ("BLOB", {bytes}),
}


class TableColumn(NamedTuple):
    """A column of a table."""

    name: str
    definition: str
    """As CREATE TABLE has it."""
    types: set[type]
    """The types of its values in Python. SQLite itself stores any value in any column."""


class Table(NamedTuple):
    """A table."""

    name: str
    columns: dict[str, TableColumn]
    """By name."""

    @property
    def insert(self) -> str:
        """The statement that inserts a row, whose parameters are its columns."""
        values = ", ".join(f":{column}" for column in self.columns)
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({values})"

    def update(self, *columns: str) -> str:
        """The beginning of a statement that sets these columns, or all, to their parameters."""
        values = ", ".join(f"{column} = :{column}" for column in columns or self.columns)
        return f"UPDATE {self.name} SET {values}"


TABLES: dict[str, Table] = {}
"""Every table by name."""
CREATE_STATEMENTS: list[str] = []
"""The statements that create the tables, and their indexes, in order."""


def _table(name: str, columns: str, *indexes: str) -> Table:
    """A table.

    A column is `name [type] [null | primary key]`: text, and not null, unless it says otherwise.
    An index is `[unique] name (expressions) [WHERE …]`.
    """
    table = TABLES[name] = Table(name, {})
    keys = []
    for definition in columns.split(", "):
        column, *words = definition.split()
        type_name, types = next((_TYPES[word] for word in words if word in _TYPES), _TYPES["text"])
        if "null" in words:
            types = types | {NoneType}
        else:
            type_name += " NOT NULL"
        if "primary" in words:
            keys.append(column)
        table.columns[column] = TableColumn(column, f"{column} {type_name}", types)
    definitions = [column.definition for column in table.columns.values()]
    if keys:
        definitions.append(f"PRIMARY KEY ({', '.join(keys)})")
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
    "created_at, updated_at, held_at null, held_by null, held_note null",
    "unique recipes_name (name_fold, coalesce(tenant_id, ''))",
    "recipes_held (name_fold) WHERE held_at IS NOT NULL",
)
"""`held_at` is set while a recompute of everything leaves a recipe as it is."""

aliases = _table(
    "aliases",
    "tenant_id null, name, name_fold, target, target_fold",
    "unique aliases_name (name_fold, coalesce(tenant_id, ''))",
)
"""Former names of renamed recipes. No recipe of the same owner has the name of an alias."""

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
`table_status.py`."""

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
    "params, created_at, updated_at",
    "unique checks_name (name_fold, coalesce(tenant_id, ''))",
    "checks_recipe (recipe_fold)",
)
"""`recipe` follows renames; `subject` is its name in the statement, which does not."""

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
    "session_id null, created_at, commit_id",
    "unique logs_name (kind, name_fold, coalesce(tenant_id, ''))",
    "logs_session (session_id) WHERE session_id IS NOT NULL",
)
"""Topics and mutable tables, by `kind`. `commit_id` is drawn anew by each entry: after a catalog
was restored from a backup, another entry gets the position of one that was written before. The
entries are in a table of their own, created and dropped with the record: `logs.py`."""

sessions = _table(
    "ephemeral_sessions",
    "session_id primary key, tenant_id, writer_id, state, created_at, deadline null",
)
"""`state` is `open`; `ended` while deleted values may still be in the database's log, or while some
tables could not be dropped. The row is deleted when nothing else is left."""

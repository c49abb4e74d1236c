"""The tables of the catalog as SQLAlchemy Core objects.

`migrations.py` holds the DDL that creates them; a test compares the two. `tenant_id` NULL means
shared. Uniqueness per tenant is an index over `coalesce(tenant_id, '')`, because NULLs never
collide; it means the same on SQLite and PostgreSQL. A `…_fold` column holds the folded form
(`identifiers.fold`) of the name next to it, and every lookup by a user's spelling compares folds.
"""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
ORDERED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that sorts by code points, as in the columns."""


class Bytes(sa.types.UserDefinedType[bytes]):
    """Bytes that are passed to the driver unchanged: SQLAlchemy's own type wraps each value, which
    for many small ones costs more than the rest."""

    cache_ok = True
    _type_affinity = sa.LargeBinary()._type_affinity

    def get_col_spec(self, **_: Any) -> str:
        return "BLOB"


def _text(name: str, *, null: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _integer(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


migrations_table = sa.Table(
    "migrations",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    _text("name", null=False),
    _text("applied_at", null=False),
)

metadata_table = sa.Table(
    "meta", metadata, sa.Column("key", sa.Text, primary_key=True), _text("value", null=False)
)

writers = sa.Table(
    "writers",
    metadata,
    sa.Column("writer_id", sa.Text, primary_key=True),
    _text("host", null=False),
    _text("boot_id", null=False),
    _integer("pid", null=False),
    _text("started_at", null=False),
    _text("retired_at"),
)

observations = sa.Table(
    "observations", metadata, sa.Column("key", sa.Text, primary_key=True), _text("body", null=False)
)

sources = sa.Table(
    "sources",
    metadata,
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    _text("kind", null=False),
    _text("location", null=False),
    _text("options", null=False),
    _text("anchor", null=False),
    _text("tenant_column"),
    _text("secret"),
    _text("created_at", null=False),
)

recipes = sa.Table(
    "recipes",
    metadata,
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    _text("kind", null=False),
    _text("descriptor", null=False),
    _text("environment", null=False),
    _text("definition_hash", null=False),
    _text("inputs", null=False),
    _text("created_at", null=False),
    _text("updated_at", null=False),
)

aliases = sa.Table(
    "aliases",
    metadata,
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    _text("target", null=False),
    _text("target_fold", null=False),
)
"""Former names of renamed recipes. No recipe of the same owner has the name of an alias."""

holds = sa.Table(
    "holds",
    metadata,
    _text("tenant_id"),
    _text("recipe_fold", null=False),
    _text("held_at", null=False),
    _text("held_by", null=False),
    _text("note", null=False),
)

counters = sa.Table(
    "version_counters",
    metadata,
    _text("tenant_id"),
    _text("recipe", null=False),
    _text("recipe_fold", null=False),
    _integer("last", null=False),
)
"""The highest version number ever assigned: numbers are never reused, even after a drop."""

versions = sa.Table(
    "versions",
    metadata,
    _text("tenant_id"),
    _text("recipe", null=False),
    _text("recipe_fold", null=False),
    _integer("version", null=False),
    _text("table_name", null=False),
    _text("created_at", null=False),
    _integer("pinned", null=False),
    _text("note"),
)

result_tables = sa.Table(
    "result_tables",
    metadata,
    sa.Column("table_name", sa.Text, primary_key=True),
    _text("table_fold", null=False),
    _text("tenant_id"),
    _text("kind", null=False),
    _text("status", null=False),
    _text("writer_id", null=False),
    _text("definition_hash"),
    _integer("row_count"),
    _text("recipe", null=False),
    _integer("version", null=False),
    _text("path", null=False),
    _text("source_id"),
    _text("model_id"),
    _text("derived_from"),
    _text("key_columns", null=False),
    _integer("dimensions"),
    _integer("bytes"),
    _text("created_at", null=False),
    _text("completed_at"),
    sa.Column("seconds", sa.Double),
    _text("columns", null=False),
    _text("anchors", null=False),
    _text("digest"),
    _text("manifest_digest"),
    _integer("order_sensitive", null=False),
    _integer("flight", null=False),
    _text("error"),
)

manifests = sa.Table(
    "manifests",
    metadata,
    sa.Column("table_name", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("body", null=False),
)

lineage = sa.Table(
    "lineage",
    metadata,
    _text("tenant_id"),
    _text("input", null=False),
    _text("derived", null=False),
    _text("kind", null=False),
    _text("input_kind", null=False),
    _text("input_table", null=False),
    _integer("input_physical", null=False),
    _text("node_fold", null=False),
    _text("node_tenant", null=False),
)
"""An edge: `derived` (a physical table) has an anchor on `input` (as it was named). `node_fold`
and `node_tenant` identify the node: the folded name of the recipe to which a physical name
(`input_physical` = 1) belongs, else of the name itself, and its owner when the table was
computed."""

newest_edges = sa.Table(
    "newest_edges",
    metadata,
    _text("tenant_id"),
    _text("recipe", null=False),
    _text("recipe_fold", null=False),
    _text("derived", null=False),
    _text("input", null=False),
    _text("kind", null=False),
    _text("input_kind", null=False),
    _text("input_table", null=False),
    _integer("input_physical", null=False),
    _text("node_fold", null=False),
    _text("node_tenant", null=False),
)
"""The rows of `lineage` for the newest ready version of every recipe, with the recipe and its
owner. Derived from `lineage`, `versions` and `result_tables`, and maintained by
`newest_edges.py`."""

models = sa.Table(
    "models",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    _integer("version", null=False),
    _text("type", null=False),
    _text("backend", null=False),
    _text("task", null=False),
    _integer("dimensions"),
    _text("digest"),
    _text("artifact"),
    _text("artifact_digest"),
    _text("base"),
    _text("config"),
    _text("status", null=False),
    _text("created_at", null=False),
)

trainings = sa.Table(
    "model_training",
    metadata,
    sa.Column("record_id", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("output", null=False),
    _text("output_fold", null=False),
    _text("base", null=False),
    _text("created_at", null=False),
)
"""`output` is a model's name, `base` a model's key."""

evaluations = sa.Table(
    "model_evaluations",
    metadata,
    sa.Column("record_id", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("model", null=False),
    _text("metrics", null=False),
    _text("created_at", null=False),
)
"""`model` is a model's key."""


checks = sa.Table(
    "checks",
    metadata,
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    _text("recipe", null=False),
    _text("recipe_fold", null=False),
    _text("subject", null=False),
    _text("severity", null=False),
    _text("rule", null=False),
    _text("statement", null=False),
    _text("params", null=False),
    _text("created_at", null=False),
    _text("updated_at", null=False),
    _text("kind", null=False),
)
"""`kind` is that of the input that is checked: result, source or mutable. `recipe` is its name and
follows renames; `subject` is the name in the statement, which does not."""

check_results = sa.Table(
    "check_results",
    metadata,
    _text("tenant_id"),
    _text("check_name", null=False),
    _text("check_fold", null=False),
    _text("table_name", null=False),
    _text("definition_hash", null=False),
    _text("anchors_digest", null=False),
    _text("anchors", null=False),
    _text("severity", null=False),
    _text("outcome", null=False),
    _integer("failing"),
    _text("error"),
    _text("checked_at", null=False),
    sa.Column("seconds", sa.Double, nullable=False),
)
"""One row for each check, physical table, definition of the check, and state of what it read."""

mutables = sa.Table(
    "mutable_tables",
    metadata,
    sa.Column("table_id", sa.BigInteger, primary_key=True),
    _text("tenant_id"),
    _text("name", null=False),
    sa.Column("arrow_schema", sa.LargeBinary, nullable=False),
    _text("key_columns", null=False),
    _integer("version", null=False),
    _integer("first_kept", null=False),
    _integer("row_count", null=False),
    _text("session_id"),
    _text("created_at", null=False),
    _integer("numbered", null=False),
)
"""`version` counts commits; the history reaches back to `first_kept`. `numbered` is 1 where keys
are stored as integers. The rows and the history are in tables of their own, created and dropped
with the record: `mutable_storage.py`."""

topics = sa.Table(
    "topics",
    metadata,
    sa.Column("topic_id", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("name", null=False),
    _text("name_fold", null=False),
    sa.Column("columns", sa.LargeBinary, nullable=False),
    _integer("first_offset", null=False),
    _integer("next_offset", null=False),
    sa.Column("retention", sa.Double),
    _text("created_at", null=False),
)
"""`topic_id` is never reused: a topic registered again under its name is another one. `columns` is
an Arrow schema."""

topic_events = sa.Table(
    "topic_events",
    metadata,
    sa.Column("topic_id", sa.Text, primary_key=True),
    sa.Column("event_offset", sa.BigInteger, primary_key=True),
    _text("tenant_id"),
    _text("produced_at", null=False),
    _integer("row_count", null=False),
    _text("digest", null=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""`body` is one Arrow record batch of the topic's schema, `digest` its SHA-256, which is checked
before any byte is parsed as Arrow."""

topic_consumers = sa.Table(
    "topic_consumers",
    metadata,
    sa.Column("topic_id", sa.Text, primary_key=True),
    sa.Column("consumer", sa.Text, primary_key=True),
    _text("tenant_id"),
    _integer("next_offset", null=False),
    _text("updated_at", null=False),
)

sessions = sa.Table(
    "ephemeral_sessions",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    _text("tenant_id"),
    _text("writer_id", null=False),
    _text("state", null=False),
    _text("created_at", null=False),
    _text("deadline"),
)
"""`state` is `open`; `ended` while deleted values may still be in the database's log; `partial`
when some tables could not be dropped. The row is deleted when nothing else is left."""


def owner(table: Any) -> sa.ColumnElement[str]:
    """The owner of a row as a comparable text: '' is shared. The unique indexes use the same
    expression."""
    return sa.func.coalesce(table.c.tenant_id, sa.literal_column("''"), type_=sa.Text)

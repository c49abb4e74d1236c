"""Numbered migrations and the ledger that says which of them a catalog has had.

The DDL is frozen text in the common tongue of SQLite and PostgreSQL: a migration that was released is never edited, a change is a new one at the end.
"""

import sqlalchemy as sa

from jammi_lab.catalog.database import Database
from jammi_lab.errors import CatalogTooNew, WorkspaceReadOnly

_LEDGER = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)"

_SPINE = (
    "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE writers (writer_id TEXT NOT NULL PRIMARY KEY, host TEXT NOT NULL, boot_id TEXT NOT NULL, pid BIGINT NOT NULL,
       started_at TEXT NOT NULL, retired_at TEXT)""",
    "CREATE INDEX writers_unretired ON writers (retired_at)",
    "CREATE TABLE observations (key TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL)",
    """CREATE TABLE sources (tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, kind TEXT NOT NULL, location TEXT NOT NULL,
       options TEXT NOT NULL, anchor TEXT NOT NULL, tenant_column TEXT, secret TEXT, created_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX sources_name ON sources (name_fold, coalesce(tenant_id, ''))",
    """CREATE TABLE recipes (tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, kind TEXT NOT NULL, descriptor TEXT NOT NULL,
       environment TEXT NOT NULL, definition_hash TEXT NOT NULL, inputs TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX recipes_name ON recipes (name_fold, coalesce(tenant_id, ''))",
    "CREATE TABLE version_counters (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT NOT NULL, last BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX version_counters_recipe ON version_counters (recipe_fold, coalesce(tenant_id, ''))",
    """CREATE TABLE versions (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT NOT NULL, version BIGINT NOT NULL, table_name TEXT NOT NULL,
       created_at TEXT NOT NULL, pinned BIGINT NOT NULL, note TEXT)""",
    "CREATE UNIQUE INDEX versions_number ON versions (recipe_fold, coalesce(tenant_id, ''), version)",
    "CREATE INDEX versions_table ON versions (table_name)",
    """CREATE TABLE result_tables (table_name TEXT NOT NULL PRIMARY KEY, table_fold TEXT NOT NULL, tenant_id TEXT, kind TEXT NOT NULL,
       status TEXT NOT NULL, writer_id TEXT NOT NULL, definition_hash TEXT, row_count BIGINT, recipe TEXT NOT NULL, version BIGINT NOT NULL,
       path TEXT NOT NULL, source_id TEXT, model_id TEXT, derived_from TEXT, key_columns TEXT NOT NULL, dimensions BIGINT, bytes BIGINT,
       created_at TEXT NOT NULL, completed_at TEXT, seconds DOUBLE PRECISION, columns TEXT NOT NULL, anchors TEXT NOT NULL, digest TEXT,
       manifest_digest TEXT, order_sensitive BIGINT NOT NULL, flight BIGINT NOT NULL, error TEXT)""",
    "CREATE UNIQUE INDEX result_tables_fold ON result_tables (table_fold)",
    "CREATE UNIQUE INDEX result_tables_flight ON result_tables (coalesce(tenant_id, ''), definition_hash) WHERE status = 'building' AND flight = 1",
    "CREATE INDEX result_tables_status ON result_tables (status, writer_id)",
    "CREATE INDEX result_tables_definition ON result_tables (definition_hash, status)",
    "CREATE TABLE manifests (table_name TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, body TEXT NOT NULL)",
    """CREATE TABLE lineage (tenant_id TEXT, input TEXT NOT NULL, derived TEXT NOT NULL, kind TEXT NOT NULL, input_kind TEXT NOT NULL,
       input_table TEXT NOT NULL, input_physical BIGINT NOT NULL, node_fold TEXT NOT NULL, node_tenant TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX lineage_up ON lineage (derived, input_kind, input, input_table)",
    "CREATE INDEX lineage_down ON lineage (node_fold, input_kind, derived)",
)

_MODELS = (
    """CREATE TABLE models (key TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, version BIGINT NOT NULL,
       type TEXT NOT NULL, backend TEXT NOT NULL, task TEXT NOT NULL, dimensions BIGINT, digest TEXT, artifact TEXT, artifact_digest TEXT,
       base TEXT, config TEXT, status TEXT NOT NULL, created_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX models_version ON models (name_fold, coalesce(tenant_id, ''), version)",
    """CREATE TABLE model_training (record_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, output TEXT NOT NULL, output_fold TEXT NOT NULL,
       base TEXT NOT NULL, created_at TEXT NOT NULL)""",
    "CREATE INDEX model_training_output ON model_training (output_fold)",
    "CREATE INDEX model_training_base ON model_training (base)",
    """CREATE TABLE model_evaluations (record_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, model TEXT NOT NULL, metrics TEXT NOT NULL,
       created_at TEXT NOT NULL)""",
    "CREATE INDEX model_evaluations_model ON model_evaluations (model)",
    "CREATE INDEX result_tables_model ON result_tables (model_id) WHERE model_id IS NOT NULL",
)

_NEWEST = (
    """CREATE TABLE newest_edges (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT NOT NULL, derived TEXT NOT NULL, input TEXT NOT NULL,
       kind TEXT NOT NULL, input_kind TEXT NOT NULL, input_table TEXT NOT NULL, input_physical BIGINT NOT NULL, node_fold TEXT NOT NULL,
       node_tenant TEXT NOT NULL)""",
    """INSERT INTO newest_edges SELECT v.tenant_id, v.recipe, v.recipe_fold, e.derived, e.input, e.kind, e.input_kind, e.input_table,
       e.input_physical, e.node_fold, e.node_tenant FROM versions v JOIN result_tables t ON t.table_name = v.table_name
       JOIN lineage e ON e.derived = v.table_name WHERE t.status = 'ready' AND NOT EXISTS (SELECT 1 FROM versions l
       JOIN result_tables u ON u.table_name = l.table_name WHERE l.recipe_fold = v.recipe_fold
       AND coalesce(l.tenant_id, '') = coalesce(v.tenant_id, '') AND l.version > v.version AND u.status = 'ready')""",
    """CREATE INDEX newest_edges_up ON newest_edges (recipe_fold, coalesce(tenant_id, ''), input_kind, node_fold, input_table, node_tenant,
       tenant_id)""",
    "CREATE INDEX newest_edges_down ON newest_edges (node_fold, input_kind, input_table, node_tenant, recipe_fold, tenant_id)",
)

_MUTABLE_TABLES = (
    """CREATE TABLE mutable_tables (table_id BIGINT NOT NULL PRIMARY KEY, tenant_id TEXT, name TEXT NOT NULL, arrow_schema BLOB NOT NULL,
       key_columns TEXT NOT NULL, version BIGINT NOT NULL, first_kept BIGINT NOT NULL, row_count BIGINT NOT NULL, session_id TEXT,
       created_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX mutable_tables_name ON mutable_tables (name, coalesce(tenant_id, ''))",
    "CREATE INDEX mutable_tables_session ON mutable_tables (session_id) WHERE session_id IS NOT NULL",
)

_TOPICS = (
    """CREATE TABLE topics (topic_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, columns BLOB NOT NULL,
       first_offset BIGINT NOT NULL, next_offset BIGINT NOT NULL, retention DOUBLE PRECISION, created_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX topics_name ON topics (name_fold, coalesce(tenant_id, ''))",
    """CREATE TABLE topic_events (topic_id TEXT NOT NULL, event_offset BIGINT NOT NULL, tenant_id TEXT, produced_at TEXT NOT NULL,
       row_count BIGINT NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (topic_id, event_offset))""",
    """CREATE TABLE topic_consumers (topic_id TEXT NOT NULL, consumer TEXT NOT NULL, tenant_id TEXT, next_offset BIGINT NOT NULL,
       updated_at TEXT NOT NULL, PRIMARY KEY (topic_id, consumer))""",
)

_SESSIONS = (
    """CREATE TABLE ephemeral_sessions (session_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, writer_id TEXT NOT NULL, state TEXT NOT NULL,
       created_at TEXT NOT NULL, deadline TEXT)""",
)

_NUMBERED = ("ALTER TABLE mutable_tables ADD COLUMN numbered BIGINT NOT NULL DEFAULT 0",)

_BY_OTHERS = (  # other tools may enter an edge by the columns that they know, or change one: what we keep of it follows
    """CREATE TABLE edges (tenant_id TEXT, input TEXT NOT NULL, derived TEXT NOT NULL, kind TEXT NOT NULL, input_kind TEXT NOT NULL DEFAULT 'result',
       input_table TEXT NOT NULL DEFAULT '', input_physical BIGINT NOT NULL DEFAULT 0, node_fold TEXT NOT NULL DEFAULT '',
       node_tenant TEXT NOT NULL DEFAULT '')""",
    """INSERT INTO edges SELECT tenant_id, input, derived, kind, input_kind, input_table, input_physical, node_fold, node_tenant FROM lineage""",
    "DROP TABLE lineage",
    "ALTER TABLE edges RENAME TO lineage",
    "CREATE UNIQUE INDEX lineage_up ON lineage (derived, input_kind, input, input_table)",
    "CREATE INDEX lineage_down ON lineage (node_fold, input_kind, derived)",
    """CREATE TRIGGER lineage_entered AFTER INSERT ON lineage WHEN EXISTS (SELECT 1 FROM manifests WHERE table_name = NEW.derived)
       OR EXISTS (SELECT 1 FROM recipes WHERE name_fold = lower(NEW.derived))
       BEGIN UPDATE lineage SET input = input WHERE rowid = NEW.rowid; END""",
    """CREATE TRIGGER lineage_changed AFTER UPDATE OF input, derived ON lineage BEGIN
       UPDATE lineage SET
         derived = coalesce((SELECT v.table_name FROM versions v JOIN result_tables t ON t.table_name = v.table_name
           WHERE v.recipe_fold = lower(NEW.derived) AND t.status = 'ready' ORDER BY v.version DESC LIMIT 1), NEW.derived),
         input_physical = EXISTS (SELECT 1 FROM result_tables WHERE table_fold = lower(NEW.input)),
         input_kind = CASE WHEN EXISTS (SELECT 1 FROM versions WHERE table_name = NEW.input OR recipe_fold = lower(NEW.input)) THEN 'result'
           WHEN EXISTS (SELECT 1 FROM sources WHERE name_fold = lower(NEW.input)) THEN 'source' ELSE NEW.input_kind END,
         node_fold = coalesce((SELECT recipe_fold FROM versions WHERE table_name = NEW.input), lower(NEW.input)),
         node_tenant = coalesce((SELECT coalesce(tenant_id, '') FROM versions WHERE table_name = NEW.input OR recipe_fold = lower(NEW.input)
           ORDER BY coalesce(tenant_id, '') = coalesce(NEW.tenant_id, '') DESC LIMIT 1), NEW.node_tenant)
       WHERE rowid = NEW.rowid;
       DELETE FROM newest_edges WHERE derived IN (OLD.derived, (SELECT derived FROM lineage WHERE rowid = NEW.rowid));
       INSERT INTO newest_edges SELECT v.tenant_id, v.recipe, v.recipe_fold, e.derived, e.input, e.kind, e.input_kind, e.input_table,
         e.input_physical, e.node_fold, e.node_tenant FROM versions v JOIN result_tables t ON t.table_name = v.table_name
         JOIN lineage e ON e.derived = v.table_name
         WHERE v.table_name IN (OLD.derived, (SELECT derived FROM lineage WHERE rowid = NEW.rowid)) AND t.status = 'ready'
         AND NOT EXISTS (SELECT 1 FROM versions l JOIN result_tables u ON u.table_name = l.table_name WHERE l.recipe_fold = v.recipe_fold
           AND coalesce(l.tenant_id, '') = coalesce(v.tenant_id, '') AND l.version > v.version AND u.status = 'ready'); END""",
)

MIGRATIONS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, "the spine", _SPINE),
    (2, "models", _MODELS),
    (3, "newest marks", _NEWEST),
    (4, "mutable tables", _MUTABLE_TABLES),
    (5, "topics", _TOPICS),
    (6, "ephemeral sessions", _SESSIONS),
    (7, "keys that are whole numbers", _NUMBERED),
    (8, "edges that others enter", _BY_OTHERS),
)
"""(number, name, statements), rising; never edited once released."""


def newest() -> int:
    """The number that this release brings a catalog to."""
    return MIGRATIONS[-1][0]


def migrate(database: Database, applied_at: str) -> None:
    """Leave the catalog at this release's number, in one transaction; one statement and no more when it is there already.

    Raises CatalogTooNew when a later release has written it, and changes nothing then.
    """
    reached = _check(database, _reached(database)) if database.existed else 0
    if reached == newest():
        return
    if database.read_only:
        raise WorkspaceReadOnly(
            f"The catalog {database.label} is of an earlier format and has to be updated first.", hint="Open it once without read_only."
        )
    with database.write() as tx:
        if not database.has_table("migrations"):
            for statement in database.dialect.groundwork:
                tx.exec_driver_sql(statement)
            tx.exec_driver_sql(database.dialect.ddl(_LEDGER))
        done = _check(
            database, tx.exec_driver_sql("SELECT coalesce(max(number), 0) FROM migrations").scalar_one()
        )  # another kernel may have been first
        for number, name, statements in MIGRATIONS:
            if number <= done:
                continue
            for statement in statements:
                if told := database.dialect.ddl(statement):
                    tx.exec_driver_sql(told)
            tx.execute(
                sa.text("INSERT INTO migrations VALUES (:number, :name, :applied_at)"), {"number": number, "name": name, "applied_at": applied_at}
            )


def _reached(database: Database) -> int:
    if not database.has_table("migrations"):
        return 0
    with database.read() as tx:
        return int(tx.exec_driver_sql("SELECT coalesce(max(number), 0) FROM migrations").scalar_one())


def _check(database: Database, number: int) -> int:
    if number > newest():
        raise CatalogTooNew(
            f"The catalog {database.label} was written by a later release (format {number}; this one reads up to {newest()}).",
            hint="Update jammi_lab to open it: pip install --upgrade jammi-lab",
        )
    return number

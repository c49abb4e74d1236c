"""Numbered migrations, and the ledger of those that a catalog has had.

The DDL is frozen text in the common dialect of SQLite and PostgreSQL: a released migration is never
edited, a change is a new one at the end.
"""

import sqlalchemy as sa

from jammi_lab.catalog.database import Database, execute
from jammi_lab.core.errors import CatalogTooNew, WorkspaceReadOnly

_LEDGER = (
    "CREATE TABLE IF NOT EXISTS migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT "
    "NULL, applied_at TEXT NOT NULL)"
)

_SPINE = (
    "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    (
        "CREATE TABLE writers (writer_id TEXT NOT NULL PRIMARY KEY, host TEXT NOT NULL, "
        "boot_id TEXT NOT NULL, pid BIGINT NOT NULL,\n"
        "       started_at TEXT NOT NULL, retired_at TEXT)"
    ),
    "CREATE INDEX writers_unretired ON writers (retired_at)",
    "CREATE TABLE observations (key TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL)",
    (
        "CREATE TABLE sources (tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, "
        "kind TEXT NOT NULL, location TEXT NOT NULL,\n"
        "       options TEXT NOT NULL, anchor TEXT NOT NULL, tenant_column TEXT, secret TEXT, "
        "created_at TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX sources_name ON sources (name_fold, coalesce(tenant_id, ''))",
    (
        "CREATE TABLE recipes (tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, "
        "kind TEXT NOT NULL, descriptor TEXT NOT NULL,\n"
        "       environment TEXT NOT NULL, definition_hash TEXT NOT NULL, inputs TEXT NOT "
        "NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX recipes_name ON recipes (name_fold, coalesce(tenant_id, ''))",
    (
        "CREATE TABLE version_counters (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT "
        "NOT NULL, last BIGINT NOT NULL)"
    ),
    (
        "CREATE UNIQUE INDEX version_counters_recipe ON version_counters (recipe_fold, "
        "coalesce(tenant_id, ''))"
    ),
    (
        "CREATE TABLE versions (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT NOT "
        "NULL, version BIGINT NOT NULL, table_name TEXT NOT NULL,\n"
        "       created_at TEXT NOT NULL, pinned BIGINT NOT NULL, note TEXT)"
    ),
    (
        "CREATE UNIQUE INDEX versions_number ON versions (recipe_fold, coalesce(tenant_id, ''), "
        "version)"
    ),
    "CREATE INDEX versions_table ON versions (table_name)",
    (
        "CREATE TABLE result_tables (table_name TEXT NOT NULL PRIMARY KEY, table_fold TEXT NOT "
        "NULL, tenant_id TEXT, kind TEXT NOT NULL,\n"
        "       status TEXT NOT NULL, writer_id TEXT NOT NULL, definition_hash TEXT, row_count "
        "BIGINT, recipe TEXT NOT NULL, version BIGINT NOT NULL,\n"
        "       path TEXT NOT NULL, source_id TEXT, model_id TEXT, derived_from TEXT, "
        "key_columns TEXT NOT NULL, dimensions BIGINT, bytes BIGINT,\n"
        "       created_at TEXT NOT NULL, completed_at TEXT, seconds DOUBLE PRECISION, columns "
        "TEXT NOT NULL, anchors TEXT NOT NULL, digest TEXT,\n"
        "       manifest_digest TEXT, order_sensitive BIGINT NOT NULL, flight BIGINT NOT NULL, "
        "error TEXT)"
    ),
    "CREATE UNIQUE INDEX result_tables_fold ON result_tables (table_fold)",
    (
        "CREATE UNIQUE INDEX result_tables_flight ON result_tables (coalesce(tenant_id, ''), "
        "definition_hash) WHERE status = 'building' AND flight = 1"
    ),
    "CREATE INDEX result_tables_status ON result_tables (status, writer_id)",
    "CREATE INDEX result_tables_definition ON result_tables (definition_hash, status)",
    (
        "CREATE TABLE manifests (table_name TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, body "
        "TEXT NOT NULL)"
    ),
    (
        "CREATE TABLE lineage (tenant_id TEXT, input TEXT NOT NULL, derived TEXT NOT NULL, "
        "kind TEXT NOT NULL, input_kind TEXT NOT NULL,\n"
        "       input_table TEXT NOT NULL, input_physical BIGINT NOT NULL, node_fold TEXT NOT "
        "NULL, node_tenant TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX lineage_up ON lineage (derived, input_kind, input, input_table)",
    "CREATE INDEX lineage_down ON lineage (node_fold, input_kind, derived)",
)

_MODELS = (
    (
        "CREATE TABLE models (key TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, name TEXT NOT "
        "NULL, name_fold TEXT NOT NULL, version BIGINT NOT NULL,\n"
        "       type TEXT NOT NULL, backend TEXT NOT NULL, task TEXT NOT NULL, dimensions "
        "BIGINT, digest TEXT, artifact TEXT, artifact_digest TEXT,\n"
        "       base TEXT, config TEXT, status TEXT NOT NULL, created_at TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX models_version ON models (name_fold, coalesce(tenant_id, ''), version)",
    (
        "CREATE TABLE model_training (record_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, "
        "output TEXT NOT NULL, output_fold TEXT NOT NULL,\n"
        "       base TEXT NOT NULL, created_at TEXT NOT NULL)"
    ),
    "CREATE INDEX model_training_output ON model_training (output_fold)",
    "CREATE INDEX model_training_base ON model_training (base)",
    (
        "CREATE TABLE model_evaluations (record_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, "
        "model TEXT NOT NULL, metrics TEXT NOT NULL,\n"
        "       created_at TEXT NOT NULL)"
    ),
    "CREATE INDEX model_evaluations_model ON model_evaluations (model)",
    "CREATE INDEX result_tables_model ON result_tables (model_id) WHERE model_id IS NOT NULL",
)

_NEWEST = (
    (
        "CREATE TABLE newest_edges (tenant_id TEXT, recipe TEXT NOT NULL, recipe_fold TEXT NOT "
        "NULL, derived TEXT NOT NULL, input TEXT NOT NULL,\n"
        "       kind TEXT NOT NULL, input_kind TEXT NOT NULL, input_table TEXT NOT NULL, "
        "input_physical BIGINT NOT NULL, node_fold TEXT NOT NULL,\n"
        "       node_tenant TEXT NOT NULL)"
    ),
    (
        "INSERT INTO newest_edges SELECT v.tenant_id, v.recipe, v.recipe_fold, e.derived, "
        "e.input, e.kind, e.input_kind, e.input_table,\n"
        "       e.input_physical, e.node_fold, e.node_tenant FROM versions v JOIN "
        "result_tables t ON t.table_name = v.table_name\n"
        "       JOIN lineage e ON e.derived = v.table_name WHERE t.status = 'ready' AND NOT "
        "EXISTS (SELECT 1 FROM versions l\n"
        "       JOIN result_tables u ON u.table_name = l.table_name WHERE l.recipe_fold = "
        "v.recipe_fold\n"
        "       AND coalesce(l.tenant_id, '') = coalesce(v.tenant_id, '') AND l.version > "
        "v.version AND u.status = 'ready')"
    ),
    (
        "CREATE INDEX newest_edges_up ON newest_edges (recipe_fold, coalesce(tenant_id, ''), "
        "input_kind, node_fold, input_table, node_tenant,\n"
        "       tenant_id)"
    ),
    (
        "CREATE INDEX newest_edges_down ON newest_edges (node_fold, input_kind, input_table, "
        "node_tenant, recipe_fold, tenant_id)"
    ),
)

_MUTABLE_TABLES = (
    (
        "CREATE TABLE mutable_tables (table_id BIGINT NOT NULL PRIMARY KEY, tenant_id TEXT, "
        "name TEXT NOT NULL, arrow_schema BLOB NOT NULL,\n"
        "       key_columns TEXT NOT NULL, version BIGINT NOT NULL, first_kept BIGINT NOT "
        "NULL, row_count BIGINT NOT NULL, session_id TEXT,\n"
        "       created_at TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX mutable_tables_name ON mutable_tables (name, coalesce(tenant_id, ''))",
    (
        "CREATE INDEX mutable_tables_session ON mutable_tables (session_id) WHERE session_id IS "
        "NOT NULL"
    ),
)

_TOPICS = (
    (
        "CREATE TABLE topics (topic_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, name TEXT "
        "NOT NULL, name_fold TEXT NOT NULL, columns BLOB NOT NULL,\n"
        "       first_offset BIGINT NOT NULL, next_offset BIGINT NOT NULL, retention DOUBLE "
        "PRECISION, created_at TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX topics_name ON topics (name_fold, coalesce(tenant_id, ''))",
    (
        "CREATE TABLE topic_events (topic_id TEXT NOT NULL, event_offset BIGINT NOT NULL, "
        "tenant_id TEXT, produced_at TEXT NOT NULL,\n"
        "       row_count BIGINT NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL, PRIMARY "
        "KEY (topic_id, event_offset))"
    ),
    (
        "CREATE TABLE topic_consumers (topic_id TEXT NOT NULL, consumer TEXT NOT NULL, "
        "tenant_id TEXT, next_offset BIGINT NOT NULL,\n"
        "       updated_at TEXT NOT NULL, PRIMARY KEY (topic_id, consumer))"
    ),
)

_SESSIONS = (
    (
        "CREATE TABLE ephemeral_sessions (session_id TEXT NOT NULL PRIMARY KEY, tenant_id "
        "TEXT, writer_id TEXT NOT NULL, state TEXT NOT NULL,\n"
        "       created_at TEXT NOT NULL, deadline TEXT)"
    ),
)

_NUMBERED = ("ALTER TABLE mutable_tables ADD COLUMN numbered BIGINT NOT NULL DEFAULT 0",)

# other tools may insert an edge with the columns they know, or update one: triggers derive the rest
_BY_OTHERS = (
    (
        "CREATE TABLE edges (tenant_id TEXT, input TEXT NOT NULL, derived TEXT NOT NULL, kind "
        "TEXT NOT NULL, input_kind TEXT NOT NULL DEFAULT 'result',\n"
        "       input_table TEXT NOT NULL DEFAULT '', input_physical BIGINT NOT NULL DEFAULT "
        "0, node_fold TEXT NOT NULL DEFAULT '',\n"
        "       node_tenant TEXT NOT NULL DEFAULT '')"
    ),
    (
        "INSERT INTO edges SELECT tenant_id, input, derived, kind, input_kind, input_table, "
        "input_physical, node_fold, node_tenant FROM lineage"
    ),
    "DROP TABLE lineage",
    "ALTER TABLE edges RENAME TO lineage",
    "CREATE UNIQUE INDEX lineage_up ON lineage (derived, input_kind, input, input_table)",
    "CREATE INDEX lineage_down ON lineage (node_fold, input_kind, derived)",
    (
        "CREATE TRIGGER lineage_entered AFTER INSERT ON lineage WHEN EXISTS (SELECT 1 FROM "
        "manifests WHERE table_name = NEW.derived)\n"
        "       OR EXISTS (SELECT 1 FROM recipes WHERE name_fold = lower(NEW.derived))\n"
        "       BEGIN UPDATE lineage SET input = input WHERE rowid = NEW.rowid; END"
    ),
    (
        "CREATE TRIGGER lineage_changed AFTER UPDATE OF input, derived ON lineage BEGIN\n"
        "       UPDATE lineage SET\n"
        "         derived = coalesce((SELECT v.table_name FROM versions v JOIN result_tables t "
        "ON t.table_name = v.table_name\n"
        "           WHERE v.recipe_fold = lower(NEW.derived) AND t.status = 'ready' ORDER BY "
        "v.version DESC LIMIT 1), NEW.derived),\n"
        "         input_physical = EXISTS (SELECT 1 FROM result_tables WHERE table_fold = "
        "lower(NEW.input)),\n"
        "         input_kind = CASE WHEN EXISTS (SELECT 1 FROM versions WHERE table_name = "
        "NEW.input OR recipe_fold = lower(NEW.input)) THEN 'result'\n"
        "           WHEN EXISTS (SELECT 1 FROM sources WHERE name_fold = lower(NEW.input)) "
        "THEN 'source' ELSE NEW.input_kind END,\n"
        "         node_fold = coalesce((SELECT recipe_fold FROM versions WHERE table_name = "
        "NEW.input), lower(NEW.input)),\n"
        "         node_tenant = coalesce((SELECT coalesce(tenant_id, '') FROM versions WHERE "
        "table_name = NEW.input OR recipe_fold = lower(NEW.input)\n"
        "           ORDER BY coalesce(tenant_id, '') = coalesce(NEW.tenant_id, '') DESC LIMIT "
        "1), NEW.node_tenant)\n"
        "       WHERE rowid = NEW.rowid;\n"
        "       DELETE FROM newest_edges WHERE derived IN (OLD.derived, (SELECT derived FROM "
        "lineage WHERE rowid = NEW.rowid));\n"
        "       INSERT INTO newest_edges SELECT v.tenant_id, v.recipe, v.recipe_fold, "
        "e.derived, e.input, e.kind, e.input_kind, e.input_table,\n"
        "         e.input_physical, e.node_fold, e.node_tenant FROM versions v JOIN "
        "result_tables t ON t.table_name = v.table_name\n"
        "         JOIN lineage e ON e.derived = v.table_name\n"
        "         WHERE v.table_name IN (OLD.derived, (SELECT derived FROM lineage WHERE rowid "
        "= NEW.rowid)) AND t.status = 'ready'\n"
        "         AND NOT EXISTS (SELECT 1 FROM versions l JOIN result_tables u ON "
        "u.table_name = l.table_name WHERE l.recipe_fold = v.recipe_fold\n"
        "           AND coalesce(l.tenant_id, '') = coalesce(v.tenant_id, '') AND l.version > "
        "v.version AND u.status = 'ready'); END"
    ),
)

_CHECKS = (
    """CREATE TABLE checks (
       tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL,
       recipe TEXT NOT NULL, recipe_fold TEXT NOT NULL, subject TEXT NOT NULL,
       severity TEXT NOT NULL, rule TEXT NOT NULL, statement TEXT NOT NULL, params TEXT NOT NULL,
       created_at TEXT NOT NULL, updated_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX checks_name ON checks (name_fold, coalesce(tenant_id, ''))",
    "CREATE INDEX checks_recipe ON checks (recipe_fold)",
    """CREATE TABLE check_results (
       tenant_id TEXT, check_name TEXT NOT NULL, check_fold TEXT NOT NULL,
       table_name TEXT NOT NULL, definition_hash TEXT NOT NULL,
       anchors_digest TEXT NOT NULL, anchors TEXT NOT NULL,
       severity TEXT NOT NULL, outcome TEXT NOT NULL, failing BIGINT, error TEXT,
       checked_at TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL)""",
    (
        "CREATE UNIQUE INDEX check_results_key ON check_results (check_fold, "
        "coalesce(tenant_id, ''), table_name, definition_hash, anchors_digest)"
    ),
    "CREATE INDEX check_results_table ON check_results (table_name)",
)

_CHECKED_KINDS = ("ALTER TABLE checks ADD COLUMN kind TEXT NOT NULL DEFAULT 'result'",)

_ALIASES_AND_HOLDS = (
    (
        "CREATE TABLE aliases (tenant_id TEXT, name TEXT NOT NULL, name_fold TEXT NOT NULL, "
        "target TEXT NOT NULL, target_fold TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX aliases_name ON aliases (name_fold, coalesce(tenant_id, ''))",
    (
        "CREATE TABLE holds (tenant_id TEXT, recipe_fold TEXT NOT NULL, held_at TEXT NOT NULL, "
        "held_by TEXT NOT NULL, note TEXT NOT NULL)"
    ),
    "CREATE UNIQUE INDEX holds_recipe ON holds (recipe_fold, coalesce(tenant_id, ''))",
)

_COMMIT_IDS = (
    "ALTER TABLE mutable_tables ADD COLUMN commit_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE topics ADD COLUMN commit_id TEXT NOT NULL DEFAULT ''",
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
    (9, "checks", _CHECKS),
    (10, "checks of sources and mutable tables", _CHECKED_KINDS),
    (11, "aliases and holds", _ALIASES_AND_HOLDS),
    (12, "ids of commits", _COMMIT_IDS),
)
"""(number, name, statements), ascending; never edited once released."""


def newest_number() -> int:
    """The format number that this release migrates a catalog to."""
    return MIGRATIONS[-1][0]


def migrate(database: Database, applied_at: str) -> None:
    """Bring the catalog to this release's format, in one transaction. An up-to-date catalog costs
    one query.

    Raises CatalogTooNew, and changes nothing, when a later release has written it;
    WorkspaceReadOnly when it needs a migration and was opened read-only.
    """
    current = _check_not_newer(database, _current_number(database)) if database.existed else 0
    if current == newest_number():
        return
    if database.read_only:
        raise WorkspaceReadOnly(
            f"The catalog {database.label} has an earlier format and must be migrated first.",
            hint="Open it once without read_only.",
        )
    with database.write() as tx:
        if not database.has_table("migrations"):
            for statement in database.dialect.setup_statements:
                execute(tx, statement)
            execute(tx, database.dialect.ddl(_LEDGER))
        # read again under the write lock: another kernel may have migrated it meanwhile
        current_number = _check_not_newer(
            database,
            tx.exec_driver_sql("SELECT coalesce(max(number), 0) FROM migrations").scalar_one(),
        )
        for number, name, statements in MIGRATIONS:
            if number <= current_number:
                continue
            for statement in statements:
                if statement_text := database.dialect.ddl(statement):
                    execute(tx, statement_text)
            tx.execute(
                sa.text("INSERT INTO migrations VALUES (:number, :name, :applied_at)"),
                {"number": number, "name": name, "applied_at": applied_at},
            )


def _current_number(database: Database) -> int:
    if not database.has_table("migrations"):
        return 0
    with database.read() as tx:
        return int(
            tx.exec_driver_sql("SELECT coalesce(max(number), 0) FROM migrations").scalar_one()
        )


def _check_not_newer(database: Database, number: int) -> int:
    if number > newest_number():
        raise CatalogTooNew(
            f"The catalog {database.label} was written by a later release (format {number}; "
            f"this one reads up to {newest_number()}).",
            hint="Update jammi_lab to open it: pip install --upgrade jammi-lab",
        )
    return number

"""Queries of PostgreSQL's catalog: tables, what a view depends on, the position of the log."""

from __future__ import annotations

TABLE_LISTING = """
SELECT n.nspname::text AS "schema", c.relname::text AS "name"
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
ORDER BY 1, 2"""
TABLE_DESCRIPTIONS = """
WITH RECURSIVE it AS (
  SELECT c.oid, c.relkind::text AS form, c.relname, n.nspname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE (n.nspname, c.relname) IN ({names}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), parts AS (
  SELECT oid AS root, oid FROM it
  UNION SELECT p.root, i.inhrelid FROM pg_catalog.pg_inherits i JOIN parts p ON i.inhparent = p.oid
), sums AS (
  SELECT root,
    bool_and(c.relkind IN ('r', 'p', 'm') AND c.relpersistence = 'p' AND NOT c.relrowsecurity
      AND NOT named) AS logged,
    sum(CASE WHEN c.relkind NOT IN ('r', 'm') THEN 0 WHEN c.reltuples >= 0 AND c.relpages > 0
      THEN ceil(c.reltuples::float8 / c.relpages
        * (pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::float8))
      ELSE pg_catalog.pg_relation_size(c.oid) / {row} END)::float8 AS estimate,
    sum(CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END)
      ::bigint AS bytes,
    bool_or(c.relkind NOT IN ('r', 'p', 'm')) AS untold, bool_or(c.relkind = 'f') AS "foreign",
    bool_or(c.relrowsecurity AND pg_catalog.row_security_active(c.oid) OR named) AS by_session
  FROM parts JOIN pg_catalog.pg_class c USING (oid), LATERAL (SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND (SELECT typname FROM pg_catalog.pg_type
        WHERE oid = COALESCE(NULLIF(t.typbasetype, 0), NULLIF(t.typelem, 0), t.oid))
        ~ '^reg(class|coll|conf|dict|oper|proc|type)') AS named) n GROUP BY root)
SELECT it.nspname::text AS "schema", it.relname::text AS "name", it.oid::bigint AS oid, it.form,
  logged, estimate, bytes, untold, "foreign", by_session, (
  SELECT json_agg(json_build_array(
    a.attname, CASE WHEN t.typnamespace <> 'pg_catalog'::regnamespace
      THEN t.typnamespace::regnamespace::text || '.' ELSE '' END || pg_catalog.regexp_replace(
      pg_catalog.format_type(t.oid, CASE WHEN own.typtype = 'd' THEN own.typtypmod
        ELSE a.atttypmod END), '^("([^"]|"")*"|[^".]+)[.]', ''), a.attnum,
    COALESCE((SELECT string_agg(e.enumlabel::text, ',' ORDER BY e.enumsortorder)
      FROM pg_catalog.pg_enum e WHERE e.enumtypid IN (a.atttypid, t.typelem)), ''),
    COALESCE((SELECT string_agg(
        m.attname::text || ' ' || pg_catalog.format_type(m.atttypid, m.atttypmod), ','
        ORDER BY m.attnum)
      FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid AND t.typrelid <> 0
        AND m.attnum > 0 AND NOT m.attisdropped), ''),
    COALESCE(to_jsonb(a) ->> 'attgenerated', ''))
    ORDER BY a.attnum)
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type own ON own.oid = a.atttypid
  JOIN pg_catalog.pg_type t
    ON t.oid = CASE WHEN own.typtype = 'd' THEN own.typbasetype ELSE own.oid END
  WHERE a.attrelid = it.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns
FROM it JOIN sums ON sums.root = it.oid"""
"""What is known of some tables. `by_session`: whether the settings of a session decide what they
show, as by row security and in names such as `regclass`, which have their schema where the search
path does not lead to the object. No log has the settings."""
VIEW_DEPENDENCIES = r"""
WITH RECURSIVE behind AS (
  SELECT {oid}::oid AS oid UNION SELECT n.oid FROM behind b, LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = b.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND c.relkind = 'v'
      JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass WHERE c.oid = b.oid) n
), trees AS (
  SELECT 'view' AS owner, r.ev_action::text AS tree FROM behind b
  JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind = 'v'
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid
  UNION ALL SELECT 'row security', p.polqual::text FROM behind b
  JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relrowsecurity
  JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid
), found AS (
  SELECT owner, f[1]::oid AS oid, f FROM trees, LATERAL regexp_matches(
    tree,
    ':(?:op)?funcid (\d+)|{{TABLESAMPLECLAUSE '
    '|(:sortClause <> :limitOffset )(?!<> :limitCount <>)|(:relid '
    || 'pg_catalog.pg_settings'::regclass::oid || ' )',
    'g') f
), own AS (
  SELECT oid, proname, COALESCE(tree, prosrc) AS body, tree IS NOT NULL AS is_tree
  FROM pg_catalog.pg_proc p, LATERAL (SELECT to_jsonb(p) ->> 'prosqlbody' AS tree) t
  WHERE oid >= 16384 AND EXISTS (SELECT FROM found WHERE found.oid >= 16384)
), calls AS (
  SELECT oid, oid AS called FROM own WHERE oid IN (SELECT oid FROM found)
  UNION SELECT calls.oid, b.oid FROM calls JOIN own a ON a.oid = calls.called JOIN own b
    ON CASE WHEN a.is_tree THEN a.body ~ (':(?:op)?funcid ' || b.oid || ' ')
      ELSE strpos(a.body, b.proname::text) > 0 END
), session AS (
  SELECT calls.oid FROM calls JOIN own ON own.oid = calls.called WHERE CASE WHEN own.is_tree
    THEN EXISTS (SELECT FROM regexp_matches(body, ':(?:op)?funcid (\d+)', 'g') f
      JOIN pg_catalog.pg_proc p ON p.oid = f[1]::oid AND p.proname ~ {setting})
    ELSE own.body ~ {setting} END
), fickle AS (
  SELECT min('its ' || owner || CASE
    WHEN f[2] IS NOT NULL THEN ' has a LIMIT without an ORDER BY, which returns arbitrary rows'
    WHEN f[3] IS NOT NULL THEN ' reads pg_settings, which differs between sessions'
    WHEN p.provolatile <> 'v' THEN ' uses ' || p.proname::text || '(), whose value may differ '
      'between sessions'
    ELSE ' uses ' || COALESCE(p.proname::text || '()', 'TABLESAMPLE') || ', which is volatile'
    END) AS said FROM found
  LEFT JOIN pg_catalog.pg_proc p USING (oid)
  WHERE f[1] IS NULL OR p.provolatile = 'v' OR p.proname ~ {setting} OR p.oid IN (
    SELECT oid FROM session)
), arrivals AS (
  SELECT owner, p.proname || '()' AS said FROM trees, LATERAL regexp_matches(
    tree, 'AGGREF :aggfnoid (\d+) (?:(?!:aggorder ).)*:aggorder <>|:winfnoid (\d+)', 'g') f
  JOIN pg_catalog.pg_proc p ON p.oid = COALESCE(f[1], f[2])::oid AND (p.oid >= 16384
    OR p.proname ~ '^(row_number|ntile|lag|lead|first_value|last_value|nth_value)$|agg(_|$)')
  WHERE f[2] IS NULL OR tree ~ 'WINDOWCLAUSE (?:(?!:orderClause ).)*:orderClause <>'
  UNION ALL SELECT owner, 'DISTINCT ON' FROM trees
  WHERE tree ~ ':hasDistinctOn true' AND tree ~ ':distinctClause \([^()]*\) :sortClause <>'
), unordered AS (
  SELECT min('its ' || owner || ' uses ' || said || ' without an ORDER BY, which takes rows as '
    'they arrive') AS said FROM arrivals
), defaults AS (
  SELECT DISTINCT ON (name) name, regexp_replace(value, '^pg_catalog\.', '') AS value FROM (
    SELECT split_part(s, '=', 1) AS name, substr(s, strpos(s, '=') + 1) AS value,
      2 * (setrole <> 0)::int + (setdatabase <> 0)::int AS rank
    FROM pg_catalog.pg_db_role_setting, unnest(setconfig) s
    WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
        WHERE datname = pg_catalog.current_database()))
      AND setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))) d
  ORDER BY name, rank DESC
), outdated AS (
  SELECT 'the settings of new sessions changed (' || string_agg(name, ', ' ORDER BY name)
    || '); close the workspace and open it again' AS said
  FROM pg_catalog.pg_settings g LEFT JOIN defaults d USING (name)
  WHERE g.category ~ 'Statement Behavior|Locale and Formatting|Compatibility|Customized'
    AND g.unit IS NULL AND g.source <> 'client' AND COALESCE(
    CASE WHEN g.vartype = 'bool' THEN d.value::boolean <> g.reset_val::boolean
      ELSE lower(d.value) <> lower(regexp_replace(g.reset_val, '^pg_catalog\.', '')) END,
    g.source IN ('global', 'database', 'user', 'database user'))
)
SELECT COALESCE((SELECT said FROM fickle), (SELECT said FROM unordered),
  (SELECT said FROM outdated)) AS fickle, (
  SELECT bool_or(c.relkind = 'f') FROM behind JOIN pg_catalog.pg_class c USING (oid)
) AS outside"""
"""Why a view or a row security policy is not deterministic, and whether it reads foreign tables.
The bodies of functions that are not the server's own (OIDs from 16384) are followed through the
names in them, so a function that calls one that reads a setting counts; releases before 14 have no
`prosqlbody`. Run only where there is one, since compiling the query takes the server 20 ms."""


LOG_POSITION = """
SELECT p.*, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks
  WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND p.lsn IS NOT NULL) AS writers
FROM (
  SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS "system",
    (SELECT timeline_id::text FROM pg_catalog.pg_control_checkpoint()) AS "timeline",
    pg_catalog.pg_postmaster_start_time()::text AS "began",
    pg_catalog.pg_current_wal_insert_lsn()::text AS "lsn"
  WHERE NOT pg_catalog.pg_is_in_recovery()
    AND pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
    AND pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')
  OFFSET 0) p"""
"""The position of the log, and the number of open writing transactions: each holds the lock on its
own id until its changes are visible to all. They are counted after the position was taken, so that
no commit falls between the two: the count depends on the row of the position, which `OFFSET 0`
keeps from being computed again."""

# Each of these must be refused before anything runs.
CREATE TABLE x AS SELECT 1
CREATE VIEW v AS SELECT 1
CREATE SCHEMA s
CREATE MACRO m() AS 1
CREATE SECRET s (TYPE s3)
CREATE TEMP TABLE x AS SELECT 1
CREATE SEQUENCE s
CREATE TYPE t AS ENUM ('a')
DROP TABLE papers
ALTER TABLE papers ADD COLUMN x INT
INSERT INTO papers VALUES (1)
INSERT INTO mutable.labels VALUES (1)
UPDATE papers SET id = 1
DELETE FROM papers
TRUNCATE papers
MERGE INTO papers USING venues ON true WHEN MATCHED THEN DELETE
ATTACH 'x.db' AS x
ATTACH ':memory:' AS x
DETACH x
USE memory
COPY papers TO 'x.csv'
COPY (SELECT 1) TO 'x.csv'
COPY papers FROM 'x.csv'
EXPORT DATABASE 'x'
IMPORT DATABASE 'x'
INSTALL httpfs
LOAD httpfs
UPDATE EXTENSIONS
SET threads = 1
SET GLOBAL TimeZone = 'CET'
RESET threads
SET VARIABLE x = 1
PRAGMA version
PRAGMA show_tables
PRAGMA table_info('papers')
PRAGMA database_list
/* ; */ pragma table_info(repeat('a', 3))
SELECT 1;;/* ; */PRAGMA version
EXPLAIN PRAGMA json_execute_serialized_sql('x=' || current_setting('secret_directory'))
IMPORT /* x */ database '/none'
CALL pragma_version()
CALL duckdb_secrets()
BEGIN
BEGIN TRANSACTION
COMMIT
ROLLBACK
CHECKPOINT
FORCE CHECKPOINT
VACUUM
ANALYZE
PREPARE q AS SELECT 1
EXECUTE q
DEALLOCATE q
EXPLAIN COPY papers TO 'x.csv'
EXPLAIN ANALYZE INSERT INTO papers VALUES (1)
EXPLAIN CREATE TABLE x AS SELECT 1
EXPLAIN SELECT * FROM read_csv('/etc/passwd')
SELECT 1; DROP TABLE papers
SELECT 1; SELECT * FROM read_text('/etc/passwd')
FROM '/etc/passwd'
FROM "/etc/passwd"
FROM 'x.csv'
FROM "x.parquet"
FROM '*.csv'
FROM 'https://example.org/x.parquet'
FROM 's3://bucket/x.parquet'
SELECT * FROM read_csv('x.csv')
SELECT * FROM read_csv_auto('x.csv')
SELECT * FROM read_parquet('x.parquet')
SELECT * FROM read_parquet(['x.parquet'])
SELECT * FROM parquet_scan('x.parquet')
SELECT * FROM parquet_metadata('x.parquet')
SELECT * FROM parquet_schema('x.parquet')
SELECT * FROM read_json('x.json')
SELECT * FROM read_json_auto('x.json')
SELECT * FROM read_ndjson('x.json')
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM read_blob('/etc/passwd')
SELECT * FROM read_duckdb('x.db')
SELECT * FROM glob('/etc/*')
SELECT * FROM sniff_csv('x.csv')
SELECT * FROM sqlite_scan('x.db', 't')
SELECT * FROM postgres_scan('dsn', 'public', 't')
SELECT * FROM query('SELECT 1')
SELECT * FROM query_table('papers')
SELECT * FROM query_table(['papers'])
SELECT * FROM duckdb_secrets()
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_tables()
SELECT * FROM duckdb_databases()
SELECT * FROM duckdb_functions()
SELECT * FROM duckdb_logs
SELECT * FROM duckdb_variables()
SELECT * FROM pragma_table_info('papers')
SELECT * FROM pragma_storage_info('papers')
SELECT * FROM pragma_version()
SELECT * FROM summary(papers)
SELECT * FROM test_all_types()
SELECT * FROM repeat_row(1, num_rows := 3)
SELECT * FROM which_secret('s3://x', 's3')
SELECT * FROM json_execute_serialized_sql('{}')
SELECT * FROM arrow_scan(1, 2, 3)
SELECT * FROM pandas_scan(1)
SELECT * FROM seq_scan('papers')
SELECT * FROM python_map_function()
SELECT * FROM "glob"('/etc/*')
SELECT * FROM main.read_csv('x.csv')
SELECT * FROM system.main.read_csv('x.csv')
SELECT * FROM system.main.range(3)
SELECT * FROM papers, read_csv(papers.venue)
SELECT * FROM papers, LATERAL (SELECT * FROM read_text(papers.venue))
SELECT * FROM search('papers', 'x')
SELECT * FROM information_schema.tables
SELECT * FROM information_schema.schemata
SELECT * FROM pg_catalog.pg_class
SELECT * FROM pg_class
SELECT * FROM sqlite_master
SELECT * FROM duckdb_tables
SELECT * FROM duckdb_views
SELECT * FROM main.papers
SELECT * FROM memory.main.papers
SELECT * FROM system.main.duckdb_tables
SELECT * FROM temp.main.papers
SELECT * FROM temp.main.__jammi_frame_0
SELECT * FROM __jammi_frame_0
SELECT * FROM papers AT (VERSION => 1)
WITH duckdb_tables AS (SELECT 1) SELECT * FROM duckdb_tables
WITH pg_class AS (SELECT 1) SELECT * FROM pg_class
WITH q AS (SELECT * FROM read_csv('x')) SELECT 1
WITH q AS (SELECT 1) SELECT * FROM (SELECT * FROM q), nowhere
SELECT * FROM (WITH q AS (SELECT 1) SELECT * FROM q) JOIN q ON true
WITH q AS (INSERT INTO papers VALUES (1) RETURNING *) SELECT * FROM q
SELECT current_setting('threads')
SELECT getvariable('x')
SELECT getenv('HOME')
SELECT nextval('s')
SELECT currval('s')
SELECT current_database()
SELECT current_schema()
SELECT current_schemas(true)
SELECT current_query()
SELECT current_user
SELECT session_user
SELECT user
SELECT current_catalog
SELECT current_role
SELECT txid_current()
SELECT in_search_path('a', 'b')
SELECT stats(1)
SELECT vector_type(1)
SELECT write_log('x')
SELECT sleep_ms(1)
SELECT setseed(0.5)
SELECT pg_sleep(1)
SELECT has_table_privilege('papers', 'select')
SELECT pg_get_viewdef(1)
SELECT col_description(1, 1)
SELECT json_serialize_sql('SELECT 1')
SELECT json_deserialize_sql('{}')
SELECT json_serialize_plan('SELECT 1')
SELECT system.main.current_setting('threads')
SELECT main.current_setting('threads')
SELECT "current_setting"('threads')
SELECT CURRENT_SETTING('threads')
SELECT 'threads'.current_setting()
SELECT id.current_setting() FROM papers
SELECT list_transform(['threads'], lambda x: current_setting(x))
SELECT list_transform(['threads'], x -> current_setting(x))
SELECT [current_setting(x) FOR x IN ['threads']]
SELECT * REPLACE (current_setting('threads') AS id) FROM papers
SELECT COLUMNS(c -> c = current_setting('threads')) FROM papers
SELECT count(*) FILTER (WHERE current_setting('threads') = '1') FROM papers
SELECT sum(id) OVER (PARTITION BY current_setting('threads')) FROM papers
SELECT sum(id) OVER (ORDER BY id ROWS current_setting('threads')::INT PRECEDING) FROM papers
SELECT string_agg(venue, ',' ORDER BY current_setting('threads')) FROM papers
SELECT id FROM papers LIMIT current_setting('threads')::INT
SELECT id FROM papers OFFSET current_setting('threads')::INT
SELECT id FROM papers ORDER BY current_setting('threads')
SELECT id FROM papers GROUP BY id, current_setting('threads')
SELECT id FROM papers GROUP BY GROUPING SETS ((id, current_setting('threads')))
SELECT id FROM papers GROUP BY id HAVING current_setting('threads') = '1'
SELECT id FROM papers QUALIFY current_setting('threads') = '1'
SELECT DISTINCT ON (current_setting('threads')) id FROM papers
SELECT CASE WHEN current_setting('threads') = '1' THEN 1 END
SELECT {'a': current_setting('threads')}
SELECT MAP {'a': current_setting('threads')}
SELECT [current_setting('threads')]
SELECT (SELECT current_setting('threads'))
SELECT EXISTS (SELECT current_setting('threads'))
SELECT 1 IN (SELECT current_setting('threads'))
SELECT current_setting('threads') COLLATE NOCASE
SELECT current_setting('threads')::INT
SELECT (current_setting('threads'))[1]
SELECT * FROM range(current_setting('threads')::INT)
SELECT * FROM unnest([current_setting('threads')])
SELECT unnest([current_setting('threads')])
SELECT * FROM (VALUES (current_setting('threads')))
SELECT p.id FROM papers p JOIN venues v ON current_setting('threads') = '1'
PIVOT papers ON current_setting('threads') USING count(*)
PIVOT papers ON venue USING max(current_setting('threads'))
PIVOT (SELECT * FROM read_csv('x.csv')) ON a USING count(*)
PIVOT papers ON venue IN (SELECT current_setting('threads')) USING count(*)
SELECT * FROM (PIVOT papers ON venue USING count(*))
SELECT 1; PIVOT papers ON venue USING count(*)
UNPIVOT (SELECT * FROM read_csv('x.csv')) ON a
UNPIVOT papers ON current_setting('threads')
WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + length(current_setting('threads')) FROM r WHERE x < 3) SELECT * FROM r
SHOW ALL TABLES
SHOW DATABASES
SHOW SCHEMAS
SHOW ALL
DESCRIBE
DESCRIBE SELECT * FROM read_csv('x.csv')
DESCRIBE 'x.csv'
DESCRIBE duckdb_tables
SUMMARIZE 'x.csv'
SUMMARIZE SELECT current_setting('threads')
SELECT * FROM (DESCRIBE SELECT * FROM read_csv('x.csv'))
SELECT * FROM (SHOW ALL TABLES)
SELECT ?
SELECT $1
SELECT rowid FROM papers
SELECT papers.rowid FROM papers
SELECT 1 FROM ''
SELECT sum(id) OVER (PARTITION BY venue, VENUE), sum(id) OVER (PARTITION BY venue, year) FROM papers
SELECT sum(id) OVER (PARTITION BY venue, p.venue) FROM papers p
SELECT sum(id) OVER w FROM papers WINDOW w AS (PARTITION BY id % 2, year, id % 2 ORDER BY id)
SELECT list(id) OVER (PARTITION BY venue ORDER BY year ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM papers
SELECT sum(id) OVER w FROM papers WINDOW w AS (PARTITION BY venue ORDER BY year RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)

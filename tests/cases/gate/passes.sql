# Each of these runs over the tables of tests/engine/shelf.py.
SELECT 1
SELECT 1 AS "a b", 2 AS "ü", 3 AS "from"
FROM papers
FROM papers SELECT id
TABLE papers
VALUES (1), (2)
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) t(x, y)
SELECT * FROM papers p
SELECT p.* FROM papers p
SELECT * EXCLUDE (tags) FROM papers
SELECT * EXCLUDE (tags) REPLACE (id + 1 AS id) FROM papers
SELECT * RENAME (id AS key) FROM papers
SELECT COLUMNS('i.*') FROM papers
SELECT COLUMNS(c -> c LIKE 'c%') FROM papers
SELECT max(COLUMNS(* EXCLUDE (tags, venue))) FROM papers
SELECT id AS a, a + 1 AS b FROM papers
SELECT id, CASE WHEN year > 2000 THEN 'new' ELSE 'old' END AS age FROM papers
SELECT id FROM papers WHERE year BETWEEN 2000 AND 2001
SELECT id FROM papers WHERE venue IS NOT DISTINCT FROM NULL
SELECT id FROM papers WHERE venue LIKE 'a%' OR venue SIMILAR TO 'b.*' OR venue GLOB 'c*'
SELECT id FROM papers WHERE venue IN ('a', 'b') AND year NOT IN (1999)
SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)
SELECT id FROM papers WHERE EXISTS (SELECT 1 FROM venues WHERE name = venue)
SELECT id FROM papers WHERE id > ALL (SELECT 0)
SELECT id FROM papers WHERE id = ANY (SELECT id FROM jammi.top)
SELECT (SELECT max(id) FROM jammi.top) AS m
SELECT id, (SELECT name FROM venues WHERE name = p.venue) AS n FROM papers p
SELECT venue, count(*) FROM papers GROUP BY venue
SELECT venue, count(*) FROM papers GROUP BY ALL
SELECT venue, year, count(*) FROM papers GROUP BY ROLLUP (venue, year)
SELECT venue, year, count(*) FROM papers GROUP BY CUBE (venue, year)
SELECT venue, year, grouping(venue), count(*) FROM papers GROUP BY GROUPING SETS ((venue), (year), ())
SELECT venue FROM papers GROUP BY venue HAVING count(*) > 1
SELECT venue, sum(cites) FILTER (WHERE year > 2000) FROM papers GROUP BY venue
SELECT venue, list(id ORDER BY id DESC), string_agg(DISTINCT venue, ',') FROM papers GROUP BY venue
SELECT id, sum(cites) OVER w, row_number() OVER w, rank() OVER w FROM papers WINDOW w AS (PARTITION BY venue ORDER BY year)
SELECT id, lag(id) OVER (ORDER BY id), lead(id, 2, 0) OVER (ORDER BY id) FROM papers
SELECT id, ntile(2) OVER (ORDER BY id), percent_rank() OVER (ORDER BY id), cume_dist() OVER (ORDER BY id) FROM papers
SELECT id, first_value(id IGNORE NULLS) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM papers
SELECT id, nth_value(id, 2) OVER (ORDER BY id GROUPS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM papers
SELECT sum(p.id) OVER (PARTITION BY p.id, q.id, p.id + 1) FROM papers p, papers q
SELECT count(*) OVER w, first_value(id) OVER w FROM papers WINDOW w AS (PARTITION BY venue ORDER BY year ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
SELECT list(id ORDER BY year) OVER (PARTITION BY venue), sum(id) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM papers
SELECT id FROM papers QUALIFY row_number() OVER (PARTITION BY venue ORDER BY id) = 1
SELECT DISTINCT venue FROM papers
SELECT DISTINCT ON (venue) venue, id FROM papers ORDER BY venue, id
SELECT id FROM papers ORDER BY ALL
SELECT id FROM papers ORDER BY year DESC NULLS LAST, id LIMIT 2 OFFSET 1
SELECT id FROM papers ORDER BY id LIMIT 50%
SELECT id FROM papers LIMIT (SELECT 2)
SELECT p.id, v.place.city FROM papers p JOIN venues v ON p.venue = v.name
SELECT p.id, v.place['city'] FROM papers p LEFT JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p RIGHT JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p FULL JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p SEMI JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p ANTI JOIN venues v ON p.venue = v.name
SELECT * FROM papers JOIN jammi.top USING (id)
SELECT * FROM papers NATURAL JOIN jammi.top
SELECT p.id, t.id FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id
SELECT p.id, t.id FROM papers p POSITIONAL JOIN jammi.top t
SELECT p.id, t.id FROM papers p CROSS JOIN jammi.top t
SELECT p.id, t.x FROM papers p, LATERAL (SELECT p.id + 1 AS x) t
SELECT p.id, t.tag FROM papers p, unnest(p.tags) t(tag)
SELECT id FROM papers UNION SELECT id FROM jammi.top
SELECT id FROM papers UNION ALL BY NAME SELECT id, score FROM jammi.top
SELECT id FROM papers EXCEPT SELECT id FROM jammi.top
SELECT id FROM papers INTERSECT SELECT id FROM jammi.top
(SELECT id FROM papers LIMIT 1) UNION ALL (SELECT id FROM jammi.top)
WITH q AS (SELECT id FROM papers) SELECT * FROM q
WITH q AS MATERIALIZED (SELECT id FROM papers) SELECT * FROM q a JOIN q b USING (id)
WITH q(k) AS (SELECT id FROM papers), r AS (SELECT k + 1 AS k FROM q) SELECT * FROM r
WITH papers AS (SELECT * FROM papers WHERE id > 1) SELECT * FROM papers
WITH papers AS (SELECT 1 AS one) SELECT * FROM papers
WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 5) SELECT * FROM r
WITH RECURSIVE r(a, b) USING KEY (a) AS (SELECT 1, 1 UNION SELECT a, b + 1 FROM r WHERE b < 3) SELECT * FROM r
SELECT * FROM range(3)
SELECT * FROM generate_series(1, 10, 3) t(i)
SELECT * FROM unnest([1, 2]) WITH ORDINALITY
SELECT * FROM repeat(1, 3)
SELECT * FROM json_each('{"a": 1}')
SELECT * FROM json_tree('{"a": [1, 2]}')
SELECT unnest(tags), id FROM papers
SELECT unnest({'a': 1, 'b': 2})
SELECT list_transform([1, 2], x -> x + 1), list_filter([1, 2], lambda x: x > 1), list_reduce([1, 2], lambda a, b: a + b)
SELECT [x + 1 FOR x IN [1, 2, 3] IF x > 1]
SELECT {'a': 1, 'b': {'c': 2}}.b.c, [1, 2, 3][2:], MAP {'k': 1}['k'], 'abc'[1:2]
SELECT struct_pack(a := 1), row(1, 2), union_value(k := 1)
SELECT venue.upper(), venue.upper().lower() FROM papers
SELECT 'a' || 'b', 1 // 2, 7 % 3, 2 ** 3, ~1, 1 << 2, 5 & 3, 5 | 3, NOT true, -id FROM papers
SELECT id::VARCHAR, TRY_CAST(venue AS INTEGER), '1'::INT FROM papers
SELECT DATE '2020-01-01' + INTERVAL 1 DAY, TIMESTAMP '2020-01-01' AT TIME ZONE 'UTC', extract(year FROM DATE '2020-01-01')
SELECT date_trunc('month', DATE '2020-01-15'), strftime(DATE '2020-01-15', '%Y'), epoch_ms(0)
SELECT regexp_replace('abc', 'b', 'x'), regexp_extract('a1', '\d'), 'x' ~ 'x'
SELECT '{"a": 1}'::JSON -> 'a', '{"a": 1}'::JSON ->> '$.a', json_extract('{"a": [1]}', '$.a[0]')
SELECT coalesce(NULL, 1), ifnull(NULL, 1), nullif(1, 1), greatest(1, 2), if(true, 1, 2)
SELECT venue COLLATE NOCASE FROM papers ORDER BY venue COLLATE NOCASE
SELECT median(cites), quantile_cont(cites, 0.5), approx_count_distinct(venue), mode(venue), histogram(year) FROM papers
SELECT any_value(venue), first(venue), arg_max(venue, id), max(id, 2) FROM papers
SELECT current_date, today(), now(), current_timestamp, random(), uuid(), version()
SELECT * FROM papers USING SAMPLE 50%
SELECT * FROM papers TABLESAMPLE 2 ROWS
PIVOT papers ON venue USING count(*)
PIVOT papers ON venue IN ('a', 'b') USING count(*) GROUP BY year
PIVOT papers ON venue, year USING sum(cites) GROUP BY id ORDER BY id LIMIT 3
SELECT * FROM (PIVOT papers ON venue IN ('a', 'b') USING count(*))
SELECT * FROM papers PIVOT (count(*) FOR venue IN ('a', 'b') GROUP BY year)
UNPIVOT (SELECT id, cites FROM papers) ON cites INTO NAME n VALUE v
SELECT * FROM (SELECT id, cites FROM papers) UNPIVOT (v FOR n IN (cites))
DESCRIBE papers
DESCRIBE SELECT id FROM papers
DESCRIBE jammi.top
SUMMARIZE papers
SUMMARIZE SELECT id FROM papers
SHOW TABLES
SHOW papers
EXPLAIN SELECT id FROM papers
EXPLAIN ANALYZE SELECT id FROM papers
EXPLAIN (FORMAT json) SELECT id FROM papers
EXPLAIN (ANALYZE, FORMAT json) SELECT id FROM papers
EXPLAIN (SELECT 1)
SELECT 1; SELECT 2; SELECT 3
SELECT 1;
SELECT 1 -- the end
/* begin */ SELECT 1
SELECT $$dollar quoted$$ AS x
SELECT E'a\nb' AS x, 'it''s' AS y
FROM jammi."top__sql__20260101T000000_0a1b2c3d"
FROM "jammi.top__sql__20260101T000000_0a1b2c3d"
SELECT JAMMI.TOP.ID FROM Jammi.Top
SELECT papers FROM papers
SELECT count(*) FROM papers, papers p2
SELECT a.id FROM papers a JOIN papers b USING (id) JOIN papers c USING (id)
FROM papers SELECT venue, count(*) WHERE year > 0 GROUP BY venue ORDER BY 1
SELECT POSITION('a' IN 'ba'), SUBSTRING('abc' FROM 2 FOR 1), TRIM(BOTH ' ' FROM ' a ')
SELECT #1 FROM papers
SELECT main.abs(-1)

# Pairs of statements that could give different rows, names or types: two lines a case. Tables: tests/engine/conftest.py.
SELECT id FROM papers
SELECT year FROM papers

SELECT id AS Id FROM papers
SELECT id AS id FROM papers

SELECT {'A': id} AS s FROM papers
SELECT {'a': id} AS s FROM papers

SELECT to_json({'A': id})::VARCHAR AS s FROM papers
SELECT to_json({'a': id})::VARCHAR AS s FROM papers

SELECT 1e0 AS x
SELECT 1.0 AS x

SELECT 1e-1 + 2e-1 = 3e-1 AS x
SELECT 0.1 + 0.2 = 0.3 AS x

SELECT 1 AS x
SELECT 1.0 AS x

SELECT 1 AS x
SELECT '1' AS x

SELECT 1 AS x
SELECT true AS x

SELECT NULL AS x
SELECT 'NULL' AS x

SELECT '' AS x
SELECT NULL AS x

SELECT 'a' AS x
SELECT 'A' AS x

SELECT ' a' AS x
SELECT 'a' AS x

SELECT id FROM papers WHERE year > 2000
SELECT id FROM papers WHERE year >= 2000

SELECT id FROM papers WHERE year > 2000
SELECT id FROM papers WHERE year > 2001

SELECT id FROM papers
SELECT DISTINCT id FROM papers

SELECT id FROM papers UNION SELECT id FROM jammi.top
SELECT id FROM papers UNION ALL SELECT id FROM jammi.top

SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p LEFT JOIN venues v ON p.venue = v.name

SELECT p.id FROM papers p LEFT JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p RIGHT JOIN venues v ON p.venue = v.name

SELECT p.id FROM papers p SEMI JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p ANTI JOIN venues v ON p.venue = v.name

SELECT p.id FROM papers p JOIN jammi.top t ON p.id >= t.id
SELECT p.id FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id

SELECT p.id FROM papers p, jammi.top t
SELECT p.id FROM papers p POSITIONAL JOIN jammi.top t

SELECT id FROM papers
SELECT id FROM jammi.top

SELECT id FROM jammi.top
SELECT id FROM jammi."top__sql__20260101T000000_0a1b2c3d"

SELECT id FROM papers ORDER BY year
SELECT id FROM papers ORDER BY year DESC

SELECT id FROM papers ORDER BY year
SELECT id FROM papers ORDER BY year NULLS FIRST

SELECT id FROM papers ORDER BY id LIMIT 3
SELECT id FROM papers ORDER BY id LIMIT 4

SELECT id FROM papers ORDER BY id LIMIT 3
SELECT id FROM papers ORDER BY id LIMIT 3 OFFSET 1

SELECT id FROM papers ORDER BY id LIMIT 3
SELECT id FROM papers ORDER BY id LIMIT 3%

SELECT count(*) AS n FROM papers
SELECT count(venue) AS n FROM papers

SELECT count(venue) AS n FROM papers
SELECT count(DISTINCT venue) AS n FROM papers

SELECT sum(cites) AS n FROM papers
SELECT sum(cites) FILTER (WHERE year > 2000) AS n FROM papers

SELECT string_agg(venue, ',' ORDER BY id) AS n FROM papers
SELECT string_agg(venue, ',' ORDER BY id DESC) AS n FROM papers

SELECT venue, year, count(*) AS n FROM papers GROUP BY venue, year
SELECT venue, year, count(*) AS n FROM papers GROUP BY ROLLUP (venue, year)

SELECT venue, year, count(*) AS n FROM papers GROUP BY CUBE (venue, year)
SELECT venue, year, count(*) AS n FROM papers GROUP BY ROLLUP (venue, year)

SELECT sum(cites) OVER (ORDER BY year ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM papers
SELECT sum(cites) OVER (ORDER BY year RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM papers

SELECT sum(cites) OVER (ORDER BY year ROWS 1 PRECEDING) AS s FROM papers
SELECT sum(cites) OVER (ORDER BY year ROWS 1 PRECEDING EXCLUDE TIES) AS s FROM papers

SELECT lag(cites) OVER (ORDER BY id) AS s FROM papers
SELECT lead(cites) OVER (ORDER BY id) AS s FROM papers

SELECT first_value(cites) OVER (ORDER BY id) AS s FROM papers
SELECT first_value(cites IGNORE NULLS) OVER (ORDER BY id) AS s FROM papers

SELECT year / 2 AS y FROM papers
SELECT year // 2 AS y FROM papers

SELECT CAST(venue AS INTEGER) AS v FROM papers
SELECT TRY_CAST(venue AS INTEGER) AS v FROM papers

SELECT venue LIKE 'a%' AS m FROM papers
SELECT venue ILIKE 'a%' AS m FROM papers

SELECT year = NULL AS m FROM papers
SELECT year IS NULL AS m FROM papers

SELECT id FROM papers WHERE year IN (1, 2)
SELECT id FROM papers WHERE year NOT IN (1, 2)

SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)
SELECT id FROM papers WHERE EXISTS (SELECT name FROM venues)

SELECT a AS b, b AS c FROM (SELECT id AS a, year AS b FROM papers)
SELECT a AS b, a AS c FROM (SELECT id AS a, year AS b FROM papers)

SELECT id AS year, year AS c FROM papers
SELECT id AS year, id AS c FROM papers

SELECT list_transform(tags, lambda t: t || venue) AS x FROM papers
SELECT list_transform(tags, lambda venue: venue || venue) AS x FROM papers

SELECT * FROM papers
SELECT * EXCLUDE (tags) FROM papers

SELECT * REPLACE (id + 1 AS id) FROM papers
SELECT * REPLACE (id + 2 AS id) FROM papers

SELECT tags[1] AS t FROM papers
SELECT tags[2] AS t FROM papers

SELECT tags[1:2] AS t FROM papers
SELECT tags[:2] AS t FROM papers

SELECT id FROM papers WHERE id = $a
SELECT id FROM papers WHERE id = $b

SELECT INTERVAL 1 DAY AS i
SELECT INTERVAL 1 HOUR AS i

SELECT DATE '2020-01-01' AS d
SELECT TIMESTAMP '2020-01-01' AS d

SELECT 1::DECIMAL(10, 2) AS d
SELECT 1::DECIMAL(11, 2) AS d

SELECT id FROM papers EXCEPT SELECT id FROM jammi.top
SELECT id FROM papers INTERSECT SELECT id FROM jammi.top

SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT id AS "Id" FROM papers) q)
SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT id AS "ID" FROM papers) q)

SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT sum(id) FROM papers) q)
SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT sum(ID) FROM papers) q)

SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT place.CITY FROM venues) q)
SELECT j FROM (SELECT to_json(q)::VARCHAR AS j FROM (SELECT place.city FROM venues) q)

SELECT "É" AS x FROM accents
SELECT "é" AS x FROM accents

SELECT alias(p) AS x FROM papers p
SELECT alias(q) AS x FROM papers q

SELECT id FROM papers QUALIFY row_number() OVER (ORDER BY id) = 1
SELECT id FROM papers QUALIFY rank() OVER (ORDER BY id) = 1

SELECT venue COLLATE NOCASE AS v FROM papers ORDER BY v
SELECT venue AS v FROM papers ORDER BY v

PIVOT papers ON venue IN ('a', 'b') USING count(*) GROUP BY year
PIVOT papers ON venue IN ('b', 'a') USING count(*) GROUP BY year

SELECT 'a' || 'b' AS x
SELECT 'ab' AS x

SELECT coalesce(year, 0) AS y FROM papers
SELECT ifnull(year, 1) AS y FROM papers

SELECT year % 2 AS m, -year % 2 AS n FROM papers
SELECT year % 2 AS m, -(year % 2) AS n FROM papers

SELECT year - 1 - 1 AS m FROM papers
SELECT year - (1 - 1) AS m FROM papers

SELECT x FROM range(3) t(x)
SELECT x FROM generate_series(3) t(x)

SELECT id FROM papers WHERE NOT (year > 2000 AND cites > 1)
SELECT id FROM papers WHERE NOT year > 2000 AND cites > 1

SELECT id FROM papers WHERE year > 2000 OR cites > 1 AND id > 2
SELECT id FROM papers WHERE (year > 2000 OR cites > 1) AND id > 2

SELECT 1e0 = 1 AS x
SELECT 1.0 = 1 AS x

SELECT 1.0 AS x
SELECT 1.00 AS x

SELECT 10000000000 AS x
SELECT 10000000000::DOUBLE AS x

SELECT DATE '2024-01-01' AS d
SELECT '2024-01-01' AS d

SELECT [1, 2] AS l
SELECT [2, 1] AS l

SELECT {'a': 1, 'b': 2} AS s
SELECT {'b': 2, 'a': 1} AS s

SELECT MAP {'a': 1} AS m
SELECT MAP {'A': 1} AS m

SELECT id, year FROM papers
SELECT year, id FROM papers

SELECT id AS "a b" FROM papers
SELECT id AS "a  b" FROM papers

SELECT id FROM papers WHERE venue = 'a'
SELECT id FROM papers WHERE venue = 'a '

SELECT id FROM papers WHERE year > 2000 AND cites > 1
SELECT id FROM papers WHERE year > 2000 OR cites > 1

SELECT p.id FROM papers p JOIN jammi.top t ON p.id = t.id
SELECT t.id FROM papers p JOIN jammi.top t ON p.id = t.id

SELECT p.id FROM papers p LEFT JOIN jammi.top t ON p.id = t.id
SELECT t.id FROM papers p LEFT JOIN jammi.top t ON p.id = t.id

SELECT a.id FROM papers a JOIN papers b ON a.id = b.year
SELECT b.id FROM papers a JOIN papers b ON a.id = b.year

SELECT id FROM papers NATURAL JOIN jammi.top
SELECT papers.id FROM papers CROSS JOIN jammi.top

SELECT sum(cites) AS s FROM papers
SELECT sum(DISTINCT cites) AS s FROM papers

SELECT first(id ORDER BY year) AS f FROM papers
SELECT first(id ORDER BY year DESC) AS f FROM papers

SELECT id FROM papers GROUP BY id, year
SELECT id FROM papers GROUP BY id

SELECT year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((year), ())
SELECT year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((year))

SELECT venue, sum(cites) AS s FROM papers GROUP BY venue HAVING sum(cites) > 1
SELECT venue, sum(cites) AS s FROM papers GROUP BY venue HAVING sum(cites) > 2

SELECT DISTINCT ON (venue) id FROM papers ORDER BY venue, id
SELECT DISTINCT ON (year) id FROM papers ORDER BY venue, id

WITH q AS (SELECT 1 AS x) SELECT x FROM q
WITH q AS (SELECT 2 AS x) SELECT x FROM q

WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT n FROM t
WITH RECURSIVE t(n) AS (SELECT 1 UNION SELECT n + 1 FROM t WHERE n < 3) SELECT n FROM t

SELECT rank() OVER (PARTITION BY venue ORDER BY year) AS r FROM papers
SELECT rank() OVER (ORDER BY venue, year) AS r FROM papers

SELECT sum(cites) OVER (ORDER BY year) AS s FROM papers
SELECT sum(cites) OVER (ORDER BY year ROWS UNBOUNDED PRECEDING) AS s FROM papers

SELECT year::VARCHAR AS y FROM papers
SELECT year::BIGINT AS y FROM papers

SELECT upper(venue) AS v FROM papers
SELECT lower(venue) AS v FROM papers

SELECT round(cites) AS c FROM papers
SELECT round(cites, 0) AS c FROM papers

SELECT venue IS DISTINCT FROM 'a' AS m FROM papers
SELECT venue <> 'a' AS m FROM papers

SELECT id FROM papers WHERE venue LIKE 'a_'
SELECT id FROM papers WHERE venue LIKE 'a\_' ESCAPE '\'

SELECT * FROM papers UNION ALL SELECT * FROM papers
SELECT * FROM papers UNION ALL BY NAME SELECT * FROM papers

SELECT list_transform(tags, lambda t: upper(t)) AS x FROM papers
SELECT list_transform(tags, lambda t: lower(t)) AS x FROM papers

SELECT place.city AS c FROM venues
SELECT place AS c FROM venues

SELECT COLUMNS('id') FROM papers
SELECT COLUMNS('id|year') FROM papers

SELECT * RENAME (id AS k) FROM papers
SELECT * RENAME (id AS K) FROM papers

SELECT unnest(tags) AS t FROM papers
SELECT unnest(tags) AS T FROM papers

SELECT strftime(DATE '2024-01-01', '%m') AS s
SELECT strftime(DATE '2024-01-01', '%M') AS s

PIVOT papers ON venue IN ('a') USING sum(cites) GROUP BY year
PIVOT papers ON venue IN ('a') USING max(cites) GROUP BY year

UNPIVOT papers ON id, year::BIGINT INTO NAME k VALUE v
UNPIVOT papers ON id, (year + 1)::BIGINT INTO NAME k VALUE v

SELECT id FROM papers WHERE id IN ($a, $b)
SELECT id FROM papers WHERE id IN ($b, $a)

SELECT current_date AS d
SELECT DATE '2024-01-01' AS d

SELECT to_json(q)::VARCHAR AS j FROM (SELECT p FROM papers p) q
SELECT to_json(q)::VARCHAR AS j FROM (SELECT P FROM papers p) q

SELECT to_json(q)::VARCHAR AS j FROM (SELECT id AS foo, foo FROM papers) q
SELECT to_json(q)::VARCHAR AS j FROM (SELECT id AS foo, FOO FROM papers) q

SELECT to_json(q)::VARCHAR AS j FROM (SELECT id FROM papers FULL JOIN (SELECT 1 AS id) t USING (id)) q
SELECT to_json(q)::VARCHAR AS j FROM (SELECT ID FROM papers FULL JOIN (SELECT 1 AS id) t USING (id)) q

SELECT to_json(q)::VARCHAR AS j FROM (SELECT a.b FROM (SELECT {'b': 1} AS a) t WHERE EXISTS (SELECT 1 FROM jammi.top a)) q
SELECT to_json(q)::VARCHAR AS j FROM (SELECT a.B FROM (SELECT {'b': 1} AS a) t WHERE EXISTS (SELECT 1 FROM jammi.top a)) q

SELECT to_json(q)::VARCHAR AS j FROM (SELECT a.b FROM (VALUES ({'b': 1})) t(a) WHERE EXISTS (SELECT 1 FROM jammi.top a)) q
SELECT to_json(q)::VARCHAR AS j FROM (SELECT a.B FROM (VALUES ({'b': 1})) t(a) WHERE EXISTS (SELECT 1 FROM jammi.top a)) q

SELECT venue < 'b' AS x FROM papers
SELECT venue < 'b' COLLATE NOCASE AS x FROM papers

SELECT venue, count(*) AS n FROM papers GROUP BY venue
SELECT venue, count(*) AS n FROM papers GROUP BY venue, year

SELECT max(venue COLLATE NOCASE) AS v FROM papers
SELECT max(venue) AS v FROM papers

SELECT p.id, s.score FROM papers p LEFT JOIN LATERAL (SELECT max(score) AS score FROM jammi.top t WHERE t.id = p.id) s ON true
SELECT p.id, s.score FROM papers p LEFT JOIN LATERAL (SELECT max(score) AS score FROM jammi.top t WHERE t.id = t.id) s ON true

SELECT (SELECT max(score) FROM jammi.top t WHERE t.id = p.id) AS m FROM papers p
SELECT (SELECT max(score) FROM jammi.top t WHERE t.id = id) AS m FROM papers p

SELECT venue, year, grouping(venue, year) AS g FROM papers GROUP BY GROUPING SETS ((venue, year), (venue))
SELECT venue, year, grouping(year, venue) AS g FROM papers GROUP BY GROUPING SETS ((venue, year), (venue))

SELECT venue, year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((venue), (year))
SELECT venue, year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((venue), (year), ())

SELECT sum(cites) OVER w AS s FROM papers WINDOW w AS (ORDER BY id), v AS (ORDER BY year)
SELECT sum(cites) OVER v AS s FROM papers WINDOW w AS (ORDER BY id), v AS (ORDER BY year)

SELECT sum(cites) FILTER (venue = 'a') AS s FROM papers
SELECT sum(cites) FILTER (venue = 'A') AS s FROM papers

SELECT last_value(cites IGNORE NULLS) OVER (ORDER BY id) AS s FROM papers
SELECT last_value(cites RESPECT NULLS) OVER (ORDER BY id) AS s FROM papers

SELECT sum(id) OVER (ORDER BY year GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS s FROM papers
SELECT sum(id) OVER (ORDER BY year GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE GROUP) AS s FROM papers

SELECT id FROM papers LEFT JOIN jammi.top USING (id)
SELECT id FROM papers FULL JOIN jammi.top USING (id)

SELECT papers.id FROM papers FULL JOIN jammi.top USING (id)
SELECT id FROM papers FULL JOIN jammi.top USING (id)

SELECT * FROM papers JOIN jammi.top USING (id)
SELECT * FROM papers JOIN jammi.top ON papers.id = top.id

SELECT p.id AS i, t.id AS j FROM papers p NATURAL LEFT JOIN jammi.top t
SELECT p.id AS i, t.id AS j FROM papers p NATURAL FULL JOIN jammi.top t

SELECT p.id, t.score FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id
SELECT p.id, t.score FROM papers p ASOF JOIN jammi.top t ON p.id > t.id

SELECT p.id, q.id AS d FROM papers p, papers q WHERE p.id < q.id
SELECT p.id, q.id AS d FROM papers q, papers p WHERE q.id < p.id

SELECT MAP {'a': id, 'b': year} AS m FROM papers
SELECT MAP {'a': id, 'B': year} AS m FROM papers

SELECT to_json({'k': id})::VARCHAR AS j FROM papers
SELECT to_json({'K': id})::VARCHAR AS j FROM papers

SELECT [x FOR x IN tags IF x > 'x'] AS l FROM papers
SELECT [x FOR x IN tags IF x >= 'x'] AS l FROM papers

SELECT list_reduce(tags, lambda x, y: x || y) AS l FROM papers WHERE len(tags) > 0
SELECT list_reduce(tags, lambda x, y: y || x) AS l FROM papers WHERE len(tags) > 0

SELECT list_filter(tags, lambda x, i: i > 1) AS l FROM papers
SELECT list_filter(tags, lambda i, x: i > '1') AS l FROM papers

SELECT E'a\nb' AS s
SELECT 'a\nb' AS s

SELECT $$x$$ AS s
SELECT $$x $$ AS s

SELECT '\x41'::BLOB AS s
SELECT '\x42'::BLOB AS s

SELECT "É" AS x, "é" AS y FROM accents
SELECT "é" AS x, "É" AS y FROM accents

SELECT id, year FROM papers ORDER BY ALL LIMIT 2
SELECT id, year FROM papers ORDER BY ALL DESC LIMIT 2

SELECT -year AS year FROM papers ORDER BY year LIMIT 2
SELECT -year AS year FROM papers ORDER BY papers.year LIMIT 2

SELECT year AS id FROM papers WHERE id > 2
SELECT year AS id FROM papers WHERE year > 2

SELECT max(id) AS id FROM papers GROUP BY year HAVING max(id) > 1
SELECT max(id) AS id FROM papers GROUP BY year HAVING min(id) > 1

SELECT TIMESTAMPTZ '2024-01-01 00:00:00+02' AS t
SELECT TIMESTAMPTZ '2024-01-01 00:00:00+01' AS t

SELECT TIMESTAMP '2024-01-01' AT TIME ZONE 'Europe/Oslo' AS t
SELECT TIMESTAMP '2024-01-01' AT TIME ZONE 'UTC' AS t

SELECT 0.0e0 AS x
SELECT -0.0e0 AS x

SELECT 1::BIGINT AS x
SELECT 1::HUGEINT AS x

SELECT id = ANY (SELECT id FROM jammi.top) AS x FROM papers
SELECT id = ALL (SELECT id FROM jammi.top) AS x FROM papers

SELECT id FROM papers EXCEPT SELECT id FROM jammi.top
SELECT id FROM papers EXCEPT ALL SELECT id FROM jammi.top

SELECT id FROM papers UNION SELECT id FROM jammi.top INTERSECT SELECT 2
(SELECT id FROM papers UNION SELECT id FROM jammi.top) INTERSECT SELECT 2

SELECT id FROM papers UNION ALL (SELECT id FROM jammi.top ORDER BY id LIMIT 1)
(SELECT id FROM papers UNION ALL SELECT id FROM jammi.top) ORDER BY id LIMIT 1

WITH papers AS (SELECT 1 AS id) SELECT id FROM papers
WITH papers AS (SELECT id FROM papers) SELECT id FROM papers

WITH a AS (SELECT 1 AS x), b AS (WITH a AS (SELECT 2 AS x) SELECT x FROM a) SELECT x FROM b
WITH a AS (SELECT 1 AS x), b AS (WITH c AS (SELECT 2 AS x) SELECT x FROM a) SELECT x FROM b

WITH q(a, b) AS (SELECT id, year FROM papers) SELECT a FROM q
WITH q(b, a) AS (SELECT id, year FROM papers) SELECT a FROM q

SELECT a FROM (SELECT id, year FROM papers) q(a, b)
SELECT a FROM (SELECT id, year FROM papers) q(b, a)

SELECT quantile_cont(cites, 0.5) AS q FROM papers
SELECT quantile_disc(cites, 0.5) AS q FROM papers

SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY cites) AS q FROM papers
SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY cites DESC) AS q FROM papers

SELECT venue GLOB 'a*' AS m FROM papers
SELECT venue LIKE 'a*' AS m FROM papers

SELECT tags[1:-1:2] AS t FROM papers
SELECT tags[1:-1] AS t FROM papers

SELECT 'a'::ENUM('a', 'b') AS x
SELECT 'a'::ENUM('b', 'a') AS x

SELECT id FROM papers ORDER BY venue::ENUM('a', 'b') LIMIT 2
SELECT id FROM papers ORDER BY venue::ENUM('b', 'a') LIMIT 2

SELECT * LIKE 'i%' FROM papers
SELECT * LIKE 'y%' FROM papers

SELECT unnest([{'a': id}], recursive := true) FROM papers
SELECT unnest([{'a': id}]) FROM papers

SELECT year AS id, -year AS year FROM papers ORDER BY 1 LIMIT 1
SELECT year AS id, -year AS year FROM papers ORDER BY year LIMIT 1

SELECT id AS k, -id AS id FROM papers ORDER BY 1 LIMIT 1
SELECT id AS k, -id AS id FROM papers ORDER BY id LIMIT 1

SELECT id + 1 AS k, -id AS id FROM papers ORDER BY 1 LIMIT 1
SELECT id + 1 AS k, -id AS id FROM papers ORDER BY 2 LIMIT 1

SELECT year AS id, id AS x FROM papers ORDER BY id LIMIT 1
SELECT year AS id, id AS x FROM papers ORDER BY papers.id LIMIT 1

SELECT id FROM papers WHERE EXISTS (SELECT 1 FROM papers b WHERE b.id = papers.year)
SELECT id FROM papers WHERE EXISTS (SELECT 1 FROM papers b WHERE b.id = year)

SELECT list_transform([1, 2], id -> id + papers.id) AS s FROM papers
SELECT list_transform([1, 2], id -> id + id) AS s FROM papers

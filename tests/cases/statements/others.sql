SELECT * FROM t
SELECT id FROM t LIMIT 3
SELECT id, z FROM t ORDER BY z LIMIT 3
SELECT DISTINCT g FROM t
SELECT DISTINCT ON (z) z, id FROM t
SELECT DISTINCT ON (z) z, id FROM t ORDER BY z, id
SELECT DISTINCT s COLLATE NOCASE AS s FROM t
SELECT id FROM t ORDER BY s COLLATE NOCASE LIMIT 2
SELECT s COLLATE NOCASE AS s, count(*) AS n FROM t GROUP BY 1
SELECT x FROM t UNION SELECT z FROM t
SELECT f * x AS y FROM t UNION SELECT f FROM t
SELECT DISTINCT f * x AS y FROM t
SELECT z FROM t EXCEPT ALL SELECT x FROM t
SELECT z FROM t INTERSECT SELECT x FROM t
SELECT round(f) AS r, count(*) AS n FROM t GROUP BY 1
SELECT ARRAY(SELECT id FROM t) AS l
SELECT list_sort(ARRAY(SELECT id FROM t)) AS l
SELECT list_sort(ARRAY(SELECT id FROM t LIMIT 2)) AS l
SELECT a.id, b.id AS o FROM t a JOIN t b ON a.z = b.z LIMIT 4
SELECT a.id, b.id AS o FROM t a POSITIONAL JOIN t b
SELECT a.id, b.id AS o FROM t a ASOF JOIN t b ON a.x >= b.z
SELECT id FROM t WHERE id = (SELECT max(id) FROM t)
SELECT id FROM t WHERE id = (SELECT id FROM t LIMIT 1)
SELECT id, (SELECT first(b.s) FROM t b WHERE b.z = a.z) AS s FROM t a
SELECT id, (SELECT b.s FROM t b WHERE b.z = a.z ORDER BY b.x LIMIT 1) AS s FROM t a
SELECT unnest(list(id ORDER BY z)) AS u FROM t
SELECT * FROM (SELECT * FROM t LIMIT 2)
SELECT * FROM (SELECT id, row_number() OVER () AS r FROM t) WHERE r < 3
SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY g ORDER BY z) = 1
FROM (PIVOT t ON z IN (0, 1) USING first(s) GROUP BY g)
FROM (PIVOT t ON z IN (0, 1) USING sum(x) GROUP BY g)
FROM (WITH RECURSIVE r AS (SELECT 1 AS k UNION SELECT k + 1 FROM r, t WHERE k < 3) FROM r)
SELECT g, min(s), max(s), count(*) FROM t GROUP BY GROUPING SETS ((g), ())
SELECT id, hash(s) AS h FROM t
SELECT max(t) AS m FROM t
SELECT * FROM (SELECT id FROM t ORDER BY z) LIMIT 2
SELECT sum(id) AS n FROM t WHERE id > 40
SELECT count(*) AS n FROM t WHERE x = 1
SELECT min(id) AS a, max(id) AS b FROM t
SELECT count(*) AS n FROM t WHERE s >= 'm'
SELECT count(*) AS n FROM t WHERE f IS NULL
SELECT k, v FROM (FROM t UNPIVOT (v FOR k IN (x, z)))
SELECT id, generate_subscripts([x, z], 1) AS i FROM t
SELECT k FROM (SELECT list(id) AS l FROM t), unnest(l) AS u(k)
SELECT string_split(string_agg(s, ','), ',')[1] AS s FROM t

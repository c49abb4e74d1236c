# One statement a line over a(id, grp, n, w) and b(id, tag, m), whose bag of rows depends on nothing but the rows of a and b. A test replaces
# each column of the inputs in turn, and compares every column of the output with what the column lineage says.
SELECT id, grp FROM a
SELECT id FROM a WHERE n > 3
SELECT n + 1 AS more, id FROM a WHERE n > 3 AND w < 2
SELECT * FROM a
SELECT * EXCLUDE (w) FROM a WHERE w > 1
SELECT COLUMNS('^(id|n)$') FROM a
SELECT grp, sum(n) AS s, count(*) AS c FROM a GROUP BY grp
SELECT grp, sum(n) AS s FROM a GROUP BY grp HAVING max(w) > 1
SELECT count(*) AS c FROM a
SELECT count(*) AS c FROM a WHERE n > 3
SELECT count(*) FILTER (WHERE w > 1) AS c, sum(n) AS s FROM a
SELECT DISTINCT grp FROM a
SELECT DISTINCT grp, n % 2 AS odd FROM a
SELECT a.id, b.tag FROM a JOIN b ON a.id = b.id
SELECT a.id, b.tag FROM a LEFT JOIN b ON a.id = b.id AND b.m > 1
SELECT a.id FROM a LEFT JOIN b ON a.id = b.id
SELECT a.id, x.t FROM a LEFT JOIN (SELECT id, max(tag) AS t FROM b GROUP BY id) x ON a.id = x.id
SELECT id, n FROM a WHERE id IN (SELECT id FROM b WHERE m > 1)
SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.id = a.id AND b.tag = 'q')
SELECT id, (SELECT max(m) FROM b) AS most FROM a
SELECT id, (SELECT max(m) FROM b WHERE b.id = a.id) AS most FROM a
SELECT id, sum(n) OVER (PARTITION BY grp) AS s FROM a
SELECT id, rank() OVER (ORDER BY n) AS r FROM a
SELECT id, grp FROM a UNION ALL SELECT m, tag FROM b
SELECT id FROM a UNION SELECT id FROM b
SELECT id, n FROM a EXCEPT SELECT id, m FROM b
SELECT id FROM a INTERSECT SELECT id FROM b WHERE m > 0
WITH q AS (SELECT id, n * 2 AS d FROM a WHERE w > 1) SELECT d, id FROM q
WITH q AS (SELECT grp, sum(n) AS s FROM a GROUP BY grp) SELECT x.grp, y.s FROM q x JOIN q y ON x.s <= y.s
SELECT id, n FROM a ORDER BY w, id LIMIT 2
SELECT id FROM (SELECT id, n FROM a ORDER BY n DESC, id LIMIT 2)
SELECT CASE WHEN n > 3 THEN grp ELSE 'none' END AS g, id FROM a
SELECT unnest([n, id]) AS u, grp FROM a
SELECT a.id, t.x FROM a, LATERAL (SELECT a.n + b.m AS x FROM b WHERE b.id = a.id) t
SELECT grp, list(n ORDER BY n) AS l, avg(w) AS v FROM a GROUP BY ALL
FROM a SELECT id, w WHERE grp IS NOT NULL
SELECT id, {'n': n, 'g': grp} AS s FROM a
PIVOT a ON grp IN ('x', 'y') USING sum(n) GROUP BY id
UNPIVOT (SELECT id, n, w::BIGINT AS w FROM a) ON n, w INTO NAME k VALUE v
SELECT a.grp, b.tag, count(*) AS c FROM a, b WHERE a.n > b.m GROUP BY CUBE (a.grp, b.tag)

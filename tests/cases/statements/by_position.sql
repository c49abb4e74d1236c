SELECT p, q FROM r AS r(p, q)
SELECT list_value(*COLUMNS('[ab]')) AS l FROM r
SELECT coalesce(*COLUMNS('[ab]')) AS c FROM r
SELECT struct_extract_at(r, 1) AS v FROM r
SELECT a, b FROM r INTERSECT SELECT * FROM r
SELECT p FROM r AS r(p, q)
SELECT sum(p) AS s FROM (SELECT * FROM r) t(p, q)
WITH w(p, q) AS (SELECT * FROM r) SELECT p, count(*) AS n FROM w GROUP BY p
SELECT count(*) AS n FROM r WHERE (a, b) IN (SELECT * FROM r)
SELECT min(a) AS a FROM (SELECT * FROM r ORDER BY 1 LIMIT 2)
SELECT sum(a) AS s FROM (SELECT * FROM r ORDER BY ALL LIMIT 2)
SELECT min(r).a AS a FROM r
SELECT a, rank() OVER (ORDER BY r) AS k FROM r
SELECT to_json(r)::VARCHAR AS j FROM r
SELECT list_value(*COLUMNS(*)) AS l FROM r

SELECT g, sum(DISTINCT f) AS m FROM {rows} GROUP BY g
SELECT g, fsum(f) AS m FROM {rows} GROUP BY g
SELECT g, avg(x) AS m FROM {rows} GROUP BY g
SELECT g, avg(DISTINCT x) AS m FROM {rows} GROUP BY g
SELECT g, sum(x) AS s FROM {rows} GROUP BY g HAVING sum(x) > 0
SELECT g, count(DISTINCT k) AS n FROM {rows} GROUP BY g
SELECT x, k FROM {rows} ORDER BY x, k, g LIMIT 5
SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM {rows}
SELECT k, w FROM small LEFT JOIN (SELECT DISTINCT k FROM {rows}) USING (k)
SELECT w, name FROM small WHERE k IN (SELECT k FROM {rows})
SELECT a.k FROM (SELECT DISTINCT k FROM {rows}) a JOIN {rows} b ON a.k = b.k WHERE b.b
SELECT k FROM {rows} UNION ALL SELECT k FROM small
SELECT k, count(*) AS n FROM (SELECT DISTINCT k, g FROM {rows}) GROUP BY k
SELECT sum(x) + 1 AS s FROM {rows}
SELECT max(n) AS n FROM (SELECT k, count(*) AS n FROM {rows} GROUP BY k)
SELECT f, sum(f) AS m FROM {rows} WHERE f > 0 GROUP BY f
SELECT sum(f) + 1 AS s FROM {rows}
SELECT sum(f)::FLOAT AS s FROM {rows}

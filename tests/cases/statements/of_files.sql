FROM '{}'
FROM a, '{}'
FROM missing, '{}'
FROM read_csv('{}')
FROM read_text('{}')
FROM glob('{}')
DESCRIBE '{}'
DESCRIBE FROM read_csv('{}')
SUMMARIZE '{}'
EXPLAIN FROM '{}'
EXPLAIN ANALYZE FROM '{}'
PIVOT '{}' ON x
UNPIVOT '{}' ON x
PIVOT (FROM '{}') ON x USING max(x)
WITH w AS (FROM '{}') FROM w
FROM a; FROM '{}'
FROM '{}'; FROM a
SELECT error((SELECT string_agg(id) FROM read_csv('{}')))
SELECT CASE WHEN (SELECT max(x) FROM '{}') > 2 THEN error('yes') ELSE error('no') END
FROM a WHERE EXISTS (FROM '{}')
FROM a ORDER BY (SELECT 1 FROM '{}')
FROM a LIMIT (SELECT 1 FROM '{}')
FROM a UNION ALL FROM '{}'
TABLE '{}'
FROM a JOIN LATERAL (FROM '{}') ON true
FROM query('FROM ''{}''')
FROM read_csv($p)
FROM jammi."{}"
FROM a."{}"
FROM "{}" -- of the current directory
FROM files.v

SELECT * FROM papers
SELECT id + 1 AS x FROM papers WHERE year > 2000
SELECT * FROM (SELECT id, venue FROM papers) WHERE id > 1
SELECT id FROM papers LIMIT 2
VALUES (1), (2)
SELECT 1
DESCRIBE papers
WITH q AS (SELECT id FROM papers) SELECT * FROM q

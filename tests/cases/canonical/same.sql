# Pairs of statements that say the same: two lines a case. Tables: tests/engine/conftest.py.
SELECT id FROM papers
select   id   from   papers

SELECT id FROM papers
SELECT id /* which one */ FROM papers -- all of them

SELECT id FROM papers
SELECT id FROM papers;

SELECT id FROM papers
SELECT "id" FROM "papers"

SELECT id FROM papers
SELECT id FROM PAPERS

SELECT id AS k FROM papers
SELECT id AS "k" FROM "PAPERS"

SELECT papers.id FROM papers
SELECT p.id FROM papers p

SELECT papers.* FROM papers
SELECT p.* FROM papers p

SELECT p.id FROM papers p
SELECT q.id FROM papers AS q

SELECT p.id FROM papers p
SELECT P.id FROM papers p

SELECT id FROM papers
SELECT (id) FROM papers

SELECT id FROM papers WHERE (year > 2000 AND (cites > 1))
SELECT id FROM papers WHERE year > 2000 AND cites > 1

SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p INNER JOIN venues v ON p.venue = v.name

SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
SELECT x.id FROM papers x JOIN venues y ON x.venue = y.name

SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
SELECT papers.id FROM papers JOIN venues ON papers.venue = venues.name

SELECT p.id FROM papers p LEFT JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p LEFT OUTER JOIN venues v ON p.venue = v.name

SELECT venue, count(*) AS n FROM papers GROUP BY 1
select venue, count() as n from papers group by (1)

SELECT venue, count(*) AS n FROM papers p GROUP BY p.venue
SELECT venue, COUNT( * ) AS n FROM papers GROUP BY papers.venue

SELECT id, year FROM papers ORDER BY 2
SELECT id, year FROM papers ORDER BY (2) -- year

SELECT id FROM papers
FROM papers SELECT id

SELECT * FROM papers
FROM papers

SELECT * FROM papers
TABLE papers

SELECT id FROM jammi.top
SELECT id FROM JAMMI.Top

SELECT top.id FROM jammi.top
SELECT t.id FROM jammi.top t

SELECT top.id FROM JAMMI.Top
SELECT t.id FROM jammi."top" AS t

SELECT id FROM papers WHERE id = $wanted
select id from papers where id = $wanted

SELECT id FROM papers WHERE year <> 2000
SELECT id FROM papers WHERE year != 2000

SELECT id::VARCHAR AS t FROM papers
SELECT CAST(id AS VARCHAR) AS t FROM papers

SELECT id::VARCHAR AS t FROM papers
SELECT id::TEXT AS t FROM papers

WITH q AS (SELECT r.id FROM papers r) SELECT id FROM q
WITH q AS (SELECT p.id FROM papers p) SELECT id FROM q

SELECT papers.id FROM papers WHERE papers.venue IN (SELECT venues.name FROM venues)
SELECT p.id FROM papers p WHERE p.venue IN (SELECT v.name FROM venues v)

SELECT id FROM papers UNION ALL SELECT id FROM jammi.top
(SELECT id FROM papers) UNION ALL (SELECT id FROM jammi.top)

SELECT sum(q.cites) OVER (PARTITION BY q.venue ORDER BY q.year) AS s FROM papers q
SELECT SUM(p.cites) OVER (PARTITION BY p.venue ORDER BY p.year) AS s FROM papers p

SELECT id FROM papers JOIN jammi.top USING (id)
SELECT id FROM papers INNER JOIN jammi.top t USING (id)

SELECT list_transform(tags, lambda t: upper(t)) AS t FROM papers
select list_transform( tags, LAMBDA t : upper(t) ) AS t from papers

PIVOT papers ON venue IN ('a', 'b') USING count(*) GROUP BY year
pivot papers on venue in ('a','b') using COUNT(*) group by year -- wide

SELECT id FROM papers WHERE year BETWEEN 2000 AND 2001
select id from papers where (year between 2000 and 2001)

SELECT id FROM papers -- 'quoted' in a comment
SELECT id FROM papers

SELECT 'it''s -- no comment' AS x
SELECT   'it''s -- no comment'   AS x

SELECT id FROM (SELECT p.id FROM papers p) q
SELECT id FROM (SELECT s.id FROM papers s) AS q

SELECT venue, count(*) AS n FROM papers GROUP BY ALL
select venue, COUNT(*) n from papers group by all

SELECT id FROM papers WHERE year IS NOT NULL
SELECT id FROM papers WHERE year NOTNULL

SELECT count(*) AS n FROM papers
SELECT count() AS n FROM papers

SELECT id % 2 AS m FROM papers
SELECT id%2 AS m FROM papers

SELECT CASE WHEN year > 2000 THEN 1 ELSE 0 END AS c FROM papers
select case when (year > 2000) then 1 else 0 end as c from papers

SELECT id FROM papers p WHERE EXISTS (SELECT 1 FROM venues v WHERE v.name = p.venue)
SELECT id FROM papers o WHERE EXISTS (SELECT 1 FROM venues i WHERE i.name = o.venue)

SELECT id FROM jammi.top t JOIN papers p USING (id)
select id from JAMMI.TOP as b inner join PAPERS as c using (id)

SELECT x FROM range(3) t(x)
select x from RANGE(3) as t(x)

SELECT id FROM papers JOIN jammi.top USING (id) ORDER BY year
select id from PAPERS join JAMMI.TOP using (id) order by year

SELECT sum(cites) OVER (PARTITION BY venue ORDER BY id) AS s FROM papers
SELECT sum(cites) OVER w AS s FROM papers WINDOW w AS (PARTITION BY venue ORDER BY id)

SELECT $$it's$$ AS s
SELECT 'it''s' AS s

SELECT E'it\'s' AS s
SELECT 'it''s' AS s

SELECT venue, year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((venue, year), ())
select venue, year, count(*) n from papers group by grouping sets ((venue, year), ())

SELECT string_agg(q.venue, ',' ORDER BY q.id) FILTER (WHERE q.year > 2000) AS s FROM papers AS q
select string_agg(p.venue, ',' order by p.id) filter (where p.year > 2000) as s from papers p

SELECT year AS y FROM papers WHERE year BETWEEN 2000 AND 2002 OR venue IS NULL
select (year) as y from papers where ((year between 2000 and 2002) or (venue is null))

SELECT id, year + 1 AS y FROM papers WHERE year > 2019
SELECT q.ID, q.year + 1 AS y FROM papers q WHERE YEAR > 2019

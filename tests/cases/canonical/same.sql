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
SELECT ID AS k FROM papers

SELECT id FROM papers
SELECT papers.id FROM papers

SELECT id FROM papers
SELECT p.id FROM papers p

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
SELECT id FROM papers JOIN venues ON venue = name

SELECT p.id FROM papers p LEFT JOIN venues v ON p.venue = v.name
SELECT p.id FROM papers p LEFT OUTER JOIN venues v ON p.venue = v.name

SELECT venue, count(*) AS n FROM papers GROUP BY venue
SELECT venue, count(*) AS n FROM papers GROUP BY 1

SELECT venue, count(*) AS n FROM papers GROUP BY venue
SELECT venue, COUNT( * ) AS n FROM papers GROUP BY papers.venue

SELECT id, year FROM papers ORDER BY year
SELECT id, year FROM papers ORDER BY 2

SELECT id FROM papers
FROM papers SELECT id

SELECT * FROM papers
FROM papers

SELECT * FROM papers
TABLE papers

SELECT id FROM jammi.top
SELECT id FROM JAMMI.Top

SELECT id FROM jammi.top
SELECT jammi.top.id FROM jammi.top

SELECT id FROM jammi.top
SELECT t.id FROM jammi."top" AS t

SELECT id FROM papers WHERE id = $wanted
select id from papers where id = $wanted

SELECT id FROM papers WHERE year <> 2000
SELECT id FROM papers WHERE year != 2000

SELECT id::VARCHAR AS t FROM papers
SELECT CAST(id AS VARCHAR) AS t FROM papers

SELECT id::VARCHAR AS t FROM papers
SELECT id::TEXT AS t FROM papers

WITH q AS (SELECT id FROM papers) SELECT id FROM q
WITH q AS (SELECT p.id FROM papers p) SELECT q.id FROM q

SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)
SELECT p.id FROM papers p WHERE p.venue IN (SELECT v.name FROM venues v)

SELECT id FROM papers UNION ALL SELECT id FROM jammi.top
(SELECT id FROM papers) UNION ALL (SELECT id FROM jammi.top)

SELECT sum(cites) OVER (PARTITION BY venue ORDER BY year) AS s FROM papers
SELECT SUM(p.cites) OVER (PARTITION BY p.venue ORDER BY p.year) AS s FROM papers p

SELECT id FROM papers JOIN jammi.top USING (id)
SELECT id FROM papers JOIN jammi.top USING (ID)

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

SELECT id FROM (SELECT id FROM papers) q
SELECT r.id FROM (SELECT id FROM papers) AS r

SELECT venue, count(*) AS n FROM papers GROUP BY ALL
select VENUE, COUNT(*) n from papers group by all

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
select x from RANGE(3) as u(x)

SELECT id FROM papers JOIN jammi.top USING (id) ORDER BY year
select ID from PAPERS join JAMMI.TOP using (ID) order by YEAR

SELECT sum(cites) OVER (PARTITION BY venue ORDER BY id) AS s FROM papers
SELECT sum(cites) OVER w AS s FROM papers WINDOW w AS (PARTITION BY venue ORDER BY id)

SELECT $$it's$$ AS s
SELECT 'it''s' AS s

SELECT E'it\'s' AS s
SELECT 'it''s' AS s

SELECT venue, year, count(*) AS n FROM papers GROUP BY GROUPING SETS ((venue, year), ())
select VENUE, YEAR, count(*) n from papers group by grouping sets ((venue, year), ())

SELECT string_agg(venue, ',' ORDER BY id) FILTER (WHERE year > 2000) AS s FROM papers
select string_agg(p.venue, ',' order by p.id) filter (where p.year > 2000) as s from papers p

SELECT year AS y FROM papers WHERE year BETWEEN 2000 AND 2002 OR venue IS NULL
select (year) as y from papers where ((year between 2000 and 2002) or (venue is null))

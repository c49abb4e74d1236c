# A statement, then what it reads: `input(columns)` sorted, `()` when only the number of rows matters, `-` for nothing. Tables: tests/engine/shelf.py.
SELECT 1
-
SELECT id FROM papers
papers(id)
SELECT count(*) FROM papers
papers()
SELECT 1 FROM papers
papers()
SELECT * FROM papers
papers(cites,id,tags,venue,year)
SELECT * EXCLUDE (tags, cites) FROM papers
papers(id,venue,year)
SELECT COLUMNS('^i|^y') FROM papers
papers(id,year)
SELECT id FROM papers WHERE year > 2000
papers(id,year)
SELECT count(*) FROM papers WHERE year > 2000
papers(year)
SELECT id FROM papers ORDER BY cites
papers(cites,id)
SELECT venue, count(*) FROM papers GROUP BY venue HAVING max(year) > 2000
papers(venue,year)
SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
papers(id,venue) venues(name)
SELECT p.id FROM papers p LEFT JOIN venues v ON p.venue = v.name
papers(id,venue) venues(name)
SELECT * FROM papers JOIN jammi.top USING (id)
papers(cites,id,tags,venue,year) top(id,score)
SELECT score FROM papers NATURAL JOIN jammi.top
papers(id) top(id,score)
SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)
papers(id,venue) venues(name)
SELECT id FROM papers WHERE EXISTS (SELECT 1 FROM venues WHERE name = venue)
papers(id,venue) venues(name)
SELECT id, (SELECT max(score) FROM jammi.top t WHERE t.id = p.id) FROM papers p
papers(id) top(id,score)
SELECT sum(cites) OVER (PARTITION BY venue ORDER BY year) FROM papers
papers(cites,venue,year)
SELECT sum(cites) FILTER (WHERE year > 2000) FROM papers
papers(cites,year)
SELECT DISTINCT ON (venue) id FROM papers ORDER BY venue, year
papers(id,venue,year)
SELECT id FROM papers UNION SELECT id FROM jammi.top
papers(id) top(id)
SELECT id FROM papers EXCEPT SELECT id FROM jammi.top
papers(id) top(id)
WITH q AS (SELECT * FROM papers) SELECT id FROM q
papers(id)
WITH q AS MATERIALIZED (SELECT id, year FROM papers) SELECT id FROM q
papers(id)
WITH papers AS (SELECT 1 AS one) SELECT * FROM papers
-
WITH papers AS (SELECT id FROM papers) SELECT * FROM papers
papers(id)
SELECT p.id, t.id FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id
papers(id) top(id)
SELECT p.id, t.score FROM papers p POSITIONAL JOIN jammi.top t
papers(id) top(score)
SELECT p.id, u.tag FROM papers p, unnest(p.tags) u(tag)
papers(id,tags)
SELECT p.id, x FROM papers p, LATERAL (SELECT p.year + 1 AS x)
papers(id,year)
SELECT id FROM papers WHERE false
papers(id)
SELECT id FROM papers USING SAMPLE 50%
papers(id)
SELECT v.place.city FROM venues v
venues(place)
SELECT list_transform(tags, t -> t || venue) FROM papers
papers(tags,venue)
PIVOT papers ON venue IN ('a') USING sum(cites) GROUP BY year
papers(cites,venue,year)
UNPIVOT (SELECT id, cites FROM papers) ON cites
papers(cites,id)
SELECT id FROM papers QUALIFY row_number() OVER (ORDER BY year) = 1
papers(id,year)
SELECT papers FROM papers
papers(cites,id,tags,venue,year)
SELECT p.id FROM papers p JOIN papers q ON p.id = q.year
papers(id,year)
SELECT a.id FROM jammi.top a JOIN JAMMI.TOP b ON a.id = b.id AND b.score > 0
top(id,score)
SELECT id FROM jammi."top__sql__20260101T000000_0a1b2c3d"
top__sql__20260101T000000_0a1b2c3d(id)
SELECT a.id FROM jammi."top__sql__20260101T000000_0a1b2c3d" a, "jammi.top__sql__20260101T000000_0a1b2c3d" b WHERE a.id = b.score
top__sql__20260101T000000_0a1b2c3d(id,score)
WITH RECURSIVE r(i) AS (SELECT min(id) FROM papers UNION ALL SELECT i + 1 FROM r WHERE i < (SELECT max(year) FROM papers)) SELECT count(*) FROM r
papers(id,year)
DESCRIBE SELECT id FROM papers
papers(cites,id,tags,venue,year)
SELECT id FROM papers LIMIT 0
papers(id)
SELECT CASE WHEN true THEN id ELSE year END FROM papers
papers(id,year)
SELECT id FROM papers WHERE year = $x
papers(id,year)

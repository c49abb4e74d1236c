SELECT venue, count(*) FROM papers GROUP BY venue
SELECT count(*) FROM papers
SELECT DISTINCT venue FROM papers
SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name
SELECT id FROM papers UNION ALL SELECT id FROM papers
SELECT id, row_number() OVER () FROM papers
SELECT id FROM papers ORDER BY id
SELECT id FROM papers WHERE venue IN (SELECT name FROM venues)
SELECT id FROM papers USING SAMPLE 50%
SELECT * FROM papers, jammi.top
PIVOT papers ON venue IN ('a') USING count(*)

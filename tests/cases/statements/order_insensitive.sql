SELECT id FROM papers
SELECT id FROM papers ORDER BY year
SELECT id FROM papers ORDER BY year LIMIT 2
SELECT venue, count(*) AS n FROM papers GROUP BY venue ORDER BY n LIMIT 1
SELECT p.id FROM papers p JOIN venues v ON p.venue = v.name LIMIT 2
SELECT venue, count(*), sum(cites), avg(cites), min(id), max(id), median(cites) FROM papers GROUP BY venue
SELECT venue, max(id, 2), min(id, 3) FROM papers GROUP BY venue
SELECT id, rank() OVER (ORDER BY year), dense_rank() OVER (ORDER BY year), sum(id) OVER (ORDER BY year) FROM papers
SELECT list(id ORDER BY id) FROM papers
SELECT DISTINCT venue FROM papers
SELECT id FROM papers UNION SELECT id FROM jammi.top
SELECT list_sort(tags), len(tags) FROM papers
SELECT list_sort(list(id)), array_sort(array_agg(venue)) FROM papers
SELECT histogram(id, [1, 3]), quantile_disc(id, [0.25, 0.5]), corr(id, year) FROM papers
SELECT id, rank(ORDER BY id) OVER (ORDER BY year) FROM papers
SELECT string_agg(venue, ',' ORDER BY venue) FROM papers

SELECT id FROM papers LIMIT 2
SELECT * FROM (SELECT id FROM papers ORDER BY year LIMIT 2)
SELECT DISTINCT ON (venue) venue, id FROM papers ORDER BY venue
SELECT id, row_number() OVER (ORDER BY year) FROM papers
SELECT id, lag(id) OVER (ORDER BY year) FROM papers
SELECT id, first_value(id) OVER (ORDER BY year) FROM papers
SELECT id, ntile(2) OVER (ORDER BY year) FROM papers
SELECT id, sum(id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers
SELECT id, list(id) OVER (PARTITION BY year) FROM papers
SELECT first(id) FROM papers
SELECT any_value(venue) FROM papers
SELECT arg_max(id, year) FROM papers
SELECT venue, max(id, year) FROM papers GROUP BY venue
SELECT min(id, year) OVER (PARTITION BY venue) FROM papers
SELECT max_by(id, year) FROM papers
SELECT list(id) FROM papers
SELECT array_agg(id) FROM papers
SELECT string_agg(venue, ',') FROM papers
SELECT list(id ORDER BY year) FROM papers
SELECT list(DISTINCT id) FROM papers
SELECT json_group_array(id) FROM papers
SELECT mode(venue) FROM papers
SELECT p.id, t.id FROM papers p POSITIONAL JOIN jammi.top t
SELECT p.id, t.id FROM papers p ASOF JOIN jammi.top t ON p.id >= t.id
SELECT id FROM papers USING SAMPLE 50%
SELECT venue COLLATE NOCASE AS v FROM papers ORDER BY v
SELECT approx_quantile(cites, 0.5) FROM papers
SUMMARIZE papers
SELECT id FROM papers QUALIFY row_number() OVER (PARTITION BY venue ORDER BY year) = 1
SELECT * FROM papers WHERE id = (SELECT id FROM papers LIMIT 1)
SELECT list_sort(first([id, year])) FROM papers
SELECT list_sort(arg_min(id, year, 1)) FROM papers
SELECT list_reverse_sort(lag([id]) OVER (ORDER BY year)) FROM papers
SELECT list_sort(mode([year])) FROM papers
SELECT id, rank(ORDER BY id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers
SELECT id, cume_dist(ORDER BY id) OVER (ORDER BY year ROWS 1 PRECEDING) FROM papers
SELECT histogram(id, [year]) FROM papers
SELECT first(id ORDER BY id) FROM papers

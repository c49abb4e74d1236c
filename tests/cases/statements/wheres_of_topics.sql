id = (SELECT max(id) FROM topics.events)
EXISTS (SELECT 1)
id IN (SELECT 1)
count(*) > 1
sum(id) > 1
row_number() OVER () = 1
random() < 0.5
id < epoch(now())
getenv('HOME') = ''
read_text('/etc/passwd') = ''
id = $x
id = 1; DROP TABLE x
id = 1) UNION SELECT (1
id = 1)
(id = 1
id = ALL (SELECT 1)
*
id = 1, id = 2

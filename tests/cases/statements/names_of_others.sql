# statements over what belongs to another tenant; {n} stands for the first word of its names
SELECT * FROM {n}_source
SELECT * FROM jammi.{n}_table
SELECT {n}_table FROM papers
SELECT * FROM topics.{n}_topic
SELECT * FROM mutable.{n}_notes
DESCRIBE jammi.{n}_table
SELECT * FROM search('{n}_vectors', 'x')
SELECT * FROM neighbors('{n}_vectors', 1)
SELECT * FROM jammi_version('{n}_table', 1)
INSERT INTO mutable.{n}_notes VALUES (2, 'x')
UPDATE mutable.{n}_notes SET text = 'x'
DELETE FROM mutable.{n}_notes

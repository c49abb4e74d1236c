"""Numbers in prose, compared with the values of tables. Begin with `text_check.py`; a document is
read by `documents.py`, its numbers by `written_numbers.py`, and the tables by `value_search.py`."""

"""Row maps: one call of a function for each row, each answer stored as soon as it is known. Begin
with `row_map.py`."""

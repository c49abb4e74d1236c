"""Vector search with SQL filters and columns of the source rows. Imports `vectors`, `inputs`,
`engine`, `producers`. Begin with `search.py`."""

"""As-of joins: for each row of one table the newest row of another that is not later. Begin with
`asof_join.py`."""

"""Freshness of tables: verdicts and their reasons, plans and their execution, what-if, lineage,
`jammi_catalog`. Imports everything below. Begin with `table_verdict.py`, then `recipe_graph.py` and
`evaluated_graph.py`.
"""

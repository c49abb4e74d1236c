"""Freshness of tables: verdicts and their reasons, plans and their execution, what-if, lineage,
OpenLineage. Imports everything below. Start reading at `judge.py`, then `recipe_graph.py` and
`evaluated_graph.py`.
"""

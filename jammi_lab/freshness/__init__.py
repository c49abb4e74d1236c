"""Freshness of tables: verdicts and their reasons, when checks are due, plans and their execution,
what-if, lineage, its drawings and exports. Imports everything below. Begin with `table_verdict.py`,
then `recipe_graph.py` and `evaluated_graph.py`.
"""

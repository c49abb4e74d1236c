"""Lineage as SVG, Mermaid and OpenLineage events. Begin with `lineage_svg.py`."""

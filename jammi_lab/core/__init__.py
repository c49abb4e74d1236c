"""Frozen values and process-wide basics: inputs, anchors, definitions, verdicts, manifests; errors,
identifiers, settings, clock, tenant, HTML escaping, worker threads.

No database or engine access, and no file but `jammi.toml`. Imports no other room of the package.
Begin with `anchors.py`, `definitions.py` and `verdicts.py`.
"""

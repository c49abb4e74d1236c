"""Outputs that know their tables: stamps in notebooks and files, and badges below cells. Begin with
`stamps.py`; `workspace/stamp_checks.py` checks what files show."""

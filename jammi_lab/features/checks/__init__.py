"""Checks: rules that rows of a table must obey, run on each version and each commit. Begin with
`checks.py`, then `runner.py`, which runs and judges one, and `service.py`, which answers for
all."""

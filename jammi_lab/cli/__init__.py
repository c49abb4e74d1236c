"""The command line `jammi-lab`, for scripts and continuous integration.

Output is what a notebook shows, or with `--json` one JSON value. Exit codes: 0 success; 1 a step of
a recompute failed or, with `--fail`, something is stale, damaged or mismatched; 2 usage error; 3
the command failed: standard error gives the reason and a hint.

Begin reading at `main.py`. It may import all rooms of `jammi_lab`; nothing imports it.
"""

from jammi_lab.cli.main import main

__all__ = ["main"]

"""Which worker runs which tests: whole files, the longest first; those that need a JupyterLab or a browser on one worker each.

A file that is split among workers makes its fixtures in each of them, a lab and a browser included; a long file that begins last keeps one
worker busy while the others have ended.
"""

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

from tests import durations

LAB = re.compile(r"tests/browser/test_(lab_\w+|badges|colours|marks|story|tour)\.py")
"""The files whose tests share one JupyterLab."""
UNKNOWN_SECONDS = 2.0
"""What a file counts that was not there when durations were stored."""


def unit_of(nodeid: str) -> str:
    """The unit of work that a test belongs to."""
    file = nodeid.partition("::")[0]
    if LAB.fullmatch(file):
        return "JupyterLab"
    return "browser" if file.startswith("tests/browser/") else file


def seconds_of(unit: str) -> float:
    """How long a unit took when durations were stored; the lab's and the browser's count as longer than any file."""
    if not unit.endswith(".py"):
        return float("inf")
    known = durations.measured().get(unit)
    return sum(known.values()) if known else UNKNOWN_SECONDS


class LongestFirst(LoadScopeScheduling):
    """Gives the longest unit that is left to the worker that asks."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(max(self.workqueue, key=seconds_of), last=False)
        super()._assign_work_unit(node)

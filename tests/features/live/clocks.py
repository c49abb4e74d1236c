"""A clock that a test moves, and a workspace that goes by it."""

from pathlib import Path
from typing import Any

from jammi_lab.core.clock import SystemClock
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.workspace import opening
from jammi_lab.workspace.assembly import build_services
from jammi_lab.workspace.workspace import Workspace

SECOND = 10**9


class Hands(SystemClock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000 * SECOND, 1000.0

    def now_ns(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def go_on(self, seconds: float) -> None:
        """Time passes."""
        self.wall += round(seconds * SECOND)
        self.steady += seconds

    def sleep(self, seconds: float) -> None:
        """The machine sleeps: one of the clocks stands still meanwhile."""
        self.wall += round(seconds * SECOND)

    def set_back(self, seconds: float) -> None:
        """Somebody sets the clock: that one of the two that can be set."""
        self.wall -= round(seconds * SECOND)


def opened(folder: Path, clock: SystemClock, settings: Any = None) -> Workspace:
    """The workspace of a folder, by that clock."""
    place = opening.parse_location(folder, None)
    return Workspace(
        build_services(
            place,
            display_path=str(folder),
            scope=TenantScope(),
            settings=opening.load_settings(folder, settings),
            clock=clock,
            read_only=False,
            create=True,
        )
    )

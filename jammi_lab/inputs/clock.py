"""The clock as an input: the date that a statement reads."""

import datetime
import zoneinfo

from jammi_lab.core.anchors import AnchorKind, Input, Observed, Snapshot
from jammi_lab.core.settings import Settings
from jammi_lab.inputs.observation import Kind, Observation


class ClockKind(Kind):
    """The clock. Nothing in FROM reads it, only functions such as `current_date`."""

    kind = word = "clock"
    has_rows = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def observe(self, input: Input, observation: Observation) -> Observed:  # noqa: ARG002
        """The current date in `engine.timezone`."""
        zone = self._settings["engine.timezone"]
        today = datetime.datetime.fromtimestamp(
            observation.now_ns / 1e9, zoneinfo.ZoneInfo(zone)
        ).date()
        return Snapshot(
            columns={}, whole=today.isoformat(), method=f"date in {zone}", kind=AnchorKind.CLOCK
        )


CURRENT_DATE = Input(ClockKind.kind, "current_date")


def function_input(name: str) -> Input:
    """A function that returns another value on each call, as an input."""
    return Input(ClockKind.kind, f"{name}()")

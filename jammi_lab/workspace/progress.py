"""The progress reports of a workspace."""

from jammi_lab.core.records import OnProgress, ProgressOption
from jammi_lab.freshness.reports import progress_callback


class ProgressReporter:
    """The default callback of a workspace, which the notebook sets."""

    def __init__(self) -> None:
        self.default: OnProgress | None = None
        """Receives progress where a call does not pass `progress=`."""

    def callback(self, option: ProgressOption) -> OnProgress | None:
        """The callback for the argument `progress=` of a verb. InvalidArgument."""
        return progress_callback(option, self.default)

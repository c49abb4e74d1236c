"""The option `progress=` of many verbs."""

import contextlib
import sys

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import round_up_duration
from jammi_lab.core.records import OnProgress, Progress, ProgressOption


def progress_callback(
    progress: ProgressOption, default: OnProgress | None = None
) -> OnProgress | None:
    """The progress callback for a caller's `progress=` argument; `default` is the workspace's.
    InvalidArgument for a value that is neither boolean, None nor callable."""
    if callable(progress):
        return progress
    if not (progress is None or isinstance(progress, bool)):
        raise InvalidArgument(
            f"progress must be True, False, None or a callable, got {progress!r}."
        )
    return None if progress is False else default or (_write_progress if progress else None)


def _write_progress(progress: Progress) -> None:
    total = f" of {progress.total:,}" if progress.total is not None else ""
    rate = ""
    if progress.rate is not None:
        rate = f", {progress.rate:,.3g} a second"
        if (left := progress.seconds_left) is not None:
            rate += f", about {round_up_duration(left)} left"
    with contextlib.suppress(OSError):
        sys.stderr.write(
            f"\r{progress.stage}: {progress.done:,}{total} {progress.unit}{rate}\033[K"
        )
        sys.stderr.flush()


class ProgressReporter:
    """The default callback of a workspace, which the notebook sets."""

    def __init__(self) -> None:
        self.default: OnProgress | None = None
        """Receives progress where a call does not pass `progress=`."""

    def callback(self, option: ProgressOption) -> OnProgress | None:
        """The callback for the argument `progress=` of a verb. InvalidArgument."""
        return progress_callback(option, self.default)

"""A session that this kernel opened, and the error once it has ended."""

import datetime
from dataclasses import dataclass, field

from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.core.clock import parse_rfc3339, rfc3339
from jammi_lab.core.errors import SessionClosed


@dataclass(eq=False)
class OpenSession:
    """A session opened by this kernel."""

    record: SessionRecord
    timeout: float | None
    """The initial timeout in seconds; None is never."""
    deadline_ns: int | None
    running: int = 0
    """How many of its statements are running."""
    ended: str = ""
    """Why it has ended, as a clause; empty while it is open."""
    tables: dict[str, str] = field(default_factory=dict)
    """Logical → physical names, in order of creation."""

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself."""
        return None if self.deadline_ns is None else parse_rfc3339(rfc3339(self.deadline_ns))


TIMED_OUT = "its deadline has passed"


def closed_error(reason: str) -> SessionClosed:
    """The error for a use of a session that has ended, for a reason as a clause."""
    return SessionClosed(
        f"The session has ended: {reason}.", hint="Open a new session: ws.ephemeral()."
    )

"""The audit topic of ephemeral sessions: one event when a session opens, and one when it ends."""

import enum
import json
from collections.abc import Sequence
from typing import Any

from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.features.live.topics import Topics

AUDIT_TOPIC = "jammi.audit.session_lifecycle.v1"
MAX_AUDIT_EVENTS = 10_000
"""Events that the audit topic of a tenant keeps, the newest ones: two of each session."""


class LifecycleEvent(enum.StrEnum):
    """What happened to a session. Every `opened` is followed by exactly one of the others."""

    OPENED = "opened"
    CLOSED = "closed"
    TIMED_OUT = "timed_out"
    PARTIAL = "partial_deletion_failure"
    ABANDONED = "abandoned"


def publish_event(
    topics: Topics,
    clock: Clock,
    session: SessionRecord,
    event: LifecycleEvent,
    *,
    table_count: int = 0,
    row_count: int = 0,
    surviving: Sequence[str] = (),
) -> None:
    """Publish one event on the audit topic of the session's tenant, for whoever has to prove the
    deletion of data. With `surviving` tables it is a partial deletion, and `event` is what was
    attempted. Topic, record and fields are those of jammi-db's session lifecycle events."""
    record: dict[str, Any] = {
        "session_id": session.session_id,
        "tenant_id": session.tenant,
        "event": str(LifecycleEvent.PARTIAL if surviving else event),
        "occurred_at": rfc3339(clock.now_ns()),
        "ephemeral_table_count": table_count,
        "deleted_row_count": row_count,
    }
    if surviving:
        record["details"] = {"surviving_tables": list(surviving), "attempted_event": str(event)}
    topics._publish_record(AUDIT_TOPIC, json.dumps(record), MAX_AUDIT_EVENTS)

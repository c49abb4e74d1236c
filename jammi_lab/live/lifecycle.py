"""What becomes of ephemeral sessions, told on a topic that each tenant has: who looks after deletion reads it there.

(Topic, record and fields: jammi-db's session lifecycle events.)
"""

import enum
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.live.topics import Topics

TOPIC = "jammi.audit.session_lifecycle.v1"
SCHEMA = pa.schema([pa.field("record", pa.string(), nullable=False)])


class Lifecycle(enum.StrEnum):
    """What happened to a session. Every `opened` is followed by exactly one of the others."""

    OPENED = "opened"
    CLOSED = "closed"
    TIMED_OUT = "timed_out"
    PARTIAL = "partial_deletion_failure"
    ABANDONED = "abandoned"


def tell(
    topics: Topics, clock: Clock, session: SessionRecord, event: Lifecycle, *, tables: int = 0, rows: int = 0, surviving: Sequence[str] = ()
) -> None:
    """Publish one event, in the scope of the session's tenant. With `surviving` tables it is a partial deletion, and `event` what was attempted."""
    record: dict[str, Any] = {
        "session_id": session.session_id,
        "tenant_id": session.tenant,
        "event": str(Lifecycle.PARTIAL if surviving else event),
        "occurred_at": rfc3339(clock.now_ns()),
        "ephemeral_table_count": tables,
        "deleted_row_count": rows,
    }
    if surviving:
        record["details"] = {"surviving_tables": list(surviving), "attempted_event": str(event)}
    topics.record_ours(TOPIC, SCHEMA, [{"record": json.dumps(record)}])

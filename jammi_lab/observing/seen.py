"""What was last seen of each source, kept beside the observations: a list of sources tells it without asking any of them."""

from collections.abc import Sequence

from jammi_lab.clock import rfc3339
from jammi_lab.names import fold
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.values.anchors import Observed, Snapshot, Unknown
from jammi_lab.values.base import Value
from jammi_lab.values.records import SourceRecord

_NO_STAT = Stat(0, 0, 0, 0)
_MOST_TABLES = 200
_OFTEN_NS = 60 * 10**9
"""An unchanged finding is not written again within this time: a board that refreshes writes nothing."""


class Seen(Value, frozen=True):
    """The last observation of a source."""

    at: str
    """When, RFC 3339."""
    state: str
    """`there`, `gone` or `unknown`."""
    method: str
    """How it was told; for an unknown state, why it could not be."""
    table: str | None = None
    """The table inside that was looked at."""

    def __str__(self) -> str:
        return {"there": self.method, "gone": "gone"}.get(self.state, f"unknown: {self.method}")


class LastSeen:
    """The last observations of one workspace's sources, and the tables that were found inside."""

    def __init__(self, memo: ObservationMemo) -> None:
        self._memo = memo

    def note(self, record: SourceRecord, table: str | None, seen: Observed, now_ns: int) -> None:
        """Keep what a look saw."""
        match seen:
            case Snapshot():
                said = ("unknown", seen.fault) if seen.fault else ("there", seen.method)
            case Unknown():
                said = ("unknown", seen.why)
            case _:
                said = ("gone", "")
        payload = {"of": _address(record), "said": [*said, table]}
        kept = self._memo.get(_key("seen", record))
        if kept is None or kept.payload != payload or now_ns - kept.observed_at_ns > _OFTEN_NS:
            self._memo.put(_key("seen", record), MemoEntry(_NO_STAT, now_ns, payload))

    def removed(self, record: SourceRecord, now_ns: int) -> None:
        """Keep that a source was removed: what it held is not looked for in the kernel any more."""
        self._memo.put(_key("removed", record), MemoEntry(_NO_STAT, now_ns, {"of": _address(record)}))

    def was_removed(self, name: str, tenant: str | None) -> bool:
        """Whether a source of that name was removed, of the tenant or a shared one."""
        return any(self._memo.get(f"removed:{whose}:{fold(name)}") is not None for whose in {tenant or "", ""})

    def found(self, record: SourceRecord, tables: Sequence[str], now_ns: int) -> None:
        """Keep the tables inside a source; that there are none only where some were known."""
        if tables or self.tables(record) is not None:
            self._keep(record, list(tables[:_MOST_TABLES]), len(tables), now_ns)

    def corrected(self, record: SourceRecord, table: str, there: bool, now_ns: int) -> None:
        """Put right what is known of the tables inside by what a look saw of one of them; nothing is asked for it."""
        if (known := self.tables(record)) is None or (table in known[0]) == there:
            return
        names, number = known
        if not there:
            self._keep(record, [name for name in names if name != table], number - 1, now_ns)
        elif number == len(names):  # else it may be one of those that are only counted
            self._keep(record, [*names, table], number + 1, now_ns)

    def _keep(self, record: SourceRecord, names: Sequence[str], number: int, now_ns: int) -> None:
        kept = {"of": _address(record), "tables": list(names), "number": number}
        self._memo.put(_key("tables", record), MemoEntry(_NO_STAT, now_ns, kept))

    def last(self, record: SourceRecord) -> Seen | None:
        """The last observation; None when there was none since the source was registered as it is."""
        entry = self._memo.get(_key("seen", record))
        if entry is None or entry.payload.get("of") != _address(record):
            return None
        state, method, table = entry.payload["said"]
        return Seen(rfc3339(entry.observed_at_ns), state, method, table)

    def tables(self, record: SourceRecord) -> tuple[list[str], int] | None:
        """The tables last found inside (the first of them, and how many there are); None when nobody looked."""
        entry = self._memo.get(_key("tables", record))
        if entry is None or entry.payload.get("of") != _address(record):
            return None
        return list(entry.payload["tables"]), int(entry.payload["number"])


def _key(what: str, record: SourceRecord) -> str:
    return f"{what}:{record.tenant or ''}:{fold(record.name)}"


def _address(record: SourceRecord) -> list[str]:
    return [record.kind, record.location]

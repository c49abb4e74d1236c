"""The second opinion on files and frames: a Parquet or Arrow file that was written anew has other bytes, a frame that was made again may have its
rows in another order; do they hold other rows?

What was there before is gone by the time somebody asks. So the digest of the rows that are read is kept in the observation memo when a table is made
from them, as long as they are few enough for a board to read. Without it there is no opinion, and the bytes decide.
"""

import contextlib

import duckdb
import pyarrow as pa

from jammi_lab.errors import JammiError
from jammi_lab.observing.opinions import rows_key, sums, told_apart
from jammi_lab.sources import scratch
from jammi_lab.sources.base import Connector, Looking, Relation
from jammi_lab.sources.files import FileConnector
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.values.anchors import Anchor, Snapshot

_OUTSIDE = (JammiError, OSError, duckdb.Error, pa.ArrowException)
_KINDS = ("parquet", "arrow")
"""Kinds whose anchors are by column, over bytes or values in their order. In others any change of bytes counts."""


def note(connector: Connector, anchor: Anchor, looking: Looking) -> None:
    """Keep the digest of the rows that an anchor stands for, if they are still there and not too many. Nothing for what opinions are not given on."""
    if isinstance(connector, FrameConnector):
        with contextlib.suppress(*_OUTSIDE):
            _of_frame(connector, anchor, looking)
        return
    few = anchor.row_count is not None and (looking.scan_rows is None or anchor.row_count <= looking.scan_rows)
    if few and anchor.columns and (files := _files(connector)) is not None:
        with contextlib.suppress(*_OUTSIDE):
            _digest(files, anchor, looking)


def same(connector: Connector, recorded: Anchor, looking: Looking) -> bool:
    """Whether the files or the frame hold the same bag of rows as when an anchor was recorded, over its columns; False when that cannot be told."""
    hashed = told_apart(recorded.columns, recorded.types)
    then = None if hashed is None else looking.memo.get(rows_key(_state(recorded), hashed))
    if then is None:
        return False
    with contextlib.suppress(*_OUTSIDE):
        if isinstance(connector, FrameConnector):
            found = _of_frame(connector, recorded, looking)
            return found is not None and _alike(found[0], recorded) and found[1] == list(then.payload["digest"])
        if (files := _files(connector)) is not None:
            return _same(files, list(then.payload["digest"]), recorded, looking)
    return False


def _files(connector: Connector) -> FileConnector | None:
    """The connector, when opinions are given on its rows."""
    if not isinstance(connector, FileConnector) or connector.kind not in _KINDS or not connector.place.local:
        return None
    return connector if connector.record.anchor in ("auto", "content") else None


def _same(files: FileConnector, then: list[str], recorded: Anchor, looking: Looking) -> bool:
    seen = files.observe(None, looking)
    if not isinstance(seen, Snapshot):
        return False
    now = seen.anchor(recorded.input, recorded.columns)
    return _alike(now, recorded) and then == _digest(files, now, looking)


def _alike(now: Anchor, recorded: Anchor) -> bool:
    """Whether two states differ in nothing but their rows. The whole schema counts, not only what is read: a bag of rows does not tell in which order
    their columns stand, and `t(p, q)` goes by that."""
    return (now.schema, now.types, now.row_count, now.method) == (recorded.schema, recorded.types, recorded.row_count, recorded.method)


def _of_frame(frame: FrameConnector, of: Anchor, looking: Looking) -> tuple[Anchor, list[str]] | None:
    """The present state of a frame over an anchor's columns, and the digest of just these rows; None when they are more than a look may read."""
    rows, seen = frame.capture()
    now = seen.anchor(of.input, of.columns)
    many = looking.scan_rows is not None and rows.num_rows > looking.scan_rows
    large = looking.scan_bytes is not None and rows.nbytes > looking.scan_bytes
    if many or large or not now.columns or (hashed := told_apart(now.columns, now.types)) is None:
        return None
    key = rows_key(_state(now), hashed)
    if (kept := looking.memo.get(key)) is not None:
        return now, list(kept.payload["digest"])
    [found] = scratch.ask(Relation(of.input, frame=rows, columns=seen.columns), f"{sums(hashed)} it")
    digest = [str(part) for part in found]
    looking.memo.put(key, MemoEntry(Stat(0, 0, 0, 0), looking.now_ns, {"digest": digest}))
    return now, digest


def _state(anchor: Anchor) -> str:
    return f"{anchor.method}:{anchor.value}"


def _digest(files: FileConnector, anchor: Anchor, looking: Looking) -> list[str] | None:
    """The digest of the rows of a state; None when the files are in another one, or change while they are read."""
    hashed = told_apart(anchor.columns, anchor.types)
    if hashed is None:
        return None
    key = rows_key(_state(anchor), hashed)
    if (kept := looking.memo.get(key)) is not None:
        return list(kept.payload["digest"])
    before = files.observe(None, looking)
    if looking.scan_bytes is not None and sum(item.stat.size for item in files.place.items(files.kind)) > looking.scan_bytes:
        return None
    relation = files.relation(None)
    if relation.body is None or looking.query is None:
        [found] = scratch.ask(relation, f"{sums(hashed)} it")
    else:
        [found] = looking.query(f"{sums(hashed)} ({relation.body})")
    after = files.observe(None, looking)
    for seen in (before, after):
        if not isinstance(seen, Snapshot) or not seen.anchor(anchor.input, anchor.columns).same_state(anchor):
            return None
    if isinstance(before, Snapshot) and isinstance(after, Snapshot) and before.stamp != after.stamp:
        return None  # changed, and changed back
    digest = [str(part) for part in found]
    looking.memo.put(key, MemoEntry(Stat(0, 0, 0, 0), looking.now_ns, {"digest": digest}))
    return digest

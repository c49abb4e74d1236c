"""The second opinion on files and frames: a file that was written anew has other bytes, a frame that was made again may have its rows in another
order; do they hold other rows?

What was there before is gone by the time somebody asks. So the digest of the rows that are read is kept in the observation memo when a table is made
from them, as long as they are few enough for a board to read. Without it there is no opinion, and the bytes decide. A text file is one whole: its
anchor knows no columns, and so it is compared by all of them, whichever are read.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

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
_TEXTS = ("csv", "tsv", "json", "ndjson")
_KINDS = ("parquet", "arrow", *_TEXTS)
_SMALL_TEXT = 4 << 20
"""Up to this many bytes text is read for an opinion: finding its types takes most of the time, and it takes that again."""
_ZONED = "TIMESTAMP WITH TIME ZONE"
"""A text without an offset is another instant in another time zone, and a digest does not say in which one it was taken."""


def note(connector: Connector, anchor: Anchor, looking: Looking) -> None:
    """Keep the digest of the rows that an anchor stands for, if they are still there and not too many. Nothing for what opinions are not given on."""
    if isinstance(connector, FrameConnector):
        with contextlib.suppress(*_OUTSIDE):
            _of_frame(*connector.capture(), anchor, looking)
        return
    files = _files(connector)
    few = anchor.row_count is not None and (looking.scan_rows is None or anchor.row_count <= looking.scan_rows)
    if files is not None and (files.kind in _TEXTS or (few and anchor.columns)):
        with contextlib.suppress(*_OUTSIDE):
            _digest(files, anchor, looking)


def same(connector: Connector, recorded: Anchor, looking: Looking) -> bool:
    """Whether the files or the frame hold the same bag of rows as when an anchor was recorded, over its columns; False when that cannot be told."""
    with contextlib.suppress(*_OUTSIDE):
        if isinstance(connector, FrameConnector):
            return _same_frame(connector, recorded, looking)
        if (files := _files(connector)) is not None:
            return _same(files, recorded, looking)
    return False


def _same_frame(frame: FrameConnector, recorded: Anchor, looking: Looking) -> bool:
    rows, seen = frame.capture()
    then = _kept(recorded, _in_place(seen, recorded), looking)
    found = None if then is None else _of_frame(rows, seen, recorded, looking)
    return found is not None and _alike(found[0], recorded) and found[1] == then


def _kept(anchor: Anchor, hashed: list[str] | None, looking: Looking) -> list[str] | None:
    """The digest of the rows of a state, if there is one."""
    entry = None if hashed is None else looking.memo.get(rows_key(_state(anchor), hashed))
    return None if entry is None else list(entry.payload["digest"])


def _files(connector: Connector) -> FileConnector | None:
    """The connector, when opinions are given on its rows."""
    if not isinstance(connector, FileConnector) or connector.kind not in _KINDS or not connector.place.local:
        return None
    return connector if connector.record.anchor in ("auto", "content") else None


def _same(files: FileConnector, recorded: Anchor, looking: Looking) -> bool:
    seen = files.observe(None, looking)
    if not isinstance(seen, Snapshot):
        return False
    now = seen.anchor(recorded.input, recorded.columns)
    if not _alike(now, recorded) or (then := _kept(recorded, _hashed(files, seen, recorded), looking)) is None:
        return False
    return then == _digest(files, now, looking)


def _hashed(files: FileConnector, seen: Snapshot, anchor: Anchor) -> list[str] | None:
    """What is hashed of a row: the columns of an anchor, and of text all there are; None where no opinion is given."""
    if files.kind not in _TEXTS:
        return _in_place(seen, anchor)
    others = sorted(set(seen.columns) - set(anchor.columns))
    names = [*_read(seen, anchor), *others]
    kinds = [seen.columns[name] for name in names]
    return None if _ZONED in kinds else told_apart(names, kinds)


def _in_place(seen: Snapshot, anchor: Anchor) -> list[str] | None:
    """What is hashed of the columns of an anchor, in the order in which they stand: `t(p, q)` goes by that, and a bag of rows does not tell it. So of
    columns that changed places no digest is found."""
    names = _read(seen, anchor)
    return told_apart(names, [seen.columns[name] for name in names])


def _read(seen: Snapshot, anchor: Anchor) -> list[str]:
    return [name for name in seen.columns if name in anchor.columns]


def _alike(now: Anchor, recorded: Anchor) -> bool:
    """Whether two states differ in nothing but their rows and in columns that are not read. Who asks has bound the statement again where the schema
    is another one, and found it to say the same; without a recorded schema nobody has."""
    read = (now.columns, now.types, now.row_count, now.method)
    return bool(recorded.schema) and read == (recorded.columns, recorded.types, recorded.row_count, recorded.method)


def _of_frame(rows: pa.Table, seen: Snapshot, of: Anchor, looking: Looking) -> tuple[Anchor, list[str]] | None:
    """The present state of a frame over an anchor's columns, and the digest of just these rows; None when they are more than a look may read."""
    now = seen.anchor(of.input, of.columns)
    many = looking.scan_rows is not None and rows.num_rows > looking.scan_rows
    large = looking.scan_bytes is not None and rows.nbytes > looking.scan_bytes
    if many or large or not now.columns or (hashed := _in_place(seen, now)) is None:
        return None
    if (kept := _kept(now, hashed, looking)) is not None:
        return now, kept
    [found] = scratch.ask(Relation(of.input, frame=rows, columns=seen.columns), f"{sums(hashed)} it")
    return now, _keep(now, hashed, found, looking)


def _state(anchor: Anchor) -> str:
    return f"{anchor.method}:{anchor.value}"


def _keep(anchor: Anchor, hashed: list[str], found: Sequence[Any], looking: Looking) -> list[str]:
    """Keep what a digest was found to be."""
    digest = [str(part) for part in found]
    looking.memo.put(rows_key(_state(anchor), hashed), MemoEntry(Stat(0, 0, 0, 0), looking.now_ns, {"digest": digest}))
    return digest


def _digest(files: FileConnector, anchor: Anchor, looking: Looking) -> list[str] | None:
    """The digest of the rows of a state; None when the files are in another one, or change while they are read."""
    before = files.observe(None, looking)
    if not isinstance(before, Snapshot) or (hashed := _hashed(files, before, anchor)) is None:
        return None
    if (kept := _kept(anchor, hashed, looking)) is not None:
        return kept
    if not _may_read(files, looking):
        return None
    relation = files.relation(None)
    if relation.body is None or looking.query is None:
        [found] = scratch.ask(relation, f"{sums(hashed)} it")
    else:
        [found] = looking.query(f"{sums(hashed)} ({relation.body})")
    after = files.observe(None, looking)
    if not isinstance(after, Snapshot) or before.stamp != after.stamp:
        return None  # it may have been changed, and changed back
    if not all(seen.anchor(anchor.input, anchor.columns).same_state(anchor) for seen in (before, after)):
        return None
    return _keep(anchor, hashed, found, looking)


def _may_read(files: FileConnector, looking: Looking) -> bool:
    bounds = [bound for bound in (looking.scan_bytes, _SMALL_TEXT if files.kind in _TEXTS else None) if bound is not None]
    return not bounds or sum(item.stat.size for item in files.place.items(files.kind)) <= min(bounds)

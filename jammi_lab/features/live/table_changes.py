"""Changes of a mutable table: what one does to the rows of a version, and the net effect of several
commits."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from jammi_lab.catalog.logs import Entry, LogRecord
from jammi_lab.core.errors import DuplicateKey
from jammi_lab.core.records import Committed
from jammi_lab.features.live.fold import Fold, Key, body_of, differ, keys_of, with_nulls

CHANGE_COLUMN, VERSION_COLUMN = "_change", "_version"
_MAX_SHOWN_KEYS = 5
Verb: TypeAlias = Literal["insert", "upsert", "delete"]


class VersionMoved(Exception):
    """A table on which the change depends has another version than the one that was read; nothing
    was changed. Internal."""


@dataclass(frozen=True)
class Change:
    """A change of the rows with some keys."""

    verb: Verb
    rows: pa.Table
    """The new rows; of a `delete` those to remove, of which the key counts."""
    read: Sequence[LogRecord] = ()
    """The tables from which the change was computed; it is valid only while these versions are the
    newest."""


@dataclass(frozen=True)
class Effect:
    """What a change does to the rows of a version."""

    put: pa.Table
    """The rows that are new or differ."""
    removed: pa.Table
    """The keys of the rows that are removed."""
    committed: Committed

    @functools.cached_property
    def body(self) -> bytes:
        """The batch of the commit. Raises InvalidArgument for one that is too large."""
        return body_of(self.put, self.removed)

    def entry(self, position: int, commit_id: str) -> Entry:
        """The commit as a fold applies it."""
        return Entry(position, "", self.put.num_rows, commit_id, "", self.body)


def check_repeated_keys(record: LogRecord, rows: pa.Table) -> None:
    """Raise DuplicateKey when a key occurs twice."""
    keys = keys_of(rows, record.key)
    if len(set(keys)) == len(keys):
        return
    last = {key: at for at, key in enumerate(keys)}
    repeated = [at for at, key in enumerate(keys) if last[key] != at]
    raise _duplicate_error(record, rows.take(repeated), "occur twice in the rows passed for")


def effect_of(change: Change, table: Fold, record: LogRecord) -> Effect:
    """What a change does to the rows of a table. Raises DuplicateKey."""
    keys = keys_of(change.rows, record.key)
    existing = [at for at, key in enumerate(keys) if key in table.positions]
    found = change.rows.take(existing) if existing else change.rows.slice(0, 0)
    if change.verb == "delete":
        number = len(existing)
        committed = Committed(record.version + (number > 0), 0, 0, number, number)
        return Effect(change.rows.slice(0, 0), found.select(record.key), committed)
    if change.verb == "insert" and existing:
        raise _duplicate_error(record, found, "exist already in")
    is_put = np.ones(len(keys), dtype=bool)
    if existing:
        before = table.select([keys[at] for at in existing])
        is_put[existing] = differ(before, found).to_numpy(zero_copy_only=False)
    put = change.rows.filter(pa.array(is_put)) if existing else change.rows
    inserted = len(keys) - len(existing)
    committed = Committed(
        record.version + (len(put) > 0), inserted, len(put) - inserted, 0, len(keys)
    )
    return Effect(put, change.rows.slice(0, 0).select(record.key), committed)


def net_changes(before: Fold, entries: Iterable[Entry]) -> pa.Table:
    """The net effect of commits on the rows of a version, one row for each key that differs, by the
    last commit that touched it."""
    now, touched = before.copy(), dict[Key, int]()
    for entry in entries:
        touched.update(dict.fromkeys(now.apply(entry), entry.position + 1))
    inserted = [key for key in touched if key in now.positions and key not in before.positions]
    deleted = [key for key in touched if key in before.positions and key not in now.positions]
    kept = [key for key in touched if key in before.positions and key in now.positions]
    schema = now.stored_schema
    updated = now.select(kept).filter(differ(before.select(kept), now.select(kept)))
    parts = {
        "insert": now.select(inserted),
        "update": updated,
        "delete": with_nulls(before.select(deleted).select(now.key), schema),
    }
    tables = []
    for change, rows in parts.items():
        versions = [touched[key] for key in keys_of(rows, now.key)]
        changes = pa.array([change] * len(rows), pa.string())
        tables.append(
            rows.append_column(CHANGE_COLUMN, changes).append_column(
                VERSION_COLUMN, pa.array(versions, pa.int64())
            )
        )
    order = [(column, "ascending") for column in (VERSION_COLUMN, *now.key)]
    return pa.concat_tables(tables).sort_by(order)


def _duplicate_error(record: LogRecord, rows: pa.Table, problem: str) -> DuplicateKey:
    columns = [rows[column].to_pylist() for column in record.key]
    keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    shown = ", ".join(map(repr, keys[:_MAX_SHOWN_KEYS]))
    more = f" and {len(keys) - _MAX_SHOWN_KEYS} more" if len(keys) > _MAX_SHOWN_KEYS else ""
    return DuplicateKey(
        f"These keys {problem} the mutable table {record.name!r}: {shown}{more}; nothing was "
        "changed.",
        keys=keys,
        hint="upsert replaces the rows that exist." if "exist" in problem else "",
    )

"""Small tables of what belongs to no tenant: what earlier looks saw, and the workspace's own notes. Losing an observation costs time, never truth."""

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.schema import meta, observations
from jammi_lab.storage.digests import MemoEntry

_entry = msgspec.json.Decoder(MemoEntry)
_LOAD = scope.untenanted(observations, observations.c.key, observations.c.body)
_GET = _LOAD.where(observations.c.key == sa.bindparam("key"))
_META = scope.untenanted(meta, meta.c.value).where(meta.c.key == sa.bindparam("key"))


def _decoded(body: object) -> MemoEntry | None:
    """The entry, or None for what is none: it is found again."""
    try:
        return _entry.decode(body) if isinstance(body, str | bytes) else None
    except msgspec.DecodeError:
        return None


class Memo:
    """The observation memo. In a read-only catalog what is put is not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[str, MemoEntry]:
        """Every entry by key; one query."""
        with self._database.read() as tx:
            return {key: entry for key, body in tx.execute(_LOAD).all() if (entry := _decoded(body)) is not None}

    def get(self, key: str) -> MemoEntry | None:
        """The entry, or None."""
        with self._database.read() as tx:
            row = tx.execute(_GET, {"key": key}).first()
        return None if row is None else _decoded(row[1])

    def put(self, key: str, entry: MemoEntry) -> None:
        """Keep an entry instead of an earlier one."""
        self.put_many({key: entry})

    def put_many(self, entries: Mapping[str, MemoEntry]) -> None:
        """Keep entries instead of earlier ones, in one transaction."""
        if not entries or self._database.read_only:
            return
        rows = [{"key": key, "body": msgspec.json.encode(entry).decode()} for key, entry in entries.items()]
        with self._database.write() as tx:
            for row in rows:
                _KEEP.change(tx, row)

    def remove_many(self, keys: list[str]) -> None:
        """Forget entries."""
        if keys and not self._database.read_only:
            with self._database.write() as tx:
                tx.execute(_FORGET, [{"gone": key} for key in keys])


_KEEP = Direct(sa.text("INSERT INTO observations (key, body) VALUES (:key, :body) ON CONFLICT (key) DO UPDATE SET body = excluded.body"))
_FORGET = sa.delete(observations).where(observations.c.key == sa.bindparam("gone"))


class Meta:
    """Notes of the workspace about itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> str | None:
        """The note, or None."""
        with self._database.read() as tx:
            value: str | None = tx.execute(_META, {"key": key}).scalar()
        return value

    def set(self, key: str, value: str | None) -> None:
        """Write a note; None removes it."""
        with self._database.write() as tx:
            tx.execute(sa.delete(meta).where(meta.c.key == sa.bindparam("key")), {"key": key})
            if value is not None:
                tx.execute(sa.insert(meta), {"key": key, "value": value})

"""Rows that belong to no tenant: cached observations of sources, and the workspace's metadata.
Losing an observation costs time, never correctness."""

import zlib
from collections.abc import Iterable, Mapping
from operator import itemgetter

import msgspec

from jammi_lab.catalog.connection import Connection, Statement, is_listed, text_list
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.schema import metadata_table, observations
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.storage.digests import CacheEntry, observation_key

RESULT_KIND, MANIFEST_KIND, COLUMN_LINEAGE_KIND = "result", "manifest", "column_lineage"
"""The kinds of observations of a result table; their subject is its physical name."""

_entry_decoder = msgspec.json.Decoder(CacheEntry)
_CHECKSUM_DIGITS = 8
_ALL_ENTRIES = Statement("SELECT observations.key, observations.body FROM observations")
_GET = Statement(f"{_ALL_ENTRIES.text} WHERE observations.key = :key")
_PUT = Statement(f"{observations.insert} ON CONFLICT (key) DO UPDATE SET body = excluded.body")
_DELETE = Statement(f"DELETE FROM observations WHERE {is_listed('observations.key', 'keys')}")
_GET_CREATION = Statement("SELECT catalog_format.created_at FROM catalog_format")
_GET_METADATA = Statement("SELECT meta.value FROM meta WHERE meta.key = :key")
_DELETE_METADATA = Statement("DELETE FROM meta WHERE meta.key = :key")
_INSERT_METADATA = Statement(metadata_table.insert)


def _encode_entry(key: str, entry: CacheEntry) -> str:
    """The stored form of a cache entry: a checksum, and JSON."""
    text = msgspec.json.encode(entry).decode()
    return _checksum(key, text) + text


def _decode_entry(key: object, body: object) -> CacheEntry | None:
    """Decode a cache entry; None for an invalid one, which is observed again."""
    if not isinstance(key, str) or not isinstance(body, str):
        return None
    checksum, text = body[:_CHECKSUM_DIGITS], body[_CHECKSUM_DIGITS:]
    try:
        return _entry_decoder.decode(text) if checksum == _checksum(key, text) else None
    except msgspec.DecodeError:
        return None


def _checksum(key: str, text: str) -> str:
    return f"{zlib.crc32(text.encode(), zlib.crc32(key.encode())):0{_CHECKSUM_DIGITS}x}"


class ObservationRepository:
    """The persistent cache of observations. A read-only catalog does not store new entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> dict[str, CacheEntry]:
        """Every entry by key; one query."""
        return {
            key: entry
            for key, body in self._database.fetch(_ALL_ENTRIES, {})
            if (entry := _decode_entry(key, body)) is not None
        }

    def get(self, key: str) -> CacheEntry | None:
        """The entry of that key, or None."""
        rows = self._database.fetch(_GET, {"key": key})
        return _decode_entry(key, rows[0][1]) if rows else None

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry, replacing an earlier one."""
        self.put_many({key: entry})

    def put_many(self, entries: Mapping[str, CacheEntry]) -> None:
        """Store entries, replacing earlier ones, in one transaction. A power failure may lose it:
        what is not known is observed again."""
        if not entries or self._database.read_only:
            return
        rows = [
            {"key": key, "body": _encode_entry(key, entry)}
            for key, entry in sorted(entries.items(), key=itemgetter(0))  # in the index's order
        ]
        with self._database.write_without_fsync(keep_cached=True) as tx:
            _PUT.execute_many(tx, rows)

    def remove(self, keys: Iterable[str]) -> None:
        """Delete entries."""
        with self._database.write() as tx:
            _DELETE.execute(tx, {"keys": text_list(keys)})


def remove_observations_of_table(tx: Connection, table_name: str) -> None:
    """Delete the observations of a result table: no other table has its name."""
    kinds = (RESULT_KIND, MANIFEST_KIND, COLUMN_LINEAGE_KIND)
    _DELETE.execute(tx, {"keys": text_list(observation_key(kind, table_name) for kind in kinds)})


class MetadataRepository:
    """Key-value metadata of the workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def workspace_id(self) -> str:
        """An id that a copy of the workspace shares, and another workspace does not: a digest of
        the moment when the catalog was created."""
        [[created_at]] = self._database.fetch(_GET_CREATION, {})
        return digest_of(str(created_at))[:12]

    def get(self, key: str) -> str | None:
        """The value of a key, or None."""
        rows = self._database.fetch(_GET_METADATA, {"key": key})
        return str(rows[0][0]) if rows else None

    def set(self, key: str, value: str | None) -> None:
        """Set a value; None removes the key."""
        with self._database.write() as tx:
            _DELETE_METADATA.execute(tx, {"key": key})
            if value is not None:
                _INSERT_METADATA.execute(tx, {"key": key, "value": value})

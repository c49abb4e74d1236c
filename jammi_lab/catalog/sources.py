"""Registered sources, without credentials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Statement, is_listed, text_list
from jammi_lab.catalog.repository import DatedRepository
from jammi_lab.catalog.row_mapping import SOURCE
from jammi_lab.catalog.schema import sources
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import SourceExists
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import SourceRecord

_GET = Statement(
    f"SELECT {SOURCE.columns} FROM sources WHERE {scope.visible('sources')} "
    f"AND {is_listed('sources.name_fold', 'folds')} ORDER BY {scope.own_first('sources')} DESC"
)
_GET_OF_OWNER = Statement(
    f"SELECT {SOURCE.columns} FROM sources WHERE {scope.owned_by('sources')} "
    "AND sources.name_fold = :fold"
)
_LIST = Statement(
    f"SELECT {SOURCE.columns} FROM sources WHERE {scope.visible('sources')} "
    f"ORDER BY sources.name_fold, {scope.own_first('sources')}"
)
_INSERT = Statement(sources.insert)
_DELETE = Statement(
    f"DELETE FROM sources WHERE {scope.owned_by('sources')} AND sources.name_fold = :fold"
)


def _by_name(rows: Iterable[Any]) -> dict[str, SourceRecord]:
    return {fold(record.name): record for record in map(SOURCE.decode, rows)}


class SourceRepository(DatedRepository):
    """The sources of the bound scope."""

    def put(self, record: SourceRecord, replace: bool = False) -> SourceRecord:
        """Register a source and return the stored record. Raises SourceExists when its name is
        taken and `replace` is false, TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The source {record.name!r}")
        key = scope.name_key(record.tenant, record.name)
        new_record = record.with_values(
            created_at=record.created_at or rfc3339(self._clock.now_ns())
        )
        with self._database.write() as tx:
            rows = _GET_OF_OWNER.fetch(tx, key)
            if rows and not replace:
                raise SourceExists(
                    f"The source {SOURCE.decode(rows[0]).name!r} already exists.",
                    hint="Pass replace=True (in a cell --replace) to replace it.",
                )
            _DELETE.execute(tx, key)
            _INSERT.execute(tx, SOURCE.encode(new_record))
        return new_record

    def get(self, name: str) -> SourceRecord | None:
        """The source of that name, own before shared."""
        return self.get_all([name]).get(fold(name))

    def get_all(self, names: Iterable[str]) -> Mapping[str, SourceRecord]:
        """The sources of some names, own before shared, by folded name."""
        key = self._scope.parameters(folds=text_list(map(fold, names)))
        return self._database.fetch_cached(_GET, key, _by_name)

    def list(self) -> list[SourceRecord]:
        """Every source, by name, without shared ones that own ones hide."""
        rows = self._database.fetch(_LIST, self._scope.parameters())
        return self._scope.without_hidden(map(SOURCE.decode, rows))

    def remove(self, name: str) -> bool:
        """Delete a source; return whether it existed. Raises TenantForbidden for a shared one under
        a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The source {record.name!r}")
            _DELETE.execute(tx, scope.name_key(record.tenant, name))
        return True

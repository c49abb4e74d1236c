"""How a result table changes its status. Only the store imports this: there is one way to `ready`, one way out, and each is a compare-and-set."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import newest, scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.lineage import edge_rows
from jammi_lab.catalog.models import require_model
from jammi_lab.catalog.rows import table_row, version_row
from jammi_lab.catalog.schema import counters, lineage, manifests, recipes, result_tables, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.catalog.tables import Tables
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import DuplicateTable, LostOwnership, TableNotFound
from jammi_lab.names import fold
from jammi_lab.values.anchors import AnchorKind
from jammi_lab.values.records import TableRecord, TableStatus, VersionRecord

Edges = Sequence[tuple[tuple[str, str, str], AnchorKind]]
"""(`Input.identity`, anchor kind) of each input."""

_t, _v = result_tables, versions
_LEARNT = {  # what publishing enters, by the name under which it is bound
    f"new_{name}": name
    for name in (
        *("row_count", "derived_from", "key_columns", "dimensions", "bytes", "completed_at", "seconds", "columns", "anchors", "digest"),
        *("manifest_digest", "order_sensitive", "source_id", "model_id", "status"),
    )
}
_status, _writer = _t.c.status == sa.bindparam("was"), _t.c.writer_id == sa.bindparam("writer")
_counter = scope.select_of(counters.c.recipe, seen=counters).where(counters.c.recipe_fold == sa.bindparam("fold"))
_NUMBERS = Direct(  # one statement for what five would ask
    scope.everyones(
        scope.select_of(recipes.c.name, seen=recipes).where(recipes.c.name_fold == sa.bindparam("fold")).scalar_subquery(),
        _counter.scalar_subquery(),
        _counter.with_only_columns(counters.c.last).scalar_subquery(),
        scope.select_of(sa.func.max(_v.c.version), seen=_v).where(_v.c.recipe_fold == sa.bindparam("fold")).scalar_subquery(),
        scope.select(sa.literal_column("1"), seen=_t).where(_t.c.table_fold == sa.bindparam("table_fold", type_=sa.Text)).scalar_subquery(),
    )
)
_COUNT = Direct(scope.update_of(counters).where(counters.c.recipe_fold == sa.bindparam("fold")).values(last=sa.bindparam("number")))
_ENTER, _ENTER_VERSION, _ENTER_COUNTER, _KEEP_COPY, _ENTER_EDGE = (Direct(sa.insert(table)) for table in (_t, _v, counters, manifests, lineage))
_SETTLE = scope.update_all(_t).where(_t.c.table_name == sa.bindparam("name"), _status, _writer)
_BUILDING = Direct(  # and, of each, whether the catalog keeps a manifest already
    scope.everyones(_t.c.table_name, manifests.c.table_name)
    .join_from(_t, manifests, manifests.c.table_name == _t.c.table_name, isouter=True)
    .where(_status, _writer)
)
_FAIL = (
    scope.update_all(_t)
    .where(_status, _writer)
    .values(status=sa.literal_column("'failed'"), error=sa.bindparam("why"), completed_at=sa.bindparam("now"))
    .returning(_t.c.table_name)
)
_FAIL_REST, _FAIL_EACH = _FAIL.where(_t.c.table_name.not_in(sa.bindparam("names", expanding=True))), Direct(_FAIL)
_FLIP = scope.update_of(_t).where(_t.c.table_name == sa.bindparam("name"), _status)
_FINISH = Direct(_SETTLE.values({_t.c[name]: sa.bindparam(bound) for bound, name in _LEARNT.items()} | {_t.c.error: sa.null()}))
_NO_EDGES = scope.delete_of(lineage).where(lineage.c.derived == sa.bindparam("name"))
_NO_COPY = scope.delete_of(manifests).where(manifests.c.table_name == sa.bindparam("name"))
_DROP_VERSION = scope.delete_of(_v).where(_v.c.recipe_fold == sa.bindparam("fold"), _v.c.version == sa.bindparam("number"))
_PIN = scope.update_of(_v).where(_v.c.recipe_fold == sa.bindparam("fold"), _v.c.version == sa.bindparam("number"))


class Building(Exception):
    """Somebody is building this very definition already; `record` is their row."""

    def __init__(self, record: TableRecord) -> None:
        super().__init__(record.table_name)
        self.record = record


class ReadyMeanwhile(Exception):
    """A table of this very definition turned ready that the caller had not seen when it decided to build one."""


class Publish:
    """Changes of status, in the scope that is bound."""

    def __init__(self, database: Database, bound: Scope, tables: Tables, clock: Clock) -> None:
        self._database, self._scope, self._tables, self._clock = database, bound, tables, clock

    def begin(self, record: TableRecord, model_key: str | None = None, seen: Collection[str] | None = None) -> TableRecord:
        """The record as it is now in the catalog: building, with the next version number of its recipe (at least the one it has), and the recipe's
        name as it was first spelt. All kernels see it; a power failure may take it until `Database.unsynced` is synced, and no file may have a
        name of its own before.

        `model_key`: the registered model that it is made with, which cannot be deleted from now on. `seen`: the ready tables of its definition that
        were looked at and do not answer; None when it is to be built anyway.
        Raises Building when it may be waited for and its definition is being built for this tenant already, ReadyMeanwhile when another table of it
        turned ready after the look, DuplicateTable, TenantForbidden, ModelNotFound when that model was deleted meanwhile.
        """
        self._scope.check_owner(record.tenant, f"The recipe {record.recipe!r}")
        with self._database.hasty() as tx:
            if record.flight and record.definition_hash is not None and (other := self._in_flight(record)) is not None:
                raise Building(other)
            if seen is not None and any(r.table_name not in seen for r in self._tables.by_definition(record.definition_hash or "")):
                raise ReadyMeanwhile(record.definition_hash)
            if model_key is not None:
                require_model(tx, record.tenant, model_key)  # in this transaction: a delete comes wholly before it or sees the row below
            recipe, number = self._next(tx, record.tenant, record.recipe, record.table_name, least=record.version)
            created = record.created_at or rfc3339(self._clock.now_ns())
            begun = msgspec.structs.replace(record, recipe=recipe, version=number, status=TableStatus.BUILDING, created_at=created)
            _ENTER.change(tx, table_row(begun))
            _ENTER_VERSION.change(
                tx,
                version_row(VersionRecord(recipe=recipe, version=number, table_name=begun.table_name, tenant=begun.tenant, created_at=created)),
            )
        return begun

    def ready(self, record: TableRecord, manifest: bytes, edges: Edges | None = None) -> TableRecord:
        """Publish: the row's fields, a copy of the manifest and the lineage edges in one transaction. `edges` are those of the anchors unless given.

        Raises LostOwnership, and changes nothing, unless the row is still building and still `record.writer_id`'s.
        """
        if edges is None:
            edges = [(anchor.input.identity, anchor.kind) for anchor in record.anchors]
        completed = record.completed_at or rfc3339(self._clock.now_ns())
        published = msgspec.structs.replace(record, status=TableStatus.READY, completed_at=completed, error=None)
        with self._database.write() as tx:
            if not self._finish(tx, [(published, manifest, edges)]):
                raise LostOwnership(
                    f"The table {record.table_name!r} was settled by another kernel while it was being built; nothing was published.",
                    hint="Run it again; the other kernel's table is reused if it is the same.",
                )
        return published

    def ready_all(self, finished: Sequence[tuple[TableRecord, bytes, Edges]]) -> set[str]:
        """Publish many at once, as `ready` does: those that were still building and still their record's writer's."""
        if not finished:
            return set()
        with self._database.write() as tx:
            mine = self._still_building(tx, {record.writer_id for record, _, _ in finished})
            kept = [each for each in finished if (each[0].table_name, each[0].writer_id) in mine]
            for record, _, _ in kept:
                if mine[record.table_name, record.writer_id]:  # it was ready before, and was made building again by hand
                    tx.execute(_NO_EDGES, _named(record))
                    tx.execute(_NO_COPY, _named(record))
            if kept:
                done = self._finish(tx, kept)
                assert done, "the transaction keeps them building"
        return {record.table_name for record, _, _ in kept}

    @staticmethod
    def _finish(tx: sa.Connection, finished: Sequence[tuple[TableRecord, bytes, Edges]]) -> bool:
        """Whether each was building for its record's writer and is ready now, with all that the catalog keeps of it, which was nothing before."""
        if _FINISH.change_all(tx, [_flip(record, status="ready") for record, _, _ in finished]) != len(finished):
            return False
        # before the copies: with one, an edge is taken for another tool's
        _ENTER_EDGE.change_all(tx, [row for record, _, edges in finished for row in edge_rows(tx, record, edges)])
        _KEEP_COPY.change_all(tx, [_copied(record.table_name, record.tenant, body) for record, body, _ in finished])
        newest.renew_of(tx, [record.table_name for record, _, _ in finished])
        return True

    @staticmethod
    def _still_building(tx: sa.Connection, writers: Collection[str]) -> dict[tuple[str, str], bool]:
        """What some writers are building, by name and writer: whether the catalog keeps a manifest of it already. The transaction keeps it so."""
        return {(row[0], writer): row[1] is not None for writer in writers for row in _BUILDING.rows(tx, {"was": "building", "writer": writer})}

    def reuse(self, recipe: str, table_name: str) -> VersionRecord:
        """The version of this tenant's recipe that refers to a ready table: the newest one if it does already, else a new one. TableNotFound for any
        table that is not ready and this tenant's own."""
        tenant = self._scope.tenant
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None or record.tenant != tenant or record.status is not TableStatus.READY:
                raise TableNotFound(f"There is no ready table {table_name!r} to reuse.")
            last = self._tables.newest_of(tenant, recipe)
            if last is not None and last[1].table_name == record.table_name:
                return last[0]
            spelt, number = self._next(tx, tenant, recipe, None)
            version = VersionRecord(
                recipe=spelt, version=number, table_name=record.table_name, tenant=tenant, created_at=rfc3339(self._clock.now_ns())
            )
            _ENTER_VERSION.change(tx, version_row(version))
            newest.renew(tx, [(tenant or "", fold(spelt))])
        return version

    def failed(self, table_name: str, writer_id: str, error: str) -> bool:
        """Whether a building table of that writer is now failed; False when it was settled otherwise meanwhile."""
        return self._settle(table_name, "building", writer_id, {"status": "failed", "error": error, "completed_at": rfc3339(self._clock.now_ns())})

    def failed_all(self, writer_id: str, error: str, but: Sequence[str] = ()) -> set[str]:
        """Whatever that writer was building, but for some tables, is failed now: the names. One transaction."""
        with self._database.write() as tx:
            claim = {"was": "building", "writer": writer_id, "why": error, "now": rfc3339(self._clock.now_ns())}
            failed = tx.execute(_FAIL_REST, {**claim, "names": list(but)}).all() if but else _FAIL_EACH.rows(tx, claim)
            return {row[0] for row in failed}

    def condemn(self, table_name: str, error: str) -> bool:
        """Whether a ready table whose bytes cannot be trusted is now failed. TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            condemned = tx.execute(_FLIP.values(status="failed", error=error), {**_named(record), "was": "ready"}).rowcount == 1
            newest.renew_of(tx, [record.table_name])
        return condemned

    def adopt(self, table_name: str, from_writer: str, to_writer: str) -> bool:
        """Whether an unsettled table of a dead writer is now another one's to settle."""
        return any(self._settle(table_name, was, from_writer, {"writer_id": to_writer}) for was in ("building", "deleting"))

    def tombstone(self, table_name: str, writer_id: str | None = None) -> bool:
        """Whether a ready or failed table is now deleting: no name means it any more. `writer_id`: who will remove the bytes. TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None or record.status not in (TableStatus.READY, TableStatus.FAILED):
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            self._bury(tx, record, writer_id)
        return True

    def drop_version(self, recipe: str, number: int, writer_id: str | None = None) -> tuple[str, bool] | None:
        """Take one version away: the physical table it referred to, and whether that was the last version to refer to it, so that the table is
        deleting now. None when there is no such version or it is being built. TenantForbidden."""
        with self._database.write() as tx:
            found = self._tables.version(recipe, number)
            if found is None or found[1].status is TableStatus.BUILDING:
                return None
            version, record = found
            self._scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
            tx.execute(_DROP_VERSION, {"owner": version.tenant or "", "fold": fold(version.recipe), "number": number})
            last = not self._tables.referring(record.table_name)
            if last and record.status is not TableStatus.DELETING:
                self._bury(tx, record, writer_id)
            newest.renew(tx, [(version.tenant or "", fold(version.recipe))])
        return record.table_name, last

    def forget(self, table_name: str) -> bool:
        """Whether a failed or deleting table, whose bytes are gone, is now out of the catalog with its manifest, edges and versions.
        TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None or record.status not in (TableStatus.FAILED, TableStatus.DELETING):
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            self._unname(tx, record)
            for table in (manifests, result_tables):
                tx.execute(scope.delete_of(table).where(table.c.table_name == sa.bindparam("name")), _named(record))
        return True

    def heal(self, table_name: str, manifest: bytes, manifest_digest: str | None = None) -> bool:
        """Put a manifest that was verified in place of the catalog's copy. False when the table is not there. TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            self._copy(tx, record.table_name, record.tenant, manifest)
            if manifest_digest is not None:
                tx.execute(scope.update_of(_t).where(_t.c.table_name == sa.bindparam("name")).values(manifest_digest=manifest_digest), _named(record))
        return True

    def pin(self, recipe: str, number: int, note: str | None = None) -> bool:
        """Whether that version is there, and is now kept by `expire`, with a note why. TenantForbidden."""
        return self._pin(recipe, number, pinned=1, note=note)

    def unpin(self, recipe: str, number: int) -> bool:
        """Whether that version is there, and is now like any other. TenantForbidden."""
        return self._pin(recipe, number, pinned=0, note=None)

    def _pin(self, recipe: str, number: int, **values: Any) -> bool:
        with self._database.write() as tx:
            found = self._tables.version(recipe, number)
            if found is None:
                return False
            self._scope.check_owner(found[0].tenant, f"The recipe {found[0].recipe!r}")
            tx.execute(_PIN.values(**values), {"owner": found[0].tenant or "", "fold": fold(recipe), "number": number})
        return True

    def _in_flight(self, record: TableRecord) -> TableRecord | None:
        other = self._tables.building(record.definition_hash or "")
        return other if other is not None and other.tenant == record.tenant else None

    def _next(self, tx: sa.Connection, tenant: str | None, recipe: str, table_name: str | None, least: int = 1) -> tuple[str, int]:
        """The recipe's name as first spelt and its next version number, which is taken by this. DuplicateTable when a table is to be made for it and
        its name is taken."""
        key = {"owner": tenant or "", "fold": fold(recipe)}
        asked = self._scope.params(**key, table_fold=None if table_name is None else fold(table_name))
        [(named, counted, last, highest, there)] = _NUMBERS.rows(tx, asked)
        if there:
            raise DuplicateTable(f"There is a table {table_name!r} already.")
        spelt = named or counted or recipe
        number = max(least, 1 + max(last or 0, highest or 0))
        if counted is not None:
            _COUNT.change(tx, {**key, "number": number})
        else:
            _ENTER_COUNTER.change(tx, {"tenant_id": tenant, "recipe": spelt, "recipe_fold": fold(recipe), "last": number})
        return spelt, number

    def _settle(self, table_name: str, was: str, writer_id: str, values: dict[str, Any]) -> bool:
        """A change of a row that is of that status and that writer's; the writer's id is the right to it, whoever is bound."""
        with self._database.write() as tx:
            return tx.execute(_SETTLE.values(values), {"name": table_name, "was": was, "writer": writer_id}).rowcount == 1

    def _bury(self, tx: sa.Connection, record: TableRecord, writer_id: str | None) -> None:
        referring = newest.recipes_of(tx, record.table_name)
        self._unname(tx, record)
        values = {"status": "deleting"} if writer_id is None else {"status": "deleting", "writer_id": writer_id}
        tx.execute(_FLIP.values(**values), {**_named(record), "was": str(record.status)})
        newest.renew(tx, referring)

    def _unname(self, tx: sa.Connection, record: TableRecord) -> None:
        tx.execute(scope.delete_of(_v).where(_v.c.table_name == sa.bindparam("name")), _named(record))
        tx.execute(_NO_EDGES, _named(record))

    def _copy(self, tx: sa.Connection, table_name: str, tenant: str | None, manifest: bytes) -> None:
        tx.execute(_NO_COPY, {"owner": tenant or "", "name": table_name})
        _KEEP_COPY.change(tx, _copied(table_name, tenant, manifest))


def _named(record: TableRecord) -> dict[str, Any]:
    return {"owner": record.tenant or "", "name": record.table_name}


def _flip(record: TableRecord, *, status: str) -> dict[str, Any]:
    """What turns a building row of the record's writer into another status, with all that is known of it then."""
    row = table_row(record)
    fields = {bound: row[name] for bound, name in _LEARNT.items()}
    return {**fields, "new_status": status, "name": record.table_name, "was": "building", "writer": record.writer_id}


def _copied(table_name: str, tenant: str | None, manifest: bytes) -> dict[str, Any]:
    return {"table_name": table_name, "tenant_id": tenant, "body": manifest.decode()}

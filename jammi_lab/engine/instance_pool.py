"""The DuckDB instances of an engine, one set for each tenant, and the work that runs in them."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jammi_lab.core.cancellable import run_cancellable
from jammi_lab.core.errors import JammiError, check_not_forked
from jammi_lab.core.settings import Settings
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.attachments import QueryTimeout
from jammi_lab.engine.duckdb_errors import (
    StatementContext,
    closed_error,
    source_error,
    stopped_error,
    to_jammi_error,
)
from jammi_lab.engine.duckdb_instances import with_parser
from jammi_lab.engine.duckdb_messages import is_fatal, parse_error
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.sql import equal_values, float_sums, parse, syntax_tree
from jammi_lab.engine.sql.float_sums import ExactForm
from jammi_lab.engine.sql.read_set import InputSchemas, replica_tables
from jammi_lab.engine.sql.scan_conditions import scan_conditions
from jammi_lab.engine.stream import StreamWorker
from jammi_lab.engine.tenant_instances import TenantInstances
from jammi_lab.sources.base import Query, Relation
from jammi_lab.sources.scan_conditions import ScanConditions
from jammi_lab.storage import spill_folders


class RunCursor:
    """The cursor of one run with the scratch database of its relations.

    `begin` and `end` are called in the thread of the run; `end` also where nothing began."""

    def __init__(
        self,
        instances: TenantInstances,
        relations: ResolvedNames,
        *,
        options: Mapping[str, str],
        with_float_sums: bool = False,
    ) -> None:
        self._instances, self._relations, self._options = instances, relations, options
        self._with_float_sums = with_float_sums
        self._undo = contextlib.ExitStack()
        self.cursor = instances.main.cursor()
        self._undo.callback(self.cursor.close)

    def begin(self, settings: Sequence[str]) -> None:
        """Apply the cursor's settings, acquire the relations, and create their views. Raises as
        `TenantInstances.create_views`."""
        if self._with_float_sums:
            self._instances.create_float_sums()
        for setting in settings:
            self.cursor.execute(setting)
        self._instances.acquire(self._undo, self.cursor, self._relations)
        if self._relations:
            database = duckdb_instances.open_scratch(self.cursor)
            self._undo.callback(duckdb_instances.close_scratch, self.cursor, database)
            self._instances.create_views(self.cursor, database, self._relations)
        for option, value in self._options.items():
            self._undo.callback(self._instances.hold_option(option, value))

    def end(self) -> None:
        """Drop the scratch database and release the relations. Raises duckdb.Error."""
        self._undo.close()


T = TypeVar("T")
MAX_OPEN_TENANTS = 8
RETIRED_INSTANCES: list[Any] = []
"""Instances that did not stop when interrupted. Closing them could block, so they live until the
process ends."""


def _ignore_interrupt() -> None:
    """The interrupt function of work too short to be interrupted."""


def run_in_parser(work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """Run `work` in a worker with the parser instance; returns its result."""
    return run_cancellable(lambda: with_parser(work), _ignore_interrupt)


class InstancePool:
    """The instances of all tenants.

    `spill` is the folder for temporary files (default: the system's); every instance creates and
    removes its own subfolder.
    """

    def __init__(self, settings: Settings, spill: Path | None = None) -> None:
        self._settings = settings
        self.has_fast_sums = settings["engine.float_sums"] == "fast"
        """Whether stored sums of floating-point numbers are DuckDB's own."""
        self._spill_parent = spill_folders.temporary_folder() if spill is None else spill
        self.instances_by_tenant: OrderedDict[str | None, TenantInstances] = OrderedDict()
        self._lock = threading.RLock()
        self._memory_budget: int | None = None
        self._closed = False
        self._pid = os.getpid()

    def instances_of(self, tenant: str | None) -> TenantInstances:
        """The instances of a tenant, opened on first use. Beyond eight tenants the least recently
        used idle ones are closed."""
        with self._lock:
            self._check_open()
            if tenant in self.instances_by_tenant:
                self.instances_by_tenant.move_to_end(tenant)
                return self.instances_by_tenant[tenant]
            instances = self._open_instances()
            self.instances_by_tenant[tenant] = instances
            idle = []
            for t, s in self.instances_by_tenant.items():
                if s is not instances and not s.in_use:
                    idle.append(t)
            while len(self.instances_by_tenant) > MAX_OPEN_TENANTS and idle:
                self.instances_by_tenant.pop(idle.pop(0)).close()
            self._share_memory()
            return instances

    def _open_instances(self) -> TenantInstances:
        """Open new instances in a worker, because an interrupt during a DuckDB call would surface
        as a DuckDB error."""
        opened: list[TenantInstances] = []

        def start() -> None:
            if self._memory_budget is None:
                self.clear_spills()
            opened.append(TenantInstances(self._settings, self._spill_parent))
            self._memory_budget = self._memory_budget or duckdb_instances.memory_limit(
                opened[0].main
            )

        try:
            run_cancellable(start, _ignore_interrupt)
        except BaseException:
            for instances in opened:
                instances.close()
            raise
        return opened[0]

    @contextlib.contextmanager
    def _hold_instances(self, tenant: str | None) -> Iterator[TenantInstances]:
        """A tenant's instances, protected from eviction for one block."""
        with self._lock:
            instances = self.instances_of(tenant)
            instances.add_users(1)
        try:
            yield instances
        except duckdb.Error as error:
            raise (
                closed_error() if self._closed else to_jammi_error(error, StatementContext(""))
            ) from None
        finally:
            instances.add_users(-1)

    def _run_in_worker(
        self,
        tenant: str | None,
        instances: TenantInstances,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        timeout: QueryTimeout | None = None,
    ) -> T:
        """Run `work` in a worker with a cursor that an interrupt stops; returns its result. The
        instance counts as in use until the work ends."""
        cursor = instances.main.cursor()
        instances.add_users(1)

        def run() -> T:
            try:
                return work(cursor)
            finally:
                cursor.close()
                instances.add_users(-1)

        def abandon() -> None:
            if timeout is None or not timeout.abandon(instances.attachments):
                self.retire(tenant, instances)

        return run_cancellable(
            run,
            duckdb_instances.interrupt_function(cursor),
            on_stuck=abandon,
            tick=None if timeout is None else timeout.check_timeout,
        )

    def run_for_tenant(
        self,
        tenant: str | None,
        work: Callable[[TenantInstances, duckdb.DuckDBPyConnection], T],
        translate_error: Callable[[BaseException, TenantInstances], JammiError],
        timeout: QueryTimeout | None = None,
    ) -> T:
        """Run `work` in a worker with the tenant's instances and a cursor. `translate_error`
        translates DuckDB's errors."""
        with self._hold_instances(tenant) as instances:
            try:
                return self._run_in_worker(
                    tenant, instances, lambda cursor: work(instances, cursor), timeout
                )
            except (duckdb.Error, UnicodeDecodeError) as error:
                raise translate_error(error, instances) from None

    def query_source(
        self,
        tenant: str | None,
        relation: Relation | None,
        work: Callable[[TenantInstances, duckdb.DuckDBPyConnection], T],
        timeout: QueryTimeout | None = None,
    ) -> T:
        """`run_for_tenant` for what reads a source outside of a statement."""
        return self.run_for_tenant(
            tenant, work, lambda error, _: source_error(error, relation), timeout
        )

    def borrow_replicas(
        self, *, pushes_filters_down: bool = False
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """As `duckdb_instances.borrow_replicas`."""
        return duckdb_instances.borrow_replicas(
            self._settings, pushes_filters_down=pushes_filters_down
        )

    def with_replicas(
        self,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        *,
        pushes_filters_down: bool = False,
    ) -> T:
        """Run `work` in a worker with a replica instance, which binds and cannot read data."""
        self._check_open()

        def run() -> T:
            with self.borrow_replicas(pushes_filters_down=pushes_filters_down) as replicas:
                return work(replicas)

        return run_cancellable(run, _ignore_interrupt)

    def scan_conditions(
        self,
        parsed: parse.ParsedStatement,
        schemas: InputSchemas,
        params: Mapping[str, Any],
    ) -> dict[tuple[str, ...], ScanConditions]:
        """The conditions on the rows that a statement needs, by input."""
        return self.with_replicas(
            lambda replicas: scan_conditions(replicas, parsed, schemas, params),
            pushes_filters_down=True,
        )

    def exact_form(
        self,
        parsed: parse.ParsedStatement,
        schemas: InputSchemas,
        params: Mapping[str, Any],
    ) -> ExactForm:
        """How a SELECT is run whose rows are stored."""

        def work(replicas: duckdb.DuckDBPyConnection) -> ExactForm:
            with replica_tables(replicas, schemas) as (cursor, _, _):
                return with_parser(
                    lambda parser: float_sums.exact_form(
                        parsed.tree,
                        lambda tree: syntax_tree.text_of(parser, tree),
                        lambda text: equal_values.bound_plan(cursor, text, params),
                    )
                )

        return self.with_replicas(work)

    def create_worker(
        self,
        tenant: str | None,
        sql: str,
        params: Mapping[str, Any],
        relations: ResolvedNames,
        *,
        options: Mapping[str, str],
        read_ahead_fully: bool = False,
        after_read: Callable[[Query], None] | None = None,
        with_float_sums: bool = False,
    ) -> tuple[TenantInstances, StreamWorker]:
        """A worker for one run, not started yet, with the instances it runs in. `read_ahead_fully`
        and `after_read` are those of `StreamWorker`; `options` are DuckDB's, for the statement,
        which uses the macros of `float_sums` only `with_float_sums`."""
        with self._hold_instances(tenant) as instances:
            worker = StreamWorker(
                RunCursor(
                    instances,
                    relations,
                    options=options,
                    with_float_sums=with_float_sums,
                ),
                sql,
                params,
                read_ahead_fully=read_ahead_fully,
                after_read=after_read,
                spill_folder=instances.spill.parent,
            )
            instances.workers.add(worker)
            return instances, worker

    def parse_tree(self, text: str) -> dict[str, Any] | None:
        """The syntax tree of one SELECT that the library wrote, or None."""
        self._check_open()
        tree = run_in_parser(lambda parser: syntax_tree.tree_of(parser, text))
        return tree if isinstance(tree, dict) else None

    def detach(self, key: str) -> None:
        """Detach the attachments of a key in every tenant's instance."""
        with self._lock:
            all_instances = list(self.instances_by_tenant.values())
        for instances in all_instances:
            with contextlib.suppress(duckdb.Error), instances.main.cursor() as cursor:
                instances.attachments.detach(cursor, key)

    def clear_spills(self) -> None:
        """Remove the spill folders that dead kernels left."""
        spill_folders.remove_abandoned_folders(self._spill_parent)

    def retire(self, tenant: str | None, instances: TenantInstances) -> None:
        """Retire an instance that does not stop or has failed. The next statement gets a new
        one."""
        with self._lock:
            if self.instances_by_tenant.get(tenant) is instances:
                del self.instances_by_tenant[tenant]
                self._share_memory()
            RETIRED_INSTANCES.append(instances)

    def translate_error(
        self,
        error: BaseException,
        tenant: str | None,
        instances: TenantInstances,
        context: StatementContext,
        prefix: int = 0,
    ) -> JammiError:
        """The JammiError for an error of DuckDB. An instance that DuckDB invalidated is retired."""
        if is_fatal(error):
            self.retire(tenant, instances)
        if self._closed and parse_error(error).kind.casefold() in ("interrupt", "connection"):
            return stopped_error()
        return to_jammi_error(error, context, prefix=prefix)

    def _share_memory(self) -> None:
        """Divide one memory budget equally among all instances."""
        if self._memory_budget is None or not self.instances_by_tenant:
            return
        mains = [instances.main for instances in self.instances_by_tenant.values()]
        share = self._memory_budget // len(self.instances_by_tenant)

        def apply_limits() -> None:
            for main in mains:
                duckdb_instances.limit_memory(main, share)

        run_cancellable(apply_limits, _ignore_interrupt)

    def _check_open(self) -> None:
        check_not_forked(self._pid)
        if self._closed:
            raise closed_error()

    def close(self) -> None:
        """Stop running statements and close every instance. May be called twice. Does nothing in a
        forked child, whose parent still owns the instances."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            all_instances, self.instances_by_tenant = (
                list(self.instances_by_tenant.values()),
                OrderedDict(),
            )
            for instances in all_instances:
                instances.close()

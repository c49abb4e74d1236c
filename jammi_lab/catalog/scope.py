"""The tenant predicate: which rows a statement may see or change. Every statement over rows that have a tenant is begun here, and nowhere else.

A reader sees its own rows and the shared ones; without a bound tenant, the shared ones. A change touches own rows only; the shared ones are
everybody's own when no tenant is bound. `everyone()` lifts the predicate for one block (recovery, check, rebuild).

Statements are built once, when a module is imported; what is bound is put in when they run (`Scope.params`).
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from jammi_lab.catalog.schema import owner
from jammi_lab.errors import TenantForbidden
from jammi_lab.tenancy import TenantScope

S = TypeVar("S")
_ALL = sa.bindparam("scope_all", type_=sa.BigInteger) == sa.literal_column("1")
_TENANT = sa.bindparam("scope_tenant", type_=sa.Text)


def visible(table: Any) -> sa.ColumnElement[bool]:
    """Own and shared rows."""
    return sa.or_(_ALL, table.c.tenant_id.is_(None), table.c.tenant_id == _TENANT)


def mine(table: Any) -> sa.ColumnElement[bool]:
    """Own rows; shared ones only when no tenant is bound."""
    return sa.or_(_ALL, owner(table) == sa.func.coalesce(_TENANT, sa.literal_column("''"), type_=sa.Text))


def of(table: Any, name: str = "owner") -> sa.ColumnElement[bool]:
    """Rows of exactly one owner, `''` for shared, that a visible record names; bound as `name`."""
    return owner(table) == sa.bindparam(name, type_=sa.Text)


def reaching(table: Any, name: str = "owner") -> sa.ColumnElement[bool]:
    """Rows that can refer to a thing of the owner bound as `name`: that owner's own, and everybody's when the thing is shared (`''`)."""
    return sa.or_(sa.bindparam(name, type_=sa.Text) == sa.literal_column("''"), of(table, name))


def own_first(table: Any) -> sa.ColumnElement[int]:
    """Sorts own rows before shared ones."""
    return sa.case((table.c.tenant_id == _TENANT, 0), (table.c.tenant_id.is_(None), 1), else_=2)


def select(*columns: Any, seen: Any) -> sa.Select[Any]:
    """A read of rows that are visible in `seen`, the table (or tables) that the statement goes over."""
    return sa.select(*columns).where(*(visible(table) for table in _tables(seen)))


def select_mine(*columns: Any, seen: Any) -> sa.Select[Any]:
    """A read of own rows."""
    return sa.select(*columns).where(*(mine(table) for table in _tables(seen)))


def select_of(*columns: Any, seen: Any, name: str = "owner") -> sa.Select[Any]:
    """A read of the rows of one owner, bound as `name`."""
    return sa.select(*columns).where(*(of(table, name) for table in _tables(seen)))


def select_reaching(*columns: Any, seen: Any, name: str = "owner") -> sa.Select[Any]:
    """A read of what can refer to a thing of one owner, bound as `name`: whose rows those are must not be shown when the thing is shared."""
    return sa.select(*columns).where(*(reaching(table, name) for table in _tables(seen)))


def update_of(table: sa.Table) -> sa.Update:
    """A change of rows of one owner."""
    return sa.update(table).where(of(table))


def delete_of(table: sa.Table) -> sa.Delete:
    """A removal of rows of one owner."""
    return sa.delete(table).where(of(table))


def update_all(table: sa.Table) -> sa.Update:
    """A change that follows from one in another row, whoever owns the rows that it reaches."""
    return sa.update(table)


def delete_all(table: sa.Table) -> sa.Delete:
    """A removal that follows from a change in another row, whoever owns the rows that it reaches."""
    return sa.delete(table)


def everyones(*columns: Any) -> sa.Select[Any]:
    """A read over the rows of all tenants, for what must not depend on who is bound: whether a writer has left anything behind."""
    return sa.select(*columns)


def untenanted(table: sa.Table, *columns: Any) -> sa.Select[Any]:
    """A read of a table whose rows belong to no tenant; ValueError for any other."""
    return _without_tenant(table, sa.select(*columns))


def update_untenanted(table: sa.Table) -> sa.Update:
    """A change of rows that have no tenant of their own, because they belong to a record that was found in scope; ValueError for others."""
    return _without_tenant(table, sa.update(table))


def delete_untenanted(table: sa.Table) -> sa.Delete:
    """A removal of such rows."""
    return _without_tenant(table, sa.delete(table))


def _without_tenant(table: sa.Table, statement: S) -> S:
    if "tenant_id" in table.c:
        raise ValueError(f"the rows of {table.name} have tenants")
    return statement


def as_tenant(tenant: str | None, **more: Any) -> dict[str, Any]:
    """The bound values of the predicates as they are for one tenant, whoever is bound: for what follows from a record of that tenant's."""
    return {"scope_all": 0, "scope_tenant": tenant, **more}


def _tables(seen: Any) -> tuple[Any, ...]:
    return seen if isinstance(seen, tuple) else (seen,)


class Scope:
    """The bound tenant and the admin switch, as the catalog's statements take them."""

    def __init__(self, tenants: TenantScope) -> None:
        self._tenants = tenants
        self._everyone: contextvars.ContextVar[bool] = contextvars.ContextVar("jammi_everyone", default=False)

    @property
    def tenant(self) -> str | None:
        """The tenant bound in this context."""
        return self._tenants.current

    @property
    def lifted(self) -> bool:
        """Whether `everyone()` is in force in this context."""
        return self._everyone.get()

    @contextlib.contextmanager
    def everyone(self) -> Iterator[None]:
        """See and change the rows of all tenants for one block, in this context only."""
        token = self._everyone.set(True)
        try:
            yield
        finally:
            self._everyone.reset(token)

    def params(self, **more: Any) -> dict[str, Any]:
        """The bound values of the predicates above, and `more`."""
        return {"scope_all": int(self._everyone.get()), "scope_tenant": self._tenants.current, **more}

    def check_whole(self, what: str) -> None:
        """TenantForbidden while a tenant is bound. `what` names the thing that holds all tenants' things in the message."""
        if self.tenant is not None and not self.lifted:
            raise TenantForbidden(
                f"{what} holds what is every tenant's and cannot be made while tenant {self.tenant!r} is bound.",
                hint="Unbind the tenant first: ws.bind_tenant(None).",
            )

    def check_owner(self, tenant: str | None, what: str) -> None:
        """TenantForbidden unless rows of `tenant` are this context's own. `what` names the thing in the message."""
        if tenant == self.tenant or self.lifted:
            return
        if tenant is None:
            raise TenantForbidden(
                f"{what} is shared by all tenants and cannot be changed while tenant {self.tenant!r} is bound.",
                hint="Unbind the tenant first: ws.bind_tenant(None).",
            )
        raise TenantForbidden(f"{what} belongs to another scope than the one that is bound.")

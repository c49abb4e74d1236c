"""The tenant predicate: which rows a statement may read or change. Every statement over tenanted
rows starts here, and nowhere else.

A reader sees its own rows and the shared ones; without a bound tenant, only the shared ones. A
change touches own rows only; without a bound tenant the shared rows count as own. `all_tenants()`
lifts the predicate for one block (recovery, check, rebuild).

Statements are built once, at import; the bound tenant is passed as parameters
(`TenantPredicate.parameters`).
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from jammi_lab.catalog.schema import owner
from jammi_lab.core.errors import TenantForbidden
from jammi_lab.core.tenancy import TenantScope

S = TypeVar("S")
_UNRESTRICTED = sa.bindparam("scope_all", type_=sa.BigInteger) == sa.literal_column("1")
_TENANT = sa.bindparam("scope_tenant", type_=sa.Text)


def visible(table: Any) -> sa.ColumnElement[bool]:
    """Own and shared rows."""
    return sa.or_(_UNRESTRICTED, table.c.tenant_id.is_(None), table.c.tenant_id == _TENANT)


def owned_by_reader(table: Any) -> sa.ColumnElement[bool]:
    """Own rows; shared ones only when no tenant is bound."""
    return sa.or_(
        _UNRESTRICTED,
        owner(table) == sa.func.coalesce(_TENANT, sa.literal_column("''"), type_=sa.Text),
    )


def owned_by(table: Any, name: str = "owner") -> sa.ColumnElement[bool]:
    """Rows of exactly one owner, passed as the parameter `name`; `''` is shared. For the owner of a
    visible record."""
    return owner(table) == sa.bindparam(name, type_=sa.Text)


def referring_to(table: Any, name: str = "owner") -> sa.ColumnElement[bool]:
    """Rows that can refer to an object of the owner passed as `name`: that owner's own, and those
    of all tenants when the object is shared (`''`)."""
    return sa.or_(
        sa.bindparam(name, type_=sa.Text) == sa.literal_column("''"), owned_by(table, name)
    )


def own_first(table: Any) -> sa.ColumnElement[int]:
    """Sort own rows before shared ones."""
    return sa.case((table.c.tenant_id == _TENANT, 0), (table.c.tenant_id.is_(None), 1), else_=2)


def select(*columns: Any, tables: Any) -> sa.Select[Any]:
    """Read the rows that are visible in the table (or tables) of the statement."""
    return sa.select(*columns).where(*(visible(table) for table in _as_tuple(tables)))


def select_own(*columns: Any, tables: Any) -> sa.Select[Any]:
    """Read own rows."""
    return sa.select(*columns).where(*(owned_by_reader(table) for table in _as_tuple(tables)))


def select_owned_by(*columns: Any, tables: Any, name: str = "owner") -> sa.Select[Any]:
    """Read the rows of one owner, passed as the parameter `name`."""
    return sa.select(*columns).where(*(owned_by(table, name) for table in _as_tuple(tables)))


def select_referring_to(*columns: Any, tables: Any, name: str = "owner") -> sa.Select[Any]:
    """Read what can refer to an object of one owner, passed as the parameter `name`. When the
    object is shared, the owners of these rows must not be shown."""
    return sa.select(*columns).where(*(referring_to(table, name) for table in _as_tuple(tables)))


def update_owned_by(table: sa.Table) -> sa.Update:
    """Change rows of one owner."""
    return sa.update(table).where(owned_by(table))


def delete_owned_by(table: sa.Table) -> sa.Delete:
    """Delete rows of one owner."""
    return sa.delete(table).where(owned_by(table))


def update_any_owner(table: sa.Table) -> sa.Update:
    """Change rows of any owner, as the consequence of a change in another row."""
    return sa.update(table)


def select_all_tenants(*columns: Any) -> sa.Select[Any]:
    """Read the rows of all tenants, for results that must not depend on the bound tenant, such as
    whether a writer has left anything."""
    return sa.select(*columns)


def select_untenanted(table: sa.Table, *columns: Any) -> sa.Select[Any]:
    """Read a table whose rows belong to no tenant. Raises ValueError for any other."""
    return _without_tenant(table, sa.select(*columns))


def _without_tenant(table: sa.Table, statement: S) -> S:
    if "tenant_id" in table.c:
        raise ValueError(f"the rows of {table.name} have tenants")
    return statement


def tenant_parameters(tenant: str | None, **more: Any) -> dict[str, Any]:
    """The predicate's parameters for one tenant, whoever is bound: for the consequences of a record
    of that tenant."""
    return {"scope_all": 0, "scope_tenant": tenant, **more}


def _as_tuple(tables: Any) -> tuple[Any, ...]:
    return tables if isinstance(tables, tuple) else (tables,)


class TenantPredicate:
    """The bound tenant and the admin switch, as parameters of the catalog's statements."""

    def __init__(self, tenants: TenantScope) -> None:
        self._tenants = tenants
        self._unrestricted: contextvars.ContextVar[bool] = contextvars.ContextVar(
            "jammi_everyone", default=False
        )

    @property
    def tenant(self) -> str | None:
        """The tenant bound in this context."""
        return self._tenants.current

    @property
    def is_unrestricted(self) -> bool:
        """Whether `all_tenants()` is in force in this context."""
        return self._unrestricted.get()

    @contextlib.contextmanager
    def all_tenants(self) -> Iterator[None]:
        """See and change the rows of all tenants for one block, in this context only."""
        token = self._unrestricted.set(True)
        try:
            yield
        finally:
            self._unrestricted.reset(token)

    def parameters(self, **more: Any) -> dict[str, Any]:
        """The parameters of the predicates above, and `more`."""
        return {
            "scope_all": int(self._unrestricted.get()),
            "scope_tenant": self._tenants.current,
            **more,
        }

    def check_unbound(self, what: str) -> None:
        """Raise TenantForbidden while a tenant is bound. `what` names the object with all tenants'
        rows in the message."""
        if self.tenant is not None and not self.is_unrestricted:
            raise TenantForbidden(
                f"{what} includes the rows of all tenants and cannot be made while tenant "
                f"{self.tenant!r} is bound.",
                hint="Unbind the tenant first: ws.bind_tenant(None).",
            )

    def check_owner(self, tenant: str | None, what: str) -> None:
        """Raise TenantForbidden unless rows of `tenant` are this context's own. `what` names the
        object in the message."""
        if tenant == self.tenant or self.is_unrestricted:
            return
        if tenant is None:
            raise TenantForbidden(
                f"{what} is shared by all tenants and cannot be changed while tenant "
                f"{self.tenant!r} is bound.",
                hint="Unbind the tenant first: ws.bind_tenant(None).",
            )
        raise TenantForbidden(f"{what} belongs to another tenant than the bound one.")

"""The tenant predicate: conditions that say which rows a statement may read or change. Every
statement over tenanted rows has one, and makes no such condition of its own.

A reader sees its own rows and the shared ones; without a bound tenant, only the shared ones. A
change touches own rows only; without a bound tenant the shared rows count as own. `all_tenants()`
lifts the predicate for one block (recovery, check, rebuild).

Statements are constants; the bound tenant is passed as parameters (`TenantPredicate.parameters`).
Each function takes the name or the alias of a table.
"""

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from jammi_lab.core.errors import TenantForbidden
from jammi_lab.core.identifiers import fold
from jammi_lab.core.tenancy import TenantScope


def owner(table: str) -> str:
    """The owner of a row as a comparable text: '' is shared. The unique indexes use the same
    expression."""
    return f"coalesce({table}.tenant_id, '')"


def visible(table: str) -> str:
    """Own and shared rows."""
    return f"(:scope_all = 1 OR {table}.tenant_id IS NULL OR {table}.tenant_id = :scope_tenant)"


def owned_by_reader(table: str) -> str:
    """Own rows; shared ones only when no tenant is bound."""
    return f"(:scope_all = 1 OR {owner(table)} = coalesce(:scope_tenant, ''))"


def owned_by(table: str) -> str:
    """Rows of exactly one owner, passed as the parameter `owner`; `''` is shared. For the owner of
    a visible record."""
    return f"{owner(table)} = :owner"


def referring(table: str) -> str:
    """Rows that can refer to an object of the owner passed as `owner`: that owner's own, and those
    of all tenants when the object is shared (`''`); the owners of these must not be shown."""
    return f"(:owner = '' OR {owned_by(table)})"


def own_first(table: str) -> str:
    """Sort own rows before shared ones."""
    return (
        f"CASE WHEN {table}.tenant_id = :scope_tenant THEN 0 "
        f"WHEN {table}.tenant_id IS NULL THEN 1 ELSE 2 END"
    )


def tenant_parameters(tenant: str | None, **more: Any) -> dict[str, Any]:
    """The predicate's parameters for one tenant, whoever is bound: for the consequences of a record
    of that tenant."""
    return {"scope_all": 0, "scope_tenant": tenant, **more}


def owner_key(tenant: str | None, **more: Any) -> dict[str, Any]:
    """The parameters of `owned_by` and `referring`, for rows of this tenant."""
    return {"owner": tenant or "", **more}


def name_key(tenant: str | None, name: str) -> dict[str, Any]:
    """The owner and the folded name of a row."""
    return owner_key(tenant, fold=fold(name))


class Named(Protocol):
    """A record of something with a name and an owner."""

    @property
    def name(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...


N = TypeVar("N", bound=Named)


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

    def without_hidden(self, records: Iterable[N]) -> list[N]:
        """Records of one kind, without shared ones that own ones of the same name hide."""
        listed = list(records)
        own = {fold(record.name) for record in listed if record.tenant is not None}
        if self.is_unrestricted or not own:
            return listed
        return [each for each in listed if each.tenant is not None or fold(each.name) not in own]

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

"""The bound tenant, as a context variable: threads and tasks never see each other's."""

import contextlib
import contextvars
import re
from collections.abc import Callable

from jammi_lab.core.errors import NameInvalid

_TENANT_PATTERN = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")


def tenant_id(name: str) -> str:
    """The stored, lowercase form of a tenant's name. Raises NameInvalid for a name that is not
    allowed."""
    if not isinstance(name, str) or not _TENANT_PATTERN.fullmatch(name):
        excerpt = name[:80] if isinstance(name, str) else name
        raise NameInvalid(
            f"{excerpt!r} is not a valid tenant: use 1 to 64 characters of A–Z, a–z, "
            "0–9, _ and -, and do not begin with _.",
            name=str(name),
        )
    return name.lower()


class TenantScope:
    """The bound tenant of one workspace; `None` is the shared scope. A new thread starts without a
    tenant; tasks inherit it."""

    def __init__(self, tenant: str | None = None) -> None:
        self._bound: contextvars.ContextVar[str | None] = contextvars.ContextVar(
            "jammi_tenant", default=None
        )
        self._outer_tenants: contextvars.ContextVar[tuple[str | None, ...]] = (
            contextvars.ContextVar("jammi_tenant_outside", default=())
        )
        """The tenants bound before each open `use` block, the innermost last."""
        self.on_bind: Callable[[str | None], None] | None = None
        """Called after every `bind`. A notebook stores the tenant, because a cell with a top-level
        `await` runs in a copy of the context."""
        self.bind(tenant)

    @property
    def current(self) -> str | None:
        """The tenant bound in this context."""
        return self._bound.get()

    def bind(self, tenant: str | None) -> None:
        """Bind a tenant for the rest of this context. Raises NameInvalid."""
        self._bound.set(None if tenant is None else tenant_id(tenant))
        if self.on_bind is not None:
            self.on_bind(self.current)

    def resume(self, tenant: str | None) -> None:
        """Restore a tenant bound in another context, unless a `use` block is open in this one."""
        # An open block restores its own previous tenant when it ends.
        if not self._outer_tenants.get():
            self._bound.set(tenant)

    def use(self, tenant: str | None) -> "TenantContext":
        """A block with another bound tenant. The previous one is restored afterwards, also after an
        exception. The block can be re-entered and nested. Raises NameInvalid."""
        return TenantContext(self, None if tenant is None else tenant_id(tenant))

    def enter(self, tenant: str | None) -> None:
        """Bind a tenant until `leave`."""
        self._outer_tenants.set((*self._outer_tenants.get(), self._bound.get()))
        self._bound.set(tenant)

    def leave(self) -> None:
        """Restore the tenant bound before the latest `enter` in this context."""
        *outer, previous = self._outer_tenants.get() or (self._bound.get(),)
        self._outer_tenants.set(tuple(outer))
        self._bound.set(previous)


class TenantContext(contextlib.ContextDecorator):
    """Context manager and decorator that binds one tenant."""

    def __init__(self, scope: TenantScope, tenant: str | None) -> None:
        self._scope, self._tenant = scope, tenant

    def __enter__(self) -> None:
        self._scope.enter(self._tenant)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._scope.leave()

"""Whose rows are these: the bound tenant, as a context variable, so that threads and tasks never see each other's."""

import contextlib
import contextvars
import re
from collections.abc import Callable

from jammi_lab.errors import NameInvalid

_SHAPE = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")


def tenant_id(name: str) -> str:
    """The stored form of a tenant's name (two that differ only in case are one); NameInvalid for what no tenant may be called."""
    if not isinstance(name, str) or not _SHAPE.fullmatch(name):
        shown = name[:80] if isinstance(name, str) else name
        raise NameInvalid(
            f"{shown!r} cannot be a tenant: a tenant is 1 to 64 characters of A–Z, a–z, 0–9, _ and -, not beginning with _.", name=str(name)
        )
    return name.lower()


class TenantScope:
    """The bound tenant of one workspace; `None` is the shared scope. A new thread starts with no tenant, tasks inherit."""

    def __init__(self, tenant: str | None = None) -> None:
        self._bound: contextvars.ContextVar[str | None] = contextvars.ContextVar("jammi_tenant", default=None)
        self._outside: contextvars.ContextVar[tuple[str | None, ...]] = contextvars.ContextVar("jammi_tenant_outside", default=())
        """What was bound before each open block of `use`, the innermost last."""
        self.on_bind: Callable[[str | None], None] | None = None
        """Told of every `bind`; a notebook remembers it, because a cell with a top-level `await` runs in a copy of the context."""
        self.bind(tenant)

    @property
    def current(self) -> str | None:
        """The tenant bound in this context."""
        return self._bound.get()

    def bind(self, tenant: str | None) -> None:
        """Bind for the rest of this context. NameInvalid."""
        self._bound.set(None if tenant is None else tenant_id(tenant))
        if self.on_bind is not None:
            self.on_bind(self.current)

    def resume(self, tenant: str | None) -> None:
        """Bind again what was bound in another context, unless a block of `use` is open in this one."""
        if not self._outside.get():
            self._bound.set(tenant)

    def use(self, tenant: str | None) -> "Bound":
        """A block in which a tenant is bound; what was bound before comes back after it, also after an exception. It can be entered again, and inside
        of itself. NameInvalid."""
        return Bound(self, None if tenant is None else tenant_id(tenant))

    def enter(self, tenant: str | None) -> None:
        """Bind until `leave`."""
        self._outside.set((*self._outside.get(), self._bound.get()))
        self._bound.set(tenant)

    def leave(self) -> None:
        """Bind again what was bound before the `enter` that came last in this context."""
        *outside, before = self._outside.get() or (self._bound.get(),)
        self._outside.set(tuple(outside))
        self._bound.set(before)


class Bound(contextlib.ContextDecorator):
    """Blocks in which one tenant is bound."""

    def __init__(self, scope: TenantScope, tenant: str | None) -> None:
        self._scope, self._tenant = scope, tenant

    def __enter__(self) -> None:
        self._scope.enter(self._tenant)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._scope.leave()

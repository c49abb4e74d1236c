"""Whose rows are these: the bound tenant, as a context variable, so that threads and tasks never see each other's."""

import contextlib
import contextvars
import re
from collections.abc import Callable, Iterator

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
        self._blocks: contextvars.ContextVar[int] = contextvars.ContextVar("jammi_tenant_blocks", default=0)
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
        if self._blocks.get() == 0:
            self._bound.set(tenant)

    @contextlib.contextmanager
    def use(self, tenant: str | None) -> Iterator[None]:
        """Bind for one block; what was bound before comes back after it, also after an exception. NameInvalid."""
        bound = self._bound.set(None if tenant is None else tenant_id(tenant))
        block = self._blocks.set(self._blocks.get() + 1)
        try:
            yield
        finally:
            self._blocks.reset(block)
            self._bound.reset(bound)

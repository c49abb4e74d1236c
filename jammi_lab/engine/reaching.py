"""How connectors ask their sources: in the DuckDB instance of the tenant that is bound when they do."""

from collections.abc import Callable
from typing import Any, TypeVar

from jammi_lab.engine.session import Engine
from jammi_lab.sources.base import Asking, Attachment, Begun, Relation
from jammi_lab.tenancy import TenantScope

T = TypeVar("T")


class Reaching:
    """`sources.base.Reach` by an engine."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def __call__(self, needs: Relation | Attachment, work: Callable[[Asking], T], *, seconds: float | None = None) -> T:
        """What `work` returns; all that it asks is one transaction. As `Engine.reach`."""
        return self._engine.reach(needs, work, self._scope.current, seconds)

    def begin(self, needs: Relation | Attachment, work: Callable[[Asking], T], *, seconds: float | None = None) -> Begun[T]:
        """The same, begun and not waited for. As `Engine.begin`."""
        return self._engine.begin(needs, work, self._scope.current, seconds)

    def forget(self, key: str) -> None:
        """Detach what is attached under a key, in every tenant's instance."""
        self._engine.forget(key)

    @property
    def memory(self) -> dict[str, Any]:
        """What connectors keep about the instance of the bound tenant."""
        return self._engine.session(self._scope.current).attachments.memory

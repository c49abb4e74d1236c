"""A summary of the open workspace and its contents: the display of `ws` and of `%jammi`."""

from collections.abc import Callable

from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.forms import form
from jammi_lab.core.html import Rendered, vstack
from jammi_lab.features.live.mutable_handles import MutableTables
from jammi_lab.features.live.topics import Topics
from jammi_lab.freshness.reports import Status, count_recipes
from jammi_lab.store.reports import RecoveryReport
from jammi_lab.workspace.sources import Sources


def summarize(
    path: str,
    status: Status,
    sources: Sources,
    mutable: MutableTables,
    topics: Topics,
    recovery: RecoveryReport,
    others_near: Callable[[], str],
    *,
    tenant: str | None,
    read_only: bool,
    catalog_url: str,
) -> Rendered:
    """Summarize the location, contents and recovery of a workspace."""
    names = ", ".join(sources)
    facts = [
        ("tenant", tenant or ""),
        ("sources", names),
        ("tables", count_recipes(list(status)) if len(status) else ""),
        ("mutable", ", ".join(m.name for m in mutable)),
        ("topics", ", ".join(t.name for t in topics)),
        ("open", "read-only" if read_only else ""),
        ("catalog", catalog_url),
    ]
    is_empty = not (names or len(status) or len(mutable) or len(topics))
    add = cell_or_python("%jammi add NAME LOCATION", "ws.sources.add(name, location)")
    note = f"The workspace is empty: {add} registers a source." if is_empty else ""
    near = others_near() if is_empty else ""
    recovery_summary = recovery._rendered() if recovery else None
    return vstack(form(f"Workspace {path}", facts=facts, notes=[note, near]), recovery_summary)

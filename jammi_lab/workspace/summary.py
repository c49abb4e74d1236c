"""A summary of the open workspace and its contents: the display of `ws` and of `%jammi`."""

from typing import Any

from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.forms import form
from jammi_lab.core.html import Rendered, vstack
from jammi_lab.freshness.reports import count_recipes


def summarize(ws: Any) -> Rendered:
    """Summarize the location, contents and recovery of a workspace. Raises as `status`."""
    status, names, recovery = ws.status(), ", ".join(ws.sources), ws.recovery
    facts = [
        ("tenant", ws.current_tenant or ""),
        ("sources", names),
        ("tables", count_recipes(list(status)) if len(status) else ""),
        ("mutable", ", ".join(m.name for m in ws.mutable)),
        ("topics", ", ".join(t.name for t in ws.topics)),
        ("open", "read-only" if ws.read_only else ""),
        ("catalog", ws.settings["catalog.url"]),
    ]
    is_empty = not (names or len(status) or len(ws.mutable) or len(ws.topics))
    add = cell_or_python("%jammi add NAME LOCATION", "ws.sources.add(name, location)")
    note = f"The workspace is empty: {add} registers a source." if is_empty else ""
    near = ws._services.lookup.others_near() if is_empty else ""
    recovery_summary = recovery._rendered() if recovery else None
    return vstack(form(f"Workspace {ws.path}", facts=facts, notes=[note, near]), recovery_summary)

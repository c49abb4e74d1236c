"""A workspace at a glance: the folder, the tenant, and what is in it, from one look. What a notebook shows of `ws`, and `%jammi` in a cell."""

from typing import TYPE_CHECKING

from jammi_lab import forms
from jammi_lab.markup import Form, count, facts, plain, stack
from jammi_lab.values.verdicts import word

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


def at_a_glance(ws: "Workspace") -> Form:
    """Where one is, and what is here. Raises as `status`."""
    if ws._closed:
        return plain(repr(ws))
    status = ws.status()
    sources = ", ".join(ws.sources)
    held = [
        ("tenant", ws.current_tenant or ""),
        ("sources", sources),
        ("tables", f"{count(len(status), 'recipe')}: {forms.tally(word(r.verdict) for r in status)}" if len(status) else ""),
        ("mutable", ", ".join(m.name for m in ws.mutable)),
        ("topics", ", ".join(t.name for t in ws.topics)),
        ("open", "read-only" if ws.read_only else ""),
        ("catalog", ws.settings["catalog.url"]),
    ]
    settled = forms.recovery(ws.recovery) if ws.recovery else None
    empty = "" if sources or len(status) or len(ws.mutable) or len(ws.topics) else "Nothing here yet: %jammi add NAME LOCATION registers a source."
    return stack(facts(f"Workspace {ws.path}", held, note=empty), settled)

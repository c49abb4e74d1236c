"""The verdict notes of the table that a panel shows: whether it is up to date and the newest
version."""

from typing import TYPE_CHECKING

from jammi_lab.core.command_hints import command
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import Rendered, escape_invisible, plain_text, verdict_icon, vstack
from jammi_lab.core.verdicts import Fresh, marked_label, remarks_on

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace


def verdict_with_notes(ws: "Workspace", name: str, version: int | None) -> tuple[str, list[str]]:
    """The verdict's label and notes. The label is empty if the panel shows another version than the
    newest; there are no notes for a fresh table without grounds."""
    verdict = ws._services.freshness.current_verdicts([name]).get(name)
    if verdict is None or name not in ws:
        return "", [f"{escape_invisible(name)} no longer exists."]
    if (newest := ws.table(name).version) != version:
        return "", [
            (
                f"This is version {version} of {escape_invisible(name)}; version {newest} is "
                "available: click Refresh."
            )
        ]
    label = marked_label(verdict)
    remarks = "; ".join(map(escape_invisible, remarks_on(verdict)))
    if isinstance(verdict, Fresh) and not remarks:
        return label, []
    return label, [f"{escape_invisible(name)} is {label}: {remarks or command('why', name)}"]


def render_notes(ws: "Workspace", name: str, version: int | None) -> Rendered | None:
    """The notes above a static form if its table is not fresh. None if there are none or the
    verdict cannot be determined."""
    try:
        verdict, notes = verdict_with_notes(ws, name, version)
    except JammiError:
        return None
    return (
        vstack(*(verdict_icon(verdict, note) if verdict else plain_text(note) for note in notes))
        if notes
        else None
    )


def held_recipes(ws: "Workspace") -> dict[str, str]:
    """The recipes that are held, by folded name: since when, by whom and why."""
    holds = ws._services.catalog.holds.list()
    return {name: escape_invisible(str(hold)) for (_, name), hold in holds.items()}

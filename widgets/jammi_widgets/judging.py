"""What a panel says of the table that it shows: whether it is still true, and whether it is still the newest."""

from typing import TYPE_CHECKING

from jammi_lab.errors import JammiError
from jammi_lab.markup import Form, mark, plain, stack, visible
from jammi_lab.values.verdicts import Fresh, reasons_of, word

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace


def judged(ws: "Workspace", name: str, version: int | None) -> tuple[str, list[str]]:
    """The verdict as a word, empty when it is about other rows than those that are shown, and sentences: nothing when all is well."""
    verdict = ws._questions.verdicts_now([name]).get(name)
    if verdict is None or name not in ws:
        return "", [f"{visible(name)} is not there any more."]
    if (newest := ws.table(name).version) != version:
        return "", [f"This is version {version} of {visible(name)}; version {newest} is there: Refresh shows it."]
    if isinstance(verdict, Fresh):
        return word(verdict), []
    return word(verdict), [f"{visible(name)} is {word(verdict)}: {'; '.join(map(visible, reasons_of(verdict))) or 'see %jammi why'}"]


def noted(ws: "Workspace", name: str, version: int | None) -> Form | None:
    """What stands above a saved form: why its table is not to be taken as it is. None when it is, or when that cannot be told any more."""
    try:
        verdict, notes = judged(ws, name, version)
    except JammiError:
        return None
    return stack(*(mark(verdict, note) if verdict else plain(note) for note in notes)) if notes else None

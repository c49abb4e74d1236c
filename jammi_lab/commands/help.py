"""Help for the commands of a place: the list of all, one of them, or a flag."""

from collections.abc import Sequence

from jammi_lab.commands.table import CELL, LINE, STEP, Flag, Verb, commands
from jammi_lab.commands.words import near_commands
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.forms import form, listing_table
from jammi_lab.core.html import (
    VERDICT_MEANINGS,
    Rendered,
    ReprMixin,
    inline_code,
    plain_text,
    vstack,
)
from jammi_lab.core.packaged_tables import packaged_table

_NOTES = {
    LINE: "--help after a command shows its flags; Tab completes names.",
}
_NOTE = "--help after a command shows its flags."
_ALL, _VERDICTS = "all", "verdicts"


def help_words(magic: str) -> dict[str, list[Verb]]:
    """What help explains: each word with its command, or with those that have it as a flag."""
    cells = [CELL, STEP] if magic == LINE else []
    found = {verb.name: [verb] for verb in commands(magic) if verb.name}
    found |= {cell.magic.lstrip("%"): [cell] for cell in cells}
    for verb in cells or commands(magic):
        for flag in verb.flags:
            for spelling in flag.spellings:
                found.setdefault(spelling, []).append(verb)
    return found


class Help(ReprMixin):
    """Help for all commands of a place, or for one or for a flag. InvalidArgument when the word is
    unknown."""

    __slots__ = ("_magic", "_word")

    def __init__(self, word: str | None, magic: str = LINE) -> None:
        self._magic, self._word = magic, (word or "").lstrip("%")
        known = [*help_words(magic), _ALL, _VERDICTS] if word else []
        if word and self._word not in known:
            raise InvalidArgument(
                f"No help is available for {word!r}.",
                near=near_commands(magic, self._word, known),
                hint=packaged_table("suggestions")["%jammi"]["cells"].get(
                    self._word, f"{magic} help lists all commands."
                ),
            )

    def _rendered(self) -> Rendered:
        if self._word == _VERDICTS:
            return listing_table(["verdict", "meaning"], VERDICT_MEANINGS.items(), aligned="ll")
        if not self._word and self._magic == LINE:
            return _first_page()
        if self._word in ("", _ALL):
            cells = [CELL, STEP] if self._magic == LINE else []
            return vstack(_command_list(self._magic), *map(command_help, cells))
        verbs = help_words(self._magic)[self._word]
        if not self._word.startswith("-"):
            return command_help(verbs[0])
        return vstack(
            *(_flag_list(verb, [flag]) for verb in verbs if (flag := verb.flag(self._word)))
        )


def _first_page() -> Rendered:
    """The commands of a notebook by what they are for, a line for each chapter."""
    chapters: dict[str, list[str]] = {}
    for verb in commands(LINE):
        chapters.setdefault(verb.chapter, []).append(verb.name or LINE)
    return form(
        plain_text("%%jammi begins a cell of SQL; %%jammi -m NAME keeps its rows as a table."),
        facts=[(name.lower(), plain_text(" · ".join(names))) for name, names in chapters.items()],
        notes=[
            f"{LINE} status shows what is fresh, out of date, or cannot be told.",
            f"{LINE} help WORD explains a command, a flag or `{_VERDICTS}`.",
            f"{LINE} help {_ALL} lists what each command does.",
        ],
    )


def _command_list(magic: str) -> Rendered:
    rows: list[tuple[Rendered, Rendered]] = []
    chapter = ""
    for verb in commands(magic):
        if verb.chapter != chapter:
            chapter = verb.chapter
            rows.append((Rendered(f"<b>{chapter}</b>", f"· {chapter}"), plain_text("")))
        summary = verb.help.partition(". ")[0].rstrip(".")
        rows.append((inline_code(verb.synopsis), plain_text(f"{summary}.")))
    return listing_table(
        ["command", "description"],
        rows,
        aligned="ll",
        note=_NOTES.get(magic, _NOTE),
    )


def command_help(verb: Verb) -> Rendered:
    """How a command is written, and what it and its flags do."""
    return _flag_list(verb, verb.flags, note=verb.help)


def _flag_list(verb: Verb, flags: Sequence[Flag], note: str = "") -> Rendered:
    lines = [(flag.form, plain_text(flag.help)) for flag in flags]
    return form(inline_code(verb.usage), facts=lines, notes=[note])

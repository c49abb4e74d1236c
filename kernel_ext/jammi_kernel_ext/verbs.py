"""The verbs of `%jammi`, and how a line is parsed."""

from typing import Any

from jammi_kernel_ext.arguments import HELP_FLAGS, parse_words, split_words, wants_help
from jammi_kernel_ext.hints import unknown_verb_error
from jammi_lab.core.commands import COMMANDS, Verb

VERBS = tuple(verb for verb in COMMANDS if verb.magic == "%jammi")
VERB_NAMES = tuple(verb.name for verb in VERBS if verb.name)
_HELP_VERB = next(verb for verb in VERBS if verb.name == "help")


def parse_line(line: str) -> tuple[Verb, dict[str, Any]]:
    """Parse a `%jammi` line into its verb and the values by key. InvalidArgument carries the usage
    and near matches."""
    words = split_words(line)
    name = words[0] if words else ""
    if name in HELP_FLAGS:
        return _HELP_VERB, {"WORD": None}
    for verb in VERBS:
        if verb.name == name:
            return (
                (_HELP_VERB, {"WORD": name})
                if wants_help(words[1:])
                else (verb, parse_words(verb, words[1:]))
            )
    raise unknown_verb_error(words, VERB_NAMES)

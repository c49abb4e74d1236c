"""Completion in shells, by a script of their own: nothing of Python runs at a Tab."""

import shlex

from jammi_lab.commands.table import SHELL, commands

_SCRIPT = """\
[ -z "$ZSH_VERSION" ] || {{ autoload -U +X compinit bashcompinit && compinit -u && bashcompinit; }}
_jammi_lab() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    if [ "$COMP_CWORD" = 1 ]; then
        words={names}
    else
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ "$COMP_CWORD" = 1 ] || COMPREPLY+=($(compgen -f -- "$word"))
}}
complete -o filenames -F _jammi_lab {shell}
"""


def completion_script() -> str:
    """The script for bash and zsh: commands, their flags, and files."""
    verbs = commands(SHELL)
    cases = []
    for verb in verbs:
        spellings = [spelling for flag in verb.flags for spelling in flag.spellings]
        cases.append(f"        {verb.name}) words={shlex.quote(' '.join(spellings))} ;;")
    names = " ".join(verb.name for verb in verbs)
    return _SCRIPT.format(names=shlex.quote(names), cases="\n".join(cases), shell=SHELL)

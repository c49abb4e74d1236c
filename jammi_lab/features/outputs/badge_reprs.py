"""The freshness badge of a result: the tables that it read and that are not fresh."""

from collections.abc import Mapping, Sequence
from typing import Any

from jammi_lab.core.command_hints import command
from jammi_lab.core.html import (
    Rendered,
    bullet_list,
    cell,
    details,
    dim_text,
    inline_code,
    plain_text,
    verdict_icon,
    vstack,
)
from jammi_lab.core.reprs import is_repairable
from jammi_lab.core.verdicts import (
    Fresh,
    PossiblyStale,
    Verdict,
    reasons_of,
    remarks_on,
    verdict_label,
)

_NOTHING = Rendered("", "")
_MAX_BADGE_TABLES = 5
"""Tables named in a badge. Further ones are counted."""


def badge(verdicts: Mapping[str, Verdict], date: Rendered = _NOTHING) -> Rendered | None:
    """The freshness badge of a result: the tables that are not fresh, those with the same cause in
    one line with verdict and first reason, and the next command; and the grounds of each fresh one.
    None when there is nothing to show. `date`: when the verdicts were determined, shown at the end
    of a line."""
    grounds = [
        dim_text(f"{name} is {v}")
        for name, v in verdicts.items()
        if isinstance(v, Fresh) and remarks_on(v)
    ][:_MAX_BADGE_TABLES]
    not_fresh = [(n, v) for n, v in verdicts.items() if not isinstance(v, Fresh)]
    if not not_fresh:
        return vstack(*grounds[:-1], grounds[-1] + date) if grounds else None
    repairable = [n for n, v in not_fresh if is_repairable(v)]
    next_command = inline_code(
        command("recompute", *repairable[:_MAX_BADGE_TABLES])
        if repairable
        else command("why", not_fresh[0][0])
    )
    next_command += date
    groups = _groups_of_equal_causes(not_fresh)
    if len(groups) == 1:
        line = _badge_line(*groups[0], plain_text(" — ") + next_command)
        return vstack(line, *grounds) if grounds else line
    hidden_count = sum(len(names) for names, _ in groups[_MAX_BADGE_TABLES:])
    return vstack(
        *(_badge_line(names, value) for names, value in groups[:_MAX_BADGE_TABLES]),
        dim_text(f"and {hidden_count:,} more that are not fresh") if hidden_count > 0 else None,
        next_command,
        *grounds,
    )


def _groups_of_equal_causes(
    verdicts: Sequence[tuple[str, Verdict]],
) -> list[tuple[list[str], Verdict]]:
    """The tables with equal verdicts and root causes, whatever the paths to these, each with the
    verdict of the table that is nearest to the causes."""
    groups: dict[Any, list[tuple[str, Verdict]]] = {}
    for name, value in verdicts:
        groups.setdefault(_root_causes(value), []).append((name, value))
    return [
        ([name for name, _ in group], min((v for _, v in group), key=_path_length))
        for group in groups.values()
    ]


def _root_causes(value: Verdict) -> object:
    if not isinstance(value, PossiblyStale):
        return (verdict_label(value), tuple(reasons_of(value)))
    return ("possibly stale", tuple(sorted({(c.path[-1], str(c.reason)) for c in value.causes})))


def _path_length(value: Verdict) -> int:
    return sum(len(c.path) for c in value.causes) if isinstance(value, PossiblyStale) else 0


def _badge_line(
    names: Sequence[str], value: Verdict, next_command: Rendered | None = None
) -> Rendered:
    """Tables with one verdict: a line with the first reason that expands to all of them."""
    reasons = [r.removeprefix(f"{verdict_label(value)}: ") for r in reasons_of(value)]
    line = plain_text(f"{_name_list(names)} ") + verdict_icon(verdict_label(value))
    if reasons:
        line = line + plain_text(": ") + cell(reasons[0], html_cut=200, text_cut=120)
    if len(reasons) > 1:
        line = line + plain_text(f", and {len(reasons) - 1:,} more")
    line = line if next_command is None else line + next_command
    return (
        details(
            line,
            vstack(
                bullet_list(reasons),
                inline_code(command("why", names[0])) + dim_text(" shows details"),
            ),
        )
        if reasons
        else line
    )


def _name_list(names: Sequence[str]) -> str:
    """`a is`, `a, b are`, `a, b, c, d, e and 2 more are`."""
    shown = ", ".join(names[:_MAX_BADGE_TABLES])
    more = f" and {len(names) - _MAX_BADGE_TABLES:,} more" if len(names) > _MAX_BADGE_TABLES else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def unchecked_badge(names: Sequence[str], reason: str = "") -> Rendered:
    """The badge while the verdicts are unknown, or with the reason why they could not be
    determined."""
    icon = verdict_icon("undecidable", f"not checked: {reason}" if reason else "not checked yet")
    return (
        plain_text(f"{_name_list(names)} ")
        + icon
        + plain_text(" — ")
        + inline_code(command("why", names[0]))
    )

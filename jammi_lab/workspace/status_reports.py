"""The status of a workspace for continuous integration: JUnit XML and SARIF."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from jammi_lab.core import junit
from jammi_lab.core.checks import CheckRecord, CheckStatus, Severity
from jammi_lab.core.junit import Case
from jammi_lab.core.verdicts import Damaged, Fresh, MissingManifest, Stale, verdict_code
from jammi_lab.core.version import __version__
from jammi_lab.features.checks.results import CheckRow
from jammi_lab.freshness.reports import StatusRow

OLD = "old"
"""The finding on a table that is fresh and older than allowed."""
GROUNDS = "grounds"
"""The finding on a table that is fresh on grounds."""
CHECK = "check"
"""The finding on a check that does not pass on the newest version of its table, or is due."""
_RULES = {
    "stale": "The table is not the output of its definition over the current inputs.",
    "possibly_stale": "A table upstream is stale.",
    "undecidable": "The state of some input cannot be determined.",
    "missing_manifest": "No manifest records what the table was built from.",
    "damaged": "The files differ from those that were published.",
    GROUNDS: "The table is fresh as far as the listed grounds go.",
    OLD: "The table is fresh, and older than allowed.",
    CHECK: "Rows of the newest version do not pass a check, or it could not be run or is due.",
}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Finding:
    """What is wrong with one table."""

    name: str
    """The recipe, or the check."""
    rule: str
    """The verdict as an identifier, `grounds`, `old` or `check`."""
    message: str
    """One sentence."""
    is_error: bool
    """Whether the table is certainly wrong."""


def find_problems(
    rows: Iterable[StatusRow], max_age_seconds: float | None, *, strict: bool = False
) -> list[Finding]:
    """What is wrong with each table that has a problem: its verdict if it is not fresh, else its
    grounds if `strict`, else its age."""
    problems = (_find_problem(row, max_age_seconds, strict=strict) for row in rows)
    return [finding for finding in problems if finding is not None]


def _find_problem(row: StatusRow, max_age_seconds: float | None, *, strict: bool) -> Finding | None:
    message = f"{row.name} is {row.verdict}."
    if not isinstance(row.verdict, Fresh):
        is_error = isinstance(row.verdict, Stale | Damaged | MissingManifest)
        return Finding(row.name, verdict_code(row.verdict), message, is_error)
    if strict and row.grounds:
        return Finding(row.name, GROUNDS, message, is_error=False)
    if max_age_seconds is None or row.age is None or row.age <= max_age_seconds:
        return None
    message = f"{row.name} is fresh, and {row.age / 3600:,.1f} hours old."
    return Finding(row.name, OLD, message, is_error=False)


def find_failing_checks(
    results: Iterable[CheckRow], never_run: Iterable[CheckRecord], *, with_warnings: bool
) -> list[Finding]:
    """The checks that do not pass, or are due: passed on what is there no more, or were never run.
    Those that block, and `with_warnings` all others."""
    findings = []
    for row in results:
        if row.status != CheckStatus.PASS and (with_warnings or row.severity == Severity.BLOCK):
            findings.append(
                Finding(
                    row.check,
                    CHECK,
                    f"The check {row.check} on {row.table} is due: {row.verdict}."
                    if row.passes
                    else f"{row.table} fails the check {row.check}: {row.summary}.",
                    is_error=row.severity == Severity.BLOCK and not row.passes,
                )
            )
    for check in never_run:
        if with_warnings or check.severity is Severity.BLOCK:
            message = f"The check {check.name} on {check.recipe} is due: it was not run."
            findings.append(Finding(check.name, CHECK, message, is_error=False))
    return findings


def to_junit(
    rows: Iterable[StatusRow], checks: Iterable[CheckRow], findings: Iterable[Finding]
) -> str:
    """One test case for each table and for each check that was run or has a finding; the type of a
    failure is the rule of its finding."""
    findings = list(findings)
    checked = [row.check for row in checks] + [f.name for f in findings if f.rule == CHECK]
    names = [("status", row.name) for row in rows]
    names += [(CHECK, name) for name in dict.fromkeys(checked)]
    by_name = {
        (CHECK if finding.rule == CHECK else "status", finding.name): finding
        for finding in findings
    }
    cases = []
    for kind, name in names:
        finding = by_name.get((kind, name))
        cases.append(
            Case(kind, name)
            if finding is None
            else Case(kind, name, 0, "failure", finding.rule, finding.message)
        )
    return junit.to_junit("jammi-lab status", cases)


def to_sarif(findings: Iterable[Finding], location: str) -> str:
    """The findings as SARIF 2.1.0, at the location of the workspace."""
    rules = [{"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()]
    artifact = {"uri": quote(location, safe="/:")}
    results = [
        {
            "ruleId": finding.rule,
            "level": "error" if finding.is_error else "warning",
            "message": {"text": finding.message},
            "locations": [
                {
                    # GitHub shows no finding without a line.
                    "physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}},
                    "logicalLocations": [{"name": finding.name, "kind": "resource"}],
                }
            ],
            "partialFingerprints": {"table/v1": f"{finding.name}:{finding.rule}"},
        }
        for finding in findings
    ]
    driver = {"name": "jammi-lab", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    report = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"

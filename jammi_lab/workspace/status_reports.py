"""The status of a workspace for continuous integration: JUnit XML and SARIF."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from jammi_lab.core.verdicts import Damaged, Fresh, MissingManifest, Stale, verdict_code
from jammi_lab.core.version import __version__
from jammi_lab.freshness.reports import StatusRow
from jammi_lab.workspace.junit import to_xml_text

OLD = "old"
"""The finding on a table that is fresh and older than allowed."""
_RULES = {
    "stale": "The table is not the output of its definition over the current inputs.",
    "possibly_stale": "A table upstream is stale.",
    "undecidable": "The state of some input cannot be determined.",
    "missing_manifest": "No manifest records what the table was built from.",
    "damaged": "The files differ from those that were published.",
    OLD: "The table is fresh, and older than allowed.",
}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Finding:
    """What is wrong with one table."""

    name: str
    """The recipe."""
    rule: str
    """The verdict as an identifier, or `old`."""
    message: str
    """One sentence."""
    is_error: bool
    """Whether the table is certainly wrong."""


def find_problem(row: StatusRow, max_age_seconds: float | None) -> Finding | None:
    """What is wrong with a table: its verdict if it is not fresh, else its age; None if neither."""
    if not isinstance(row.verdict, Fresh):
        is_error = isinstance(row.verdict, Stale | Damaged | MissingManifest)
        message = f"{row.name} is {row.verdict}."
        return Finding(row.name, verdict_code(row.verdict), message, is_error)
    if max_age_seconds is None or row.age is None or row.age <= max_age_seconds:
        return None
    message = f"{row.name} is fresh, and {row.age / 3600:,.1f} hours old."
    return Finding(row.name, OLD, message, is_error=False)


def to_junit(rows: Iterable[StatusRow], max_age_seconds: float | None) -> str:
    """One test case for each table; a failure has the verdict, or `old`, as its type."""
    findings = [(row.name, find_problem(row, max_age_seconds)) for row in rows]
    suite = ElementTree.Element(
        "testsuite",
        name="jammi-lab status",
        tests=str(len(findings)),
        failures=str(sum(finding is not None for _, finding in findings)),
        errors="0",
    )
    for name, finding in findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname="status", name=to_xml_text(name), time="0"
        )
        if finding is not None:
            ElementTree.SubElement(
                case, "failure", type=finding.rule, message=to_xml_text(finding.message)
            )
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_sarif(rows: Iterable[StatusRow], max_age_seconds: float | None, location: str) -> str:
    """The tables with a problem as SARIF 2.1.0, at the location of the workspace."""
    findings = [f for row in rows if (f := find_problem(row, max_age_seconds)) is not None]
    rules = [{"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()]
    results = [
        {
            "ruleId": finding.rule,
            "level": "error" if finding.is_error else "warning",
            "message": {"text": finding.message},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": location}},
                    "logicalLocations": [{"name": finding.name, "kind": "resource"}],
                }
            ],
        }
        for finding in findings
    ]
    driver = {"name": "jammi-lab", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    report = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"

"""Results of checks as JUnit XML, which continuous integration shows as tests."""

import re
from xml.etree import ElementTree

from jammi_lab.core.checks import CheckOutcome
from jammi_lab.core.errors import JammiError
from jammi_lab.features.checks.results import CheckResults, CheckRow

_SAMPLE_ROWS = 5
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(results: CheckResults) -> str:
    """One test case for each check: a class for each table, a failure for rows that fail, with the
    first of them, and an error for a check that could not be run."""
    rows = list(results)
    outcomes = [row.outcome for row in rows]
    suite = ElementTree.Element(
        "testsuite",
        name="jammi-lab checks",
        tests=str(len(rows)),
        failures=str(outcomes.count(CheckOutcome.FAIL)),
        errors=str(outcomes.count(CheckOutcome.ERROR)),
        time=f"{sum(row.seconds for row in rows):.3f}",
    )
    for row in rows:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=to_xml_text(row.table),
            name=to_xml_text(row.check),
            time=f"{row.seconds:.3f}",
        )
        if not row.passes:
            kind = "failure" if row.outcome == CheckOutcome.FAIL else "error"
            problem = ElementTree.SubElement(
                case, kind, type=row.severity, message=to_xml_text(row.summary)
            )
            problem.text = to_xml_text(_details(row))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _details(row: CheckRow) -> str:
    lines = [row.previous] if row.previous else []
    if row.failing:
        try:
            lines += map(str, row.rows(_SAMPLE_ROWS).to_pylist())
        except JammiError as error:
            lines.append(error.message)
    return "\n".join(lines)


def to_xml_text(text: str) -> str:
    """A text with a substitute for each character that XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)

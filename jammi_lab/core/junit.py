"""JUnit XML, which continuous integration shows as tests."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case. Characters that XML cannot hold are replaced."""

    group: str
    name: str
    seconds: float = 0.0
    problem: str | None = None
    """failure, error or skipped; None when it passes."""
    type: str = ""
    """The type of the problem."""
    message: str = ""
    details: str = ""


def to_junit(title: str, cases: Sequence[Case]) -> str:
    """A suite of these cases."""
    problems = [case.problem for case in cases]
    suite = ElementTree.Element(
        "testsuite",
        name=title,
        tests=str(len(cases)),
        failures=str(problems.count("failure")),
        errors=str(problems.count("error")),
        skipped=str(problems.count("skipped")),
        time=f"{sum(case.seconds for case in cases):.3f}",
    )
    for case in cases:
        seconds = f"{case.seconds:.3f}"
        names = {"classname": _to_text(case.group), "name": _to_text(case.name), "time": seconds}
        element = ElementTree.SubElement(suite, "testcase", names)
        if case.problem is not None:
            problem = {"type": case.type, "message": _to_text(case.message)}
            ElementTree.SubElement(element, case.problem, problem).text = (
                _to_text(case.details) or None
            )
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _to_text(text: str) -> str:
    """A text with a substitute for each character that XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)

"""Which known names another one may have been meant to be."""

import pytest

from jammi_lab.core.identifiers import near_names


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("paper", ["papers", "venues"], ["papers"]),
        ("top", ["jammi.top", "tops"], ["jammi.top"]),
        ("PAPERS", ["papers"], ["papers"]),
        ("jammi.monthly", ["jammi.cust", "jammi.months", "jammi.buys"], ["jammi.months"]),
        ("jammi.clean_orders", ["jammi_catalog.anchors", "jammi_catalog.sources"], []),
        ("recompute.incr", ["recompute.incremental"], ["recompute.incremental"]),
        (
            "notes",
            ["notes"],
            [],
        ),  # it came since it was looked for: "did you mean notes?" helps nobody
        ("notes", ["notes", "note"], ["note"]),
    ],
)
def test_near_names_are_found_and_a_name_is_not_near_itself(
    name: str, known: list[str], found: list[str]
) -> None:
    assert near_names(name, known) == found

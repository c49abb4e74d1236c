"""Which known names another one may have been meant to be."""

import pytest

from jammi_lab.core.identifiers import near_names, near_tables


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("paper", ["papers", "venues"], ["papers"]),
        ("top", ["jammi.top", "tops"], ["jammi.top"]),
        ("tosp", ["jammi.tops", "jammi.venues"], ["jammi.tops"]),
        ("customer_sales", ["jammi.customer_sale"], ["jammi.customer_sale"]),
        ("PAPERS", ["papers"], ["papers"]),
        ("x.pq", ["x.parquet"], ["x.parquet"]),
        (
            "notes",
            ["notes"],
            [],
        ),  # it came since it was looked for: "did you mean notes?" helps nobody
        ("notes", ["notes", "note"], ["note"]),
    ],
)
def test_near_names_are_found_and_a_name_is_not_near_itself(name, known, found):
    assert near_names(name, known) == found


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("jammi.monthly", ["jammi.cust", "jammi.months", "jammi.buys"], ["jammi.months"]),
        ("jammi.clean_orders", ["jammi_catalog.anchors", "jammi_catalog.sources"], []),
        ("jammi.papers", ["papers"], ["papers"]),
        ("papres", ["papers", "jammi.top"], ["papers"]),
    ],
)
def test_tables_are_not_near_by_their_schema_alone(name, known, found):
    assert near_tables(name, known) == found

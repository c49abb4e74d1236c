"""Which known names another one may have been meant to be; which times a clock may tell."""

import pytest

from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names, near_tables
from tests.cases import cases


@pytest.mark.parametrize(
    ("name", "known", "found"),
    cases("prose/near_names", "name", "known", "found"),
)
def test_near_names_are_found_and_a_name_is_not_near_itself(name, known, found):
    assert near_names(name, known) == found


@pytest.mark.parametrize(
    ("name", "known", "found"),
    cases("prose/near_tables", "name", "known", "found"),
)
def test_tables_are_not_near_by_their_schema_alone(name, known, found):
    assert near_tables(name, known) == found


@pytest.mark.parametrize("year", [0, 10_000, 10**12])
def test_a_clock_that_python_cannot_tell_is_a_typed_error(year):
    with pytest.raises(InvalidArgument, match="The clock of this machine"):
        rfc3339((year - 1970) * 31_556_952 * 10**9)
